/* See requests.h. */
#include "requests.h"
#include "../minicache/sha256.h"
#include "graph.h"
#include "router.h"

#define FIRST_ANSWER_BYTES 8192u
#define NAME_BYTES 600u

static struct slice secret;
static char *staged;
static size_t staged_length, staged_room;
static char installed_digest[65]; /* of what runs */

static struct errors errors;

void requests_start(struct slice with) { secret = with; }

static bool may(const struct request *request) {
  struct slice given = request->authorization;
  if (secret.length == 0 || given.length != secret.length + 7 || !slice_same((struct slice){given.at, 7}, SLICE("bearer "))) return false;
  uint8_t difference = 0;
  for (size_t i = 0; i < secret.length; i++) difference |= (uint8_t)(given.at[7 + i] ^ secret.at[i]);
  return difference == 0;
}

/* The value of a query parameter, percent-decoded into `out`; false: not there, too long or malformed. */
static bool parameter(struct slice query, struct slice name, char *out, size_t capacity, struct slice *value) {
  while (query.length > 0) {
    struct slice pair = {query.at, slice_find(query, '&')};
    query = slice_from(query, pair.length + 1);
    size_t equals = slice_find(pair, '='), length = 0;
    if (!slice_equal((struct slice){pair.at, equals}, name)) continue;
    struct slice raw = slice_from(pair, equals + 1);
    for (size_t i = 0; i < raw.length; i++) {
      uint64_t byte = (uint8_t)raw.at[i];
      if (length == capacity) return false;
      if (raw.at[i] == '%') {
        char hex[4] = {'0', 'x', '\0', '\0'};
        if (i + 2 >= raw.length) return false;
        hex[2] = raw.at[i + 1], hex[3] = raw.at[i + 2];
        if (!parse_u64((struct slice){hex, 4}, 255, &byte)) return false;
        i += 2;
      }
      out[length++] = (char)byte;
    }
    *value = (struct slice){out, length};
    return true;
  }
  return false;
}

static bool number(struct slice query, struct slice name, uint64_t *value) {
  char digits[20];
  struct slice text;
  return parameter(query, name, digits, sizeof digits, &text) && slice_number(text, UINT32_MAX, value);
}

static unsigned say(struct answer *answer, unsigned status, const char *text) {
  output_print(&answer->body, "%s\n", text);
  return status;
}

/* ---- configurations ---- */

static void digest_of(struct slice text, char hex[65]) {
  static const char digits[] = "0123456789abcdef";
  struct sha256 sha;
  uint8_t digest[32];
  sha256_begin(&sha);
  sha256_add(&sha, text.at, text.length);
  sha256_end(&sha, digest);
  for (unsigned i = 0; i < 32; i++) hex[2 * i] = digits[digest[i] >> 4], hex[2 * i + 1] = digits[digest[i] & 15];
  hex[64] = '\0';
}

static void unstage(void) {
  shoal_free(staged);
  staged = NULL;
  staged_length = staged_room = 0;
}

static bool make_room(size_t bytes) {
  size_t room = staged_room == 0 ? 4096 : staged_room;
  if (bytes <= staged_room) return true;
  while (room < bytes) room *= 2;
  char *larger = shoal_alloc(room);
  if (larger == NULL) return false;
  if (staged_length > 0) memcpy(larger, staged, staged_length);
  shoal_free(staged);
  staged = larger;
  staged_room = room;
  return true;
}

static unsigned put_piece(const struct request *request, struct slice query, struct answer *answer) {
  uint64_t at;
  if (!number(query, SLICE("at"), &at)) return say(answer, 400, "at=OFFSET is missing");
  if (at == 0) unstage();
  if (at != staged_length) {
    output_print(&answer->body, "%zu bytes are here, the piece begins at %llu\n", staged_length, (unsigned long long)at);
    return 409;
  }
  if (request->body.length > CONFIGURATION_BYTES_MAX - staged_length) return say(answer, 413, "a configuration has at most 262144 bytes");
  if (!make_room(staged_length + request->body.length)) return say(answer, 507, "no memory for the configuration");
  if (request->body.length > 0) memcpy(staged + staged_length, request->body.at, request->body.length);
  staged_length += request->body.length;
  answer->json = true;
  output_print(&answer->body, "{\"bytes\":%zu}\n", staged_length);
  return 200;
}

bool requests_install(struct slice text, struct errors *to) {
  to->count = 0;
  struct router *router = router_build(text, to);
  if (router == NULL) return false;
  digest_of(text, installed_digest);
  router_replace(router);
  return true;
}

static unsigned install(struct slice query, struct answer *answer) {
  char wanted[65], found[65], flag[4];
  struct slice digest, dry, text = {staged == NULL ? "" : staged, staged_length};
  if (!parameter(query, SLICE("sha256"), wanted, 64, &digest) || digest.length != 64) return say(answer, 400, "sha256=DIGEST is missing");
  digest_of(text, found);
  if (memcmp(found, wanted, 64) != 0) {
    output_print(&answer->body, "%zu bytes are here, and they are not what was meant\n", staged_length);
    return 409;
  }
  bool only_check = parameter(query, SLICE("dry"), flag, sizeof flag, &dry) && slice_equal(dry, SLICE("1")), sound;
  errors.count = 0;
  if (only_check) {
    struct router *router = router_build(text, &errors);
    sound = router != NULL;
    router_free(router);
  } else {
    sound = requests_install(text, &errors);
  }
  unstage();
  if (!sound) {
    errors_write(&errors, &answer->body);
    return 422;
  }
  answer->json = true;
  output_print(&answer->body, "{\"sha256\":\"%s\",\"elements\":%u,\"installed\":%s}\n", found, router_running() == NULL ? 0 : router_running()->count, only_check ? "false" : "true");
  return 200;
}

/* ---- handlers ---- */

static void write_status(struct answer *answer) {
  const struct router *router = router_running();
  struct packet_counts packets = packet_counts();
  struct shoal_memory memory = shoal_memory();
  answer->json = true;
  output_print(&answer->body, "{\"running\":");
  if (router == NULL) output_print(&answer->body, "null");
  else output_print(&answer->body, "\"%s\"", installed_digest);
  output_print(&answer->body, ",\"elements\":%u,\"bytes\":%zu,\"uptimeMs\":%llu", router == NULL ? 0 : router->count, router == NULL ? (size_t)0 : router->source.length,
               (unsigned long long)(router == NULL ? 0 : (click_exact_ns() - router->started_ns) / 1000000));
  output_print(&answer->body, ",\"staged\":%zu,\"packets\":{\"inUse\":%u,\"limit\":%u,\"refused\":%llu,\"cut\":%llu}", staged_length, packets.in_use, packets.limit,
               (unsigned long long)packets.refused, (unsigned long long)schedule_cut());
  output_print(&answer->body, ",\"freeBytes\":%zu}\n", memory.free_bytes);
}

static unsigned read_handler(struct slice query, struct answer *answer) {
  char buffer[NAME_BYTES];
  struct slice name;
  if (!parameter(query, SLICE("handler"), buffer, sizeof buffer, &name)) return say(answer, 400, "handler=NAME is missing");
  return handlers_read(router_running(), name, &answer->body) ? 200 : 404;
}

static unsigned write_handler(const struct request *request, struct slice query, struct answer *answer) {
  char buffer[NAME_BYTES];
  struct slice name, value = request->body;
  if (!parameter(query, SLICE("handler"), buffer, sizeof buffer, &name)) return say(answer, 400, "handler=NAME is missing");
  while (value.length > 0 && (value.at[value.length - 1] == '\n' || value.at[value.length - 1] == '\r')) value.length--;
  return handlers_write(router_running(), name, slice_trim(value), &answer->body) ? 200 : 422;
}

static unsigned dispatch(const struct request *request, struct answer *answer) {
  size_t mark = slice_find(request->target, '?');
  struct slice path = {request->target.at, mark}, query = slice_from(request->target, mark + 1);
  bool get = request->method == REQUEST_GET, post = request->method == REQUEST_POST, put = request->method == REQUEST_PUT;
  if (slice_equal(path, SLICE("/health"))) return get ? say(answer, 200, "ok") : 405;
  if (!may(request)) return say(answer, 401, "Authorization: Bearer SECRET is missing");
  if (slice_equal(path, SLICE("/configuration"))) return put ? put_piece(request, query, answer) : 405;
  if (slice_equal(path, SLICE("/install"))) return post ? install(query, answer) : 405;
  if (slice_equal(path, SLICE("/write"))) return post ? write_handler(request, query, answer) : 405;
  if (slice_equal(path, SLICE("/read"))) return get ? read_handler(query, answer) : 405;
  if (!slice_equal(path, SLICE("/status"))) return 404;
  if (!get) return 405;
  write_status(answer);
  return 200;
}

bool requests_answer(const struct request *request, struct answer *answer) {
  /* Only a read can be longer than the first room, and it can be done again. */
  for (size_t room = FIRST_ANSWER_BYTES; room <= ANSWER_BYTES_MAX; room *= 4) {
    *answer = (struct answer){.body = {.at = shoal_alloc(room), .capacity = room}};
    if (answer->body.at == NULL) return false;
    answer->status = dispatch(request, answer);
    if (!answer->body.full || request->method != REQUEST_GET) return true;
    shoal_free(answer->body.at);
  }
  answer->body.at = NULL;
  return false;
}
