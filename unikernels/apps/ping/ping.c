/*
 * The smallest useful guest: answers ICMP echo (lwIP does), and `GET /` on port 80 with what it is. It shows how an application
 * is written, and tests and benchmarks boot it by the thousand.
 *
 * Words on the command line: crash=null|assert|hang|scribble|flood misbehaves on purpose, for tests of the host around it.
 * warm=N (at most 100000) does N thousand rounds of arithmetic before it answers, like a service that is slow to start, and tells the
 * result as `warm`: a copy of such a guest has it without the work.
 */
#include "http.h"
#include "lwip/tcp.h"

#define PORT 80
#define MOST_CONNECTIONS 32u
#define BACKLOG 16
/* lwIP polls a connection every half second; one that says nothing for ten is cut off. */
#define IDLE_POLLS 20
#define RESPONSE_BYTES 768u

struct connection {
  struct http_request request;
};

/* Rounds of warm=, and the value that they come to. */
#define WARM_MOST 100000u
#define WARM_ROUNDS 1000u

static unsigned connection_count;
static uint64_t warm;

static void warm_up(void) {
  const char *given = shoal_config("warm");
  unsigned thousands = 0;
  for (; given != NULL && *given >= '0' && *given <= '9' && thousands <= WARM_MOST; given++) thousands = thousands * 10 + (unsigned)(*given - '0');
  if (thousands > WARM_MOST) thousands = WARM_MOST;
  if (thousands == 0) return;
  warm = 1;
  for (uint64_t i = 0; i < (uint64_t)thousands * WARM_ROUNDS; i++) {
    /* xorshift64: a full period, so never 0 */
    warm ^= warm << 13;
    warm ^= warm >> 7;
    warm ^= warm << 17;
  }
}

static void let_go(struct tcp_pcb *pcb, struct connection *connection) {
  tcp_arg(pcb, NULL);
  tcp_recv(pcb, NULL);
  tcp_err(pcb, NULL);
  tcp_poll(pcb, NULL, 0);
  shoal_free(connection);
  connection_count--;
}

/* Closes in order; where there is no memory even for that, at once. */
static err_t finish(struct tcp_pcb *pcb, struct connection *connection) {
  let_go(pcb, connection);
  if (tcp_close(pcb) == ERR_OK) return ERR_OK;
  tcp_abort(pcb);
  return ERR_ABRT;
}

/* The name goes into JSON: what would need escaping is left out. */
static void describe(char *buffer, size_t size_bytes) {
  char name[64];
  size_t length = 0;
  const char *given = shoal_config("name");
  for (; given != NULL && *given != '\0' && length < sizeof name - 1; given++) {
    if (*given > ' ' && *given < 0x7f && *given != '"' && *given != '\\') name[length++] = *given;
  }
  name[length] = '\0';
  unsigned long long uptime_ms = shoal_now_ns() / 1000000;
  shoal_format(buffer, size_bytes, "{\"name\":\"%s\",\"image\":\"%s\",\"version\":\"%s\",\"uptimeMs\":%llu,\"warm\":%llu}", name,
               shoal_app.name, shoal_app.version, uptime_ms, (unsigned long long)warm);
}

static err_t answer(struct tcp_pcb *pcb, struct connection *connection, enum http_result result) {
  char root[256], response[RESPONSE_BYTES];
  describe(root, sizeof root);
  size_t length = http_respond(&connection->request, result, root, response, sizeof response);
  if (tcp_write(pcb, response, (u16_t)length, TCP_WRITE_FLAG_COPY) != ERR_OK) {
    let_go(pcb, connection);
    tcp_abort(pcb);
    return ERR_ABRT;
  }
  return finish(pcb, connection);
}

static err_t on_data(void *context, struct tcp_pcb *pcb, struct pbuf *data, err_t error) {
  struct connection *connection = context;
  enum http_result result = HTTP_MORE;
  if (data == NULL || error != ERR_OK) {
    if (data != NULL) pbuf_free(data);
    return finish(pcb, connection);
  }
  for (const struct pbuf *part = data; part != NULL && result == HTTP_MORE; part = part->next) {
    result = http_feed(&connection->request, part->payload, part->len);
  }
  tcp_recved(pcb, data->tot_len);
  pbuf_free(data);
  return result == HTTP_MORE ? ERR_OK : answer(pcb, connection, result);
}

/* lwIP has freed the connection already. */
static void on_error(void *context, err_t error) {
  (void)error;
  shoal_free(context);
  connection_count--;
}

static err_t on_idle(void *context, struct tcp_pcb *pcb) {
  let_go(pcb, context);
  tcp_abort(pcb);
  return ERR_ABRT;
}

static err_t on_accept(void *context, struct tcp_pcb *pcb, err_t error) {
  (void)context;
  if (error != ERR_OK || pcb == NULL) return ERR_VAL;
  struct connection *connection = connection_count < MOST_CONNECTIONS ? shoal_alloc(sizeof *connection) : NULL;
  if (connection == NULL) {
    tcp_abort(pcb);
    return ERR_ABRT;
  }
  memset(connection, 0, sizeof *connection);
  connection_count++;
  tcp_arg(pcb, connection);
  tcp_recv(pcb, on_data);
  tcp_err(pcb, on_error);
  tcp_poll(pcb, on_idle, IDLE_POLLS);
  return ERR_OK;
}

static void start(void) {
  const char *crash = shoal_config("crash");
  warm_up();
  if (shoal_ip_start(NULL)) {
    struct tcp_pcb *pcb = tcp_new();
    if (pcb == NULL || tcp_bind(pcb, IP_ANY_TYPE, PORT) != ERR_OK) shoal_panic("ping: no memory for port %d", PORT);
    pcb = tcp_listen_with_backlog(pcb, BACKLOG);
    if (pcb == NULL) shoal_panic("ping: no memory to listen");
    tcp_accept(pcb, on_accept);
  }
  if (crash != NULL && !shoal_misbehave(crash)) shoal_print("ping: no such fault: crash=%s\n", crash);
}

const struct shoal_app shoal_app = {.name = "ping", .version = APP_VERSION, .start = start};
