/* A viewer's body on its way to the origin, as far as both have room. */
#include "fetch.h"

#define SPARE_BYTES 64u

static bool write_bytes(struct fetch *fetch, const char *bytes, size_t length) {
  return tcp_write(fetch->pcb, bytes, (u16_t)length, TCP_WRITE_FLAG_COPY) == ERR_OK;
}

static bool write_content(struct fetch *fetch, const struct http_body *body, const char *data, size_t length) {
  char line[16];
  if (length == 0) return true;
  if (body->framing != FRAMING_CHUNKED) return write_bytes(fetch, data, length);
  size_t size = shoal_format(line, sizeof line, "%x\r\n", (unsigned)length);
  return write_bytes(fetch, line, size) && write_bytes(fetch, data, length) && write_bytes(fetch, "\r\n", 2);
}

void fetch_input(struct viewer *viewer) {
  struct fetch *fetch = viewer->fetch;
  if (fetch == NULL || fetch->relay != viewer || fetch->body_sent_whole || fetch->state < FETCH_HEAD || fetch->pcb == NULL) return;
  while (viewer->input != NULL && !http_body_done(&viewer->body)) {
    const char *bytes = (const char *)viewer->input->payload + viewer->input_at, *data;
    size_t left = viewer->input->len - viewer->input_at, room = tcp_sndbuf(fetch->pcb), length;
    if (room < 4 * SPARE_BYTES || tcp_sndqueuelen(fetch->pcb) + 16 > TCP_SND_QUEUELEN) break;
    if (left > room - SPARE_BYTES) left = room - SPARE_BYTES;
    int64_t taken = http_body_take(&viewer->body, bytes, left, &data, &length);
    if (taken < 0 || !write_content(fetch, &viewer->body, data, length)) {
      viewer_kill(viewer);
      return;
    }
    viewer_consume(viewer, (size_t)taken);
  }
  if (http_body_done(&viewer->body)) {
    if (viewer->body.framing == FRAMING_CHUNKED && !write_bytes(fetch, "0\r\n\r\n", 5)) viewer_kill(viewer);
    fetch->body_sent_whole = true;
  } else if (viewer->remote_closed && viewer->input == NULL) {
    viewer_kill(viewer); /* it will not come whole */
  } else if (viewer->input == NULL && !fetch->said_continue && viewer->state == VIEWER_WAITING && http_has(&viewer->request, FIELD_EXPECT) && viewer->request.minor > 0) {
    fetch->said_continue = true;
    viewer_write(viewer, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    tcp_output(viewer->pcb);
  }
  tcp_output(fetch->pcb);
}
