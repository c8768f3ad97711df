/*
 * See admin.h. A connection gathers its request, has it answered as a whole and sends the answer as the window allows. Few at once, each with
 * a time limit, so that nobody keeps the guest's memory.
 */
#include "admin.h"
#include "../minicache/http1.h"
#include "requests.h"
#include "lwip/tcp.h"

#define CONNECTIONS 4u
#define BACKLOG 4
#define HEAD_BYTES 4096u
/* lwIP polls twice a second. */
#define POLL_INTERVAL 2
#define LIFE_POLLS 30u

struct connection {
  struct tcp_pcb *pcb;
  struct http_gather head;
  char *body, *answer; /* one after the other */
  size_t body_length, body_wanted, sent, answer_length;
  unsigned polls;
  bool has_head;
  struct request request;
  char text[HEAD_BYTES];
};

static unsigned connection_count;

static void let_go(struct connection *connection) {
  tcp_arg(connection->pcb, NULL);
  tcp_recv(connection->pcb, NULL);
  tcp_sent(connection->pcb, NULL);
  tcp_err(connection->pcb, NULL);
  tcp_poll(connection->pcb, NULL, 0);
  shoal_free(connection->body);
  shoal_free(connection->answer);
  shoal_free(connection);
  connection_count--;
}

static err_t cut(struct connection *connection) {
  struct tcp_pcb *pcb = connection->pcb;
  let_go(connection);
  tcp_abort(pcb);
  return ERR_ABRT;
}

static err_t send_more(struct connection *connection) {
  struct tcp_pcb *pcb = connection->pcb;
  while (connection->sent < connection->answer_length) {
    size_t part = connection->answer_length - connection->sent, room = tcp_sndbuf(pcb);
    if (part > room) part = room;
    if (part > TCP_MSS) part = TCP_MSS;
    if (part == 0 || tcp_write(pcb, connection->answer + connection->sent, (u16_t)part, TCP_WRITE_FLAG_COPY) != ERR_OK) break;
    connection->sent += part;
  }
  tcp_output(pcb);
  if (connection->sent < connection->answer_length) return ERR_OK;
  let_go(connection);
  if (tcp_close(pcb) == ERR_OK) return ERR_OK;
  tcp_abort(pcb);
  return ERR_ABRT;
}

static const char *reason_of(unsigned status) {
  static const struct {
    uint16_t status;
    const char *text;
  } reasons[] = {{200, "OK"}, {400, "Bad Request"}, {401, "Unauthorized"}, {404, "Not Found"}, {405, "Method Not Allowed"}, {409, "Conflict"}, {411, "Length Required"},
                 {413, "Content Too Large"}, {422, "Unprocessable Content"}, {507, "Insufficient Storage"}};
  for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
    if (reasons[i].status == status) return reasons[i].text;
  }
  return "Error";
}

static err_t respond(struct connection *connection, unsigned status, bool json, struct slice body) {
  char head[256];
  size_t length = shoal_format(head, sizeof head, "HTTP/1.1 %u %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n%sConnection: close\r\n\r\n", status,
                               reason_of(status), json ? "application/json" : "text/plain; charset=utf-8", body.length, status == 401 ? "WWW-Authenticate: Bearer\r\n" : "");
  connection->answer = shoal_alloc(length + body.length + 1);
  if (connection->answer == NULL) return cut(connection);
  memcpy(connection->answer, head, length);
  if (body.length > 0) memcpy(connection->answer + length, body.at, body.length);
  connection->answer_length = length + body.length;
  return send_more(connection);
}

static err_t answer(struct connection *connection) {
  struct answer given;
  connection->request.body = (struct slice){connection->body == NULL ? "" : connection->body, connection->body_length};
  bool sound = requests_answer(&connection->request, &given);
  shoal_free(connection->body);
  connection->body = NULL;
  if (!sound) return respond(connection, 507, false, SLICE("no memory for the answer\n"));
  err_t result = respond(connection, given.status, given.json, (struct slice){given.body.at, given.body.length});
  shoal_free(given.body.at);
  return result;
}

/* The head is whole: what is asked, and how much of a body comes. 0, or the status to refuse it with. */
static unsigned read_head(struct connection *connection) {
  static struct http_head head;
  int status = http_read_request(&head, connection->text, connection->head.length);
  if (status != 0) return (unsigned)status;
  connection->has_head = true;
  connection->request.method = head.method == METHOD_GET ? REQUEST_GET : head.method == METHOD_PUT ? REQUEST_PUT : head.method == METHOD_POST ? REQUEST_POST : REQUEST_OTHER;
  connection->request.target = http_target(&head);
  struct slice authorization = http_field(&head, FIELD_AUTHORIZATION);
  connection->request.authorization = authorization.at == NULL ? SLICE("") : authorization;
  if (head.framing == FRAMING_CHUNKED) return 411;
  if (head.framing != FRAMING_LENGTH || head.length == 0) return 0;
  if (head.length > REQUEST_PIECE_BYTES_MAX) return 413;
  connection->body_wanted = (size_t)head.length;
  connection->body = shoal_alloc(connection->body_wanted);
  return connection->body == NULL ? 507 : 0;
}

/* Takes in bytes; true when there is something to answer, *status 0 or why it is refused. */
static bool take(struct connection *connection, const char *bytes, size_t size, unsigned *status) {
  *status = 0;
  if (!connection->has_head) {
    size_t taken;
    enum http_result result = http_gather(&connection->head, bytes, size, &taken);
    if (result == HTTP_MORE) return false;
    *status = result == HTTP_LONG ? 431 : read_head(connection);
    if (*status != 0) return true;
    bytes += taken, size -= taken;
  }
  size_t rest = connection->body_wanted - connection->body_length;
  if (size > rest) size = rest;
  if (size > 0) memcpy(connection->body + connection->body_length, bytes, size);
  connection->body_length += size;
  return connection->body_length == connection->body_wanted;
}

static err_t on_data(void *context, struct tcp_pcb *pcb, struct pbuf *data, err_t error) {
  struct connection *connection = context;
  unsigned status = 0;
  bool whole = false;
  if (data == NULL || error != ERR_OK) {
    if (data != NULL) pbuf_free(data);
    return connection->answer == NULL ? cut(connection) : ERR_OK; /* half closed: the answer still goes out */
  }
  for (const struct pbuf *part = data; part != NULL && !whole && connection->answer == NULL; part = part->next) whole = take(connection, part->payload, part->len, &status);
  tcp_recved(pcb, data->tot_len);
  pbuf_free(data);
  if (!whole) return ERR_OK;
  return status != 0 ? respond(connection, status, false, SLICE("")) : answer(connection);
}

static err_t on_sent(void *context, struct tcp_pcb *pcb, u16_t length) {
  (void)pcb, (void)length;
  struct connection *connection = context;
  return connection->answer == NULL ? ERR_OK : send_more(connection);
}

/* lwIP has freed the connection already. */
static void on_error(void *context, err_t error) {
  struct connection *connection = context;
  (void)error;
  shoal_free(connection->body);
  shoal_free(connection->answer);
  shoal_free(connection);
  connection_count--;
}

static err_t on_poll(void *context, struct tcp_pcb *pcb) {
  struct connection *connection = context;
  (void)pcb;
  if (++connection->polls > LIFE_POLLS) return cut(connection);
  return connection->answer == NULL ? ERR_OK : send_more(connection);
}

static err_t on_accept(void *context, struct tcp_pcb *pcb, err_t error) {
  (void)context;
  if (error != ERR_OK || pcb == NULL) return ERR_VAL;
  struct connection *connection = connection_count < CONNECTIONS ? shoal_alloc(sizeof *connection) : NULL;
  if (connection == NULL) {
    tcp_abort(pcb);
    return ERR_ABRT;
  }
  memset(connection, 0, sizeof *connection);
  connection->pcb = pcb;
  connection->head = (struct http_gather){.buffer = connection->text, .capacity = sizeof connection->text};
  connection_count++;
  tcp_arg(pcb, connection);
  tcp_recv(pcb, on_data);
  tcp_sent(pcb, on_sent);
  tcp_err(pcb, on_error);
  tcp_poll(pcb, on_poll, POLL_INTERVAL);
  return ERR_OK;
}

bool admin_listen(uint16_t port) {
  struct tcp_pcb *pcb = tcp_new();
  if (pcb == NULL || tcp_bind(pcb, IP_ANY_TYPE, port) != ERR_OK) return false;
  pcb = tcp_listen_with_backlog(pcb, BACKLOG);
  if (pcb == NULL) return false;
  tcp_accept(pcb, on_accept);
  return true;
}
