/* See turned_away.h. The answer goes out when something was asked, for a client may take one that comes before as a fault. */
#include "lwip/opt.h"
#include "turned_away.h"
#include "shoal.h"

#define POLLS_MOST 2u /* of a second each */

static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

static struct turned {
  bool used, answered;
  uint8_t polls;
} all[TURNED_AWAY_MOST];

static err_t leave(struct turned *one, struct tcp_pcb *pcb, bool in_order) {
  one->used = false;
  tcp_arg(pcb, NULL);
  tcp_recv(pcb, NULL);
  tcp_err(pcb, NULL);
  tcp_poll(pcb, NULL, 0);
  if (in_order && tcp_close(pcb) == ERR_OK) return ERR_OK;
  tcp_abort(pcb);
  return ERR_ABRT;
}

static err_t on_recv(void *context, struct tcp_pcb *pcb, struct pbuf *data, err_t error) {
  struct turned *one = context;
  (void)error;
  if (data == NULL) return leave(one, pcb, true);
  tcp_recved(pcb, data->tot_len);
  pbuf_free(data);
  if (one->answered) return ERR_OK;
  one->answered = true;
  /* By reference: it is always there. */
  if (tcp_write(pcb, answer, sizeof answer - 1, 0) != ERR_OK || tcp_shutdown(pcb, 0, 1) != ERR_OK) return leave(one, pcb, false);
  return ERR_OK;
}

static void on_error(void *context, err_t error) {
  (void)error;
  ((struct turned *)context)->used = false;
}

static err_t on_poll(void *context, struct tcp_pcb *pcb) {
  struct turned *one = context;
  return ++one->polls < POLLS_MOST ? ERR_OK : leave(one, pcb, false);
}

bool turned_away(struct tcp_pcb *pcb) {
  for (struct turned *one = all; one < all + TURNED_AWAY_MOST; one++) {
    if (one->used) continue;
    *one = (struct turned){.used = true};
    tcp_arg(pcb, one);
    tcp_recv(pcb, on_recv);
    tcp_err(pcb, on_error);
    tcp_poll(pcb, on_poll, 2);
    return true;
  }
  return false;
}
