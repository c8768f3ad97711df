/* See viewer.h. */
#include "viewer.h"
#include "allowance.h"
#include "fetch.h"
#include "log.h"
#include "respond.h"
#include "serve.h"
#include "turned_away.h"

#define HEAD_SECONDS 10u   /* for a whole head, from its first byte */
#define STALL_SECONDS 30u  /* without an acknowledgement */
#define LINGER_SECONDS 2u  /* after our last byte, for the client to have read it */
#define ANSWERED_MS 100u   /* so long a connection keeps its place before others, after an answer */
#define NEW_MS 1000u       /* and before its first request, or in the midst of one */
#define HELD_INPUT_MOST 65536u

static struct viewer *viewers, *free_viewers;
static char *free_buffers; /* linked by their first word */

bool viewers_open(void) {
  uint32_t count = cache.settings.connections, buffers = 8 + count / 16;
  viewers = shoal_alloc(count * sizeof *viewers);
  char *memory = shoal_alloc((size_t)buffers * HTTP_HEAD_BYTES);
  if (viewers == NULL || memory == NULL) return false;
  for (uint32_t i = 0; i < count; i++) {
    viewers[i].next = free_viewers;
    viewers[i].pcb = NULL;
    free_viewers = &viewers[i];
  }
  for (uint32_t i = 0; i < buffers; i++) buffer_return(memory + (size_t)i * HTTP_HEAD_BYTES);
  return true;
}

char *buffer_borrow(void) {
  char *buffer = free_buffers;
  if (buffer != NULL) memcpy(&free_buffers, buffer, sizeof free_buffers);
  return buffer;
}

void buffer_return(char *buffer) {
  memcpy(buffer, &free_buffers, sizeof free_buffers);
  free_buffers = buffer;
}

static void new_head(struct viewer *viewer) {
  if (viewer->borrowed != NULL) buffer_return(viewer->borrowed);
  viewer->borrowed = NULL;
  viewer->gather = (struct http_gather){.buffer = viewer->head, .capacity = VIEWER_HEAD_BYTES};
}

/* Everything but the connection itself. */
static void let_go(struct viewer *viewer) {
  struct tcp_pcb *pcb = viewer->pcb;
  if (viewer->counted) serve_count(viewer);
  fetch_forget(viewer);
  sending_end(viewer);
  allowance_end(viewer);
  for (; viewer->pieces_count > 0; viewer->pieces_count--) {
    struct piece *piece = &viewer->pieces[viewer->pieces_first++ % VIEWER_PIECES];
    if (piece->chunk != NULL) chunk_release(piece->chunk);
  }
  if (viewer->input != NULL) pbuf_free(viewer->input);
  new_head(viewer);
  viewer->input = NULL;
  viewer->pcb = NULL;
  if (pcb != NULL) {
    tcp_arg(pcb, NULL);
    tcp_recv(pcb, NULL);
    tcp_sent(pcb, NULL);
    tcp_err(pcb, NULL);
    tcp_poll(pcb, NULL, 0);
  }
  viewer->next = free_viewers;
  free_viewers = viewer;
  cache.viewers--;
}

/* lwIP would go on to refer to chunks after this: only a connection that owes nothing is closed in order. */
static err_t end(struct viewer *viewer) {
  struct tcp_pcb *pcb = viewer->pcb;
  bool owes = viewer->pieces_count > 0 || viewer->dead;
  let_go(viewer);
  if (!owes && tcp_close(pcb) == ERR_OK) return ERR_OK;
  tcp_abort(pcb);
  return ERR_ABRT;
}

void viewer_kill(struct viewer *viewer) { viewer->dead = true; }

static uint32_t room_for(const struct viewer *viewer, uint32_t segments_most) {
  uint32_t room = tcp_sndbuf(viewer->pcb), queued = tcp_sndqueuelen(viewer->pcb);
  uint32_t segments = queued + 16 >= TCP_SND_QUEUELEN ? 0 : (TCP_SND_QUEUELEN - queued - 16) / 2;
  if (segments > segments_most) segments = segments_most;
  if (viewer->pieces_count + 4 > VIEWER_PIECES || segments == 0) return 0;
  if (room > segments * TCP_MSS) room = segments * TCP_MSS;
  return room > 256 ? room - 256 : 0;
}

uint32_t viewer_room(const struct viewer *viewer) {
  return room_for(viewer, allowance_of(viewer) / (viewer->state == VIEWER_RELAYING ? ALLOWANCE_COPIED_BYTES : ALLOWANCE_SEGMENT_BYTES));
}

static bool has_room_for_head(const struct viewer *viewer) { return room_for(viewer, TCP_SND_QUEUELEN) >= HTTP_HEAD_BYTES; }

static void add_piece(struct viewer *viewer, struct chunk *chunk, uint32_t length) {
  if (chunk == NULL) viewer->copied += length;
  allowance_note(viewer);
  if (viewer->pieces_count > 0) {
    struct piece *last = &viewer->pieces[(viewer->pieces_first + viewer->pieces_count - 1u) % VIEWER_PIECES];
    if (chunk == NULL && last->chunk == NULL) {
      last->bytes += length;
      return;
    }
  }
  if (viewer->pieces_count == VIEWER_PIECES) shoal_panic("viewer: too many pieces");
  viewer->pieces[(viewer->pieces_first + viewer->pieces_count++) % VIEWER_PIECES] = (struct piece){chunk, length};
}

bool viewer_try_write(struct viewer *viewer, const char *bytes, size_t length) {
  if (viewer->dead || length == 0) return !viewer->dead;
  if (tcp_write(viewer->pcb, bytes, (u16_t)length, TCP_WRITE_FLAG_COPY) != ERR_OK) return false;
  add_piece(viewer, NULL, (uint32_t)length);
  viewer->sent += length;
  return true;
}

bool viewer_write(struct viewer *viewer, const char *bytes, size_t length) {
  if (!viewer_try_write(viewer, bytes, length)) viewer_kill(viewer);
  return !viewer->dead;
}

bool viewer_write_chunk(struct viewer *viewer, struct chunk *chunk, uint32_t length, bool more) {
  if (viewer->dead || tcp_write(viewer->pcb, chunk->data, (u16_t)length, more ? TCP_WRITE_FLAG_MORE : 0) != ERR_OK) return false;
  add_piece(viewer, chunk, length);
  viewer->sent += length;
  return true;
}

void viewer_consume(struct viewer *viewer, size_t length) {
  struct pbuf *part = viewer->input;
  tcp_recved(viewer->pcb, (u16_t)length);
  viewer->input_at = (uint16_t)(viewer->input_at + length);
  if (viewer->input_at < part->len) return;
  viewer->input = part->next;
  viewer->input_at = 0;
  if (part->next != NULL) pbuf_ref(part->next);
  pbuf_free(part);
}

/* Feeds what came to the head. True: it is whole, or refused. */
static bool take_head(struct viewer *viewer) {
  while (viewer->input != NULL) {
    struct pbuf *part = viewer->input;
    size_t taken, left = part->len - viewer->input_at;
    if (viewer->gather.length == 0) viewer->started_ms = clock_ms();
    enum http_result result = http_gather(&viewer->gather, (const char *)part->payload + viewer->input_at, left, &taken);
    viewer_consume(viewer, taken);
    if (result == HTTP_DONE) {
      serve_request(viewer, http_read_request(&viewer->request, viewer->gather.buffer, viewer->gather.length));
      return true;
    }
    if (result == HTTP_LONG) {
      char *longer = viewer->borrowed == NULL ? buffer_borrow() : NULL;
      if (longer == NULL) {
        struct slice head = {viewer->gather.buffer, viewer->gather.length};
        bool line_only = slice_find(head, '\n') == head.length;
        serve_request(viewer, viewer->borrowed == NULL ? 503 : line_only ? 414 : 431);
        return true;
      }
      memcpy(longer, viewer->head, viewer->gather.length);
      viewer->borrowed = viewer->gather.buffer = longer;
      viewer->gather.capacity = HTTP_HEAD_BYTES;
    }
  }
  return false;
}

static void discard_input(struct viewer *viewer) {
  if (viewer->input == NULL) return;
  tcp_recved(viewer->pcb, (u16_t)(viewer->input->tot_len - viewer->input_at));
  pbuf_free(viewer->input);
  viewer->input = NULL;
  viewer->input_at = 0;
}

void viewer_finish(struct viewer *viewer) {
  viewer->answered = true;
  if (viewer->counted) serve_count(viewer);
  sending_end(viewer);
  bool body_left = !http_body_done(&viewer->body);
  viewer->alone = false;
  new_head(viewer);
  viewer->state = viewer->keep_alive && !viewer->remote_closed && !body_left ? VIEWER_READING : VIEWER_CLOSING;
}

static void advance(struct viewer *viewer) {
  while (!viewer->dead) {
    switch (viewer->state) {
      case VIEWER_READING:
        /* The next answer starts when there is room for its head at once. */
        if (!has_room_for_head(viewer)) return;
        if (!take_head(viewer)) {
          if (viewer->remote_closed) viewer->state = VIEWER_CLOSING;
          else return;
        }
        break;
      case VIEWER_SENDING:
        if (!sending_pump(viewer)) return;
        viewer_finish(viewer);
        break;
      case VIEWER_CLOSING:
        discard_input(viewer);
        if (!viewer->shut && tcp_shutdown(viewer->pcb, 0, 1) != ERR_OK) viewer_kill(viewer);
        viewer->shut = true;
        return;
      default: return; /* a fetch calls */
    }
  }
}

static bool is_over(const struct viewer *viewer) {
  return viewer->dead || (viewer->state == VIEWER_CLOSING && viewer->remote_closed && viewer->pieces_count == 0);
}

void viewer_run(struct viewer *viewer) {
  if (viewer->running || viewer->pcb == NULL) return; /* the frame above goes on */
  viewer->running = true;
  advance(viewer);
  viewer->running = false;
  if (is_over(viewer)) end(viewer);
  else tcp_output(viewer->pcb);
}

/* The same in lwIP's callbacks, which sends by itself and must be told of an abort. */
static err_t run_in_callback(struct viewer *viewer) {
  viewer->running = true;
  advance(viewer);
  viewer->running = false;
  return is_over(viewer) ? end(viewer) : ERR_OK;
}

static err_t on_recv(void *context, struct tcp_pcb *pcb, struct pbuf *data, err_t error) {
  struct viewer *viewer = context;
  (void)error;
  if (data == NULL) {
    viewer->remote_closed = true;
    if (viewer->state == VIEWER_WAITING || viewer->state == VIEWER_RELAYING) fetch_input(viewer);
    return run_in_callback(viewer);
  }
  if (viewer->state == VIEWER_READING) viewer->progress_ms = clock_ms();
  if (viewer->state == VIEWER_CLOSING) {
    tcp_recved(pcb, data->tot_len);
    pbuf_free(data);
    return ERR_OK;
  }
  if (viewer->input == NULL) viewer->input = data, viewer->input_at = 0;
  else if (viewer->input->tot_len + data->tot_len > HELD_INPUT_MOST - 1) pbuf_free(data), viewer_kill(viewer);
  else pbuf_cat(viewer->input, data);
  if (viewer->state == VIEWER_WAITING || viewer->state == VIEWER_RELAYING) fetch_input(viewer);
  return run_in_callback(viewer);
}

static err_t on_sent(void *context, struct tcp_pcb *pcb, u16_t length) {
  struct viewer *viewer = context;
  uint32_t left = length;
  (void)pcb;
  while (left > 0 && viewer->pieces_count > 0) {
    struct piece *piece = &viewer->pieces[viewer->pieces_first];
    uint32_t count = piece->bytes < left ? piece->bytes : left;
    piece->bytes -= count;
    left -= count;
    if (piece->chunk == NULL) viewer->copied -= count;
    if (piece->bytes > 0) break;
    if (piece->chunk != NULL) chunk_release(piece->chunk);
    viewer->pieces_first = (uint8_t)((viewer->pieces_first + 1u) % VIEWER_PIECES);
    viewer->pieces_count--;
  }
  allowance_note(viewer);
  viewer->progress_ms = clock_ms();
  if (viewer->state == VIEWER_RELAYING) fetch_room(viewer);
  return run_in_callback(viewer);
}

/* lwIP has freed the connection already. */
static void on_error(void *context, err_t error) {
  struct viewer *viewer = context;
  (void)error;
  viewer->pcb = NULL;
  let_go(viewer);
}

static err_t on_poll(void *context, struct tcp_pcb *pcb) {
  struct viewer *viewer = context;
  uint64_t now = clock_ms(), quiet = now - viewer->progress_ms;
  bool owes = viewer->pieces_count > 0;
  (void)pcb;
  bool late = false;
  switch (viewer->state) {
    case VIEWER_READING:
      late = viewer->gather.length > 0 ? now - viewer->started_ms > HEAD_SECONDS * 1000 : quiet > cache.settings.idle_seconds * 1000ull;
      if (late && viewer->gather.length == 0 && !owes) {
        viewer->state = VIEWER_CLOSING;
        viewer->progress_ms = now;
        return run_in_callback(viewer);
      }
      if (late && viewer->gather.length > 0 && has_room_for_head(viewer)) {
        cache.metrics.timeouts++;
        serve_request(viewer, 408);
        return run_in_callback(viewer);
      }
      break;
    case VIEWER_WAITING: /* a fetch has its own limits */
      if (viewer->queued && now - viewer->started_ms > cache.settings.hold_seconds * 1000ull) {
        fetch_forget(viewer);
        respond_status(viewer, 503, SLICE("Retry-After: 1\r\n"));
      }
      break;
    case VIEWER_CLOSING:
      if (quiet > LINGER_SECONDS * 1000 && !owes) viewer->remote_closed = true;
      late = owes && quiet > STALL_SECONDS * 1000;
      break;
    case VIEWER_RELAYING: fetch_room(viewer); /* there may be memory again */ /* fall through */
    default: late = owes && quiet > STALL_SECONDS * 1000; break;
  }
  if (late) cache.metrics.timeouts++, viewer_kill(viewer);
  return run_in_callback(viewer);
}

/*
 * For a new client when all places are taken: the connection that has been quiet longest between two requests. Players keep one to each of many caches, of which each is
 * quiet for most of two seconds; one that has not asked for anything yet may be far away.
 */
static void make_place(void) {
  struct viewer *idlest = NULL;
  for (uint32_t i = 0; i < cache.settings.connections; i++) {
    struct viewer *one = &viewers[i];
    bool idle = one->pcb != NULL && (one->state == VIEWER_READING || one->state == VIEWER_CLOSING) && one->pieces_count == 0 && !one->running;
    if (!idle || clock_ms() - one->progress_ms < (one->answered && one->gather.length == 0 ? ANSWERED_MS : NEW_MS)) continue;
    if (idlest == NULL || one->progress_ms < idlest->progress_ms) idlest = one;
  }
  if (idlest == NULL) return;
  viewer_kill(idlest);
  end(idlest);
}

static err_t on_accept(void *context, struct tcp_pcb *pcb, err_t error) {
  if (error != ERR_OK || pcb == NULL) return ERR_VAL;
  if (free_viewers == NULL) make_place();
  struct viewer *viewer = free_viewers;
  if (viewer == NULL) {
    cache.metrics.refused++;
    if (turned_away(pcb)) return ERR_OK;
    tcp_abort(pcb);
    return ERR_ABRT;
  }
  free_viewers = viewer->next;
  memset(viewer, 0, offsetof(struct viewer, request));
  viewer->admin = context != NULL;
  viewer->pcb = pcb;
  viewer->progress_ms = clock_ms();
  new_head(viewer);
  cache.viewers++;
  cache.metrics.accepted++;
  tcp_nagle_disable(pcb);
  tcp_arg(pcb, viewer);
  tcp_recv(pcb, on_recv);
  tcp_sent(pcb, on_sent);
  tcp_err(pcb, on_error);
  tcp_poll(pcb, on_poll, 2);
  return ERR_OK;
}

bool viewers_listen(uint16_t port, bool admin) {
  struct tcp_pcb *pcb = tcp_new_ip_type(IPADDR_TYPE_ANY);
  if (pcb == NULL || tcp_bind(pcb, IP_ANY_TYPE, port) != ERR_OK) return false;
  pcb = tcp_listen_with_backlog(pcb, 255);
  if (pcb == NULL) return false;
  tcp_arg(pcb, admin ? (void *)&cache : NULL);
  tcp_accept(pcb, on_accept);
  return true;
}
