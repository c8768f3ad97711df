/*
 * Routing: StaticIPLookup, LinearIPLookup, RadixIPLookup (ADDRESS/LENGTH [GATEWAY] OUTPUT, ...), LookupIP6Route. All have the same table, with
 * handlers to change it. They go by the destination annotation and set it to the gateway; what has no route is lost.
 */
#include "element.h"
#include "routes.h"

struct lookup {
  struct element element;
  struct routes routes;
  uint64_t lost;
  bool is_6;
};

static struct route_key key4(uint32_t address) { return (struct route_key){{swap32(address)}}; }

static struct route_key key6(const uint8_t *address) {
  struct route_key key;
  for (unsigned i = 0; i < 4; i++) key.words[i] = get32(address + 4 * i);
  return key;
}

static bool read_prefix(const struct lookup *lookup, struct slice word, struct route *route) {
  if (lookup->is_6) {
    uint8_t address[16];
    unsigned length;
    if (!parse_prefix6(word, address, &length)) return false;
    route->key = key6(address);
    route->length = (uint8_t)length;
    return true;
  }
  uint32_t address, mask;
  if (!parse_prefix4(word, &address, &mask)) return false;
  mask = swap32(mask);
  if ((~mask & (~mask + 1)) != 0) return false; /* with holes */
  route->key = key4(address);
  route->length = (uint8_t)(mask == 0 ? 0 : 32 - __builtin_ctz(mask));
  return true;
}

/* NULL: well-formed. `bad` is the word that is not. */
static const char *read_route(const struct lookup *lookup, struct slice text, struct route *route, struct slice *bad) {
  struct slice word;
  uint64_t output;
  memset(route, 0, sizeof *route);
  *bad = text;
  if (!parse_word(&text, &word)) return "ADDRESS/LENGTH [GATEWAY] OUTPUT";
  *bad = word;
  if (!read_prefix(lookup, word, route)) return "ADDRESS/LENGTH";
  if (!parse_word(&text, &word)) return "ADDRESS/LENGTH [GATEWAY] OUTPUT";
  uint32_t gateway = 0;
  bool has_gateway = lookup->is_6 ? parse_ip6(word, route->gateway) : parse_ip4(word, &gateway);
  if (!lookup->is_6) memcpy(route->gateway, &gateway, 4);
  /* "-" is none. */
  if ((has_gateway || slice_equal(word, SLICE("-"))) && !parse_word(&text, &word)) return "ADDRESS/LENGTH [GATEWAY] OUTPUT";
  *bad = word;
  if (lookup->element.output_count == 0 || !parse_u64(word, lookup->element.output_count - 1u, &output)) return "an output that is connected";
  route->output = (uint16_t)output;
  return parse_word(&text, bad) ? "the end of the route" : NULL;
}

static bool configure(struct element *element, struct arguments *arguments) {
  struct lookup *lookup = (struct lookup *)element;
  struct slice text, bad;
  struct route route;
  while (arguments_rest(arguments, &text)) {
    const char *wanted = read_route(lookup, text, &route, &bad);
    if (wanted != NULL) arguments_error_at(arguments, bad.at, "'%.*s' where %s should be", (int)(bad.length < 50 ? bad.length : 50), bad.at, wanted);
    else if (routes_add(&lookup->routes, &route, true) != ROUTES_OK) return arguments_error(arguments, "no memory, or more than %u routes", ROUTES_MAX);
  }
  return arguments_end(arguments);
}

static bool configure6(struct element *element, struct arguments *arguments) {
  ((struct lookup *)element)->is_6 = true;
  return configure(element, arguments);
}

static void cleanup(struct element *element) { routes_end(&((struct lookup *)element)->routes); }

static void push(struct element *element, unsigned input, struct batch *batch) {
  struct lookup *lookup = (struct lookup *)element;
  static const uint8_t none[16];
  struct fanout fanout;
  uint32_t seen = 0;
  const struct route *route = NULL;
  bool has_seen = false;
  (void)input;
  fanout_begin(&fanout, element);
  for (struct packet *packet; (packet = batch_take(batch)) != NULL;) {
    /* Packets of a batch often go to one place. */
    if (lookup->is_6) {
      struct route_key key = key6(packet->destination_ip6);
      route = routes_find(&lookup->routes, &key);
    } else if (!has_seen || packet->destination_ip != seen) {
      struct route_key key = key4(packet->destination_ip);
      route = routes_find(&lookup->routes, &key);
      seen = packet->destination_ip;
      has_seen = true;
    }
    if (route == NULL) {
      lookup->lost++;
      packet_free(packet);
      continue;
    }
    if (lookup->is_6 && memcmp(route->gateway, none, 16) != 0) memcpy(packet->destination_ip6, route->gateway, 16);
    else if (!lookup->is_6 && memcmp(route->gateway, none, 4) != 0) packet->destination_ip = get_ip4(route->gateway);
    fanout_add(&fanout, route->output, packet);
  }
  fanout_end(&fanout);
}

/* ---- handlers ---- */

static void write_address(const struct lookup *lookup, struct output *out, const uint8_t *address) {
  if (lookup->is_6) output_ip6(out, address);
  else output_ip4(out, get_ip4(address));
}

static void write_route(const struct lookup *lookup, struct output *out, const struct route *route) {
  uint8_t address[16];
  for (unsigned i = 0; i < 4; i++) put32(address + 4 * i, route->key.words[i]);
  write_address(lookup, out, address);
  output_print(out, "/%u ", route->length);
  static const uint8_t none[16];
  if (memcmp(route->gateway, none, 16) == 0) output_print(out, "-");
  else write_address(lookup, out, route->gateway);
  output_print(out, " %u\n", route->output);
}

static void read_table(struct element *element, struct output *out) {
  const struct lookup *lookup = (struct lookup *)element;
  for (uint32_t i = 0; i < lookup->routes.count && !out->full; i++) {
    if (lookup->routes.all[i].is_used) write_route(lookup, out, &lookup->routes.all[i]);
  }
}

static void read_lost(struct element *element, struct output *out) { output_print(out, "%llu", (unsigned long long)((struct lookup *)element)->lost); }

static bool change(struct element *element, struct slice value, struct output *why, bool replace) {
  struct lookup *lookup = (struct lookup *)element;
  struct route route;
  struct slice bad;
  const char *wanted = read_route(lookup, value, &route, &bad);
  if (wanted != NULL) return output_print(why, "%s", wanted), false;
  enum routes_result result = routes_add(&lookup->routes, &route, replace);
  if (result == ROUTES_EXISTS) output_print(why, "there is a route for it");
  else if (result != ROUTES_OK) output_print(why, "no memory, or too many routes");
  return result == ROUTES_OK;
}

static bool write_add(struct element *element, struct slice value, struct output *why) { return change(element, value, why, false); }
static bool write_set(struct element *element, struct slice value, struct output *why) { return change(element, value, why, true); }

static bool write_remove(struct element *element, struct slice value, struct output *why) {
  struct lookup *lookup = (struct lookup *)element;
  struct route route;
  struct slice word;
  if (!parse_word(&value, &word) || !read_prefix(lookup, word, &route)) return output_print(why, "ADDRESS/LENGTH"), false;
  if (routes_remove(&lookup->routes, &route.key, route.length) != ROUTES_OK) return output_print(why, "there is no such route"), false;
  return true;
}

static const struct handler handlers[] = {{"table", read_table, NULL}, {"lost", read_lost, NULL}, {"add", NULL, write_add}, {"set", NULL, write_set}, {"remove", NULL, write_remove}, {NULL, NULL, NULL}};
#define LOOKUP_CLASS(class_name, how) \
  {.name = class_name, .size_bytes = sizeof(struct lookup), .ports = "1/-", .processing = "h/h", .configure = how, .cleanup = cleanup, .push = push, .handlers = handlers}
const struct element_class class_static_ip_lookup = LOOKUP_CLASS("StaticIPLookup", configure);
const struct element_class class_linear_ip_lookup = LOOKUP_CLASS("LinearIPLookup", configure);
const struct element_class class_radix_ip_lookup = LOOKUP_CLASS("RadixIPLookup", configure);
const struct element_class class_lookup_ip6_route = LOOKUP_CLASS("LookupIP6Route", configure6);
