/* Connections to the origin that wait for their next exchange. An origin that closes one, or says anything on it, ends it. */
#include "fetch.h"

#define IDLE_MOST 32u
#define IDLE_SECONDS 4u /* less than what common origins allow (5) */

static struct idle {
  struct tcp_pcb *pcb;
  uint64_t since_ms;
} idle[IDLE_MOST];

static void clear(struct tcp_pcb *pcb) {
  tcp_arg(pcb, NULL);
  tcp_recv(pcb, NULL);
  tcp_sent(pcb, NULL);
  tcp_err(pcb, NULL);
  tcp_poll(pcb, NULL, 0);
}

static err_t drop(struct idle *slot) {
  struct tcp_pcb *pcb = slot->pcb;
  slot->pcb = NULL;
  clear(pcb);
  if (tcp_close(pcb) == ERR_OK) return ERR_OK;
  tcp_abort(pcb);
  return ERR_ABRT;
}

static err_t on_recv(void *context, struct tcp_pcb *pcb, struct pbuf *data, err_t error) {
  (void)pcb, (void)error;
  if (data != NULL) pbuf_free(data);
  return drop(context);
}

static void on_error(void *context, err_t error) {
  (void)error;
  ((struct idle *)context)->pcb = NULL;
}

static err_t on_poll(void *context, struct tcp_pcb *pcb) {
  struct idle *slot = context;
  (void)pcb;
  return clock_ms() - slot->since_ms > IDLE_SECONDS * 1000 ? drop(slot) : ERR_OK;
}

struct tcp_pcb *origin_take(void) {
  struct idle *latest = NULL;
  for (unsigned i = 0; i < IDLE_MOST; i++) {
    if (idle[i].pcb != NULL && (latest == NULL || idle[i].since_ms > latest->since_ms)) latest = &idle[i];
  }
  if (latest == NULL) return NULL;
  struct tcp_pcb *pcb = latest->pcb;
  latest->pcb = NULL;
  clear(pcb);
  return pcb;
}

void origin_keep(struct tcp_pcb *pcb) {
  struct idle *slot = idle;
  clear(pcb);
  while (slot < idle + IDLE_MOST && slot->pcb != NULL) slot++;
  if (slot == idle + IDLE_MOST) {
    if (tcp_close(pcb) != ERR_OK) tcp_abort(pcb);
    return;
  }
  *slot = (struct idle){pcb, clock_ms()};
  tcp_arg(pcb, slot);
  tcp_recv(pcb, on_recv);
  tcp_err(pcb, on_error);
  tcp_poll(pcb, on_poll, 2);
}
