/* Print([LABEL, MAXLENGTH]): a line on the console for each packet, as far as the console takes them. */
#include "element.h"

#define LINE_BYTES 3600u

enum contents { CONTENTS_NONE, CONTENTS_HEX, CONTENTS_ASCII };

struct print {
  struct element element;
  struct slice label;
  int32_t most;
  uint8_t contents;
  bool timestamp, annotations, headroom, active;
};

static bool configure(struct element *element, struct arguments *arguments) {
  struct print *print = (struct print *)element;
  struct slice contents;
  bool yes = true;
  print->label = SLICE("");
  print->most = 24;
  print->contents = CONTENTS_HEX;
  print->active = true;
  arguments_string(arguments, "LABEL", ARGUMENT_POSITION, &print->label);
  bool has_most = arguments_i32(arguments, "MAXLENGTH", ARGUMENT_POSITION, -1, INT32_MAX, &print->most);
  if (!has_most) arguments_i32(arguments, "LENGTH", 0, -1, INT32_MAX, &print->most);
  if (arguments_text(arguments, "CONTENTS", 0, &contents)) {
    if (slice_same(contents, SLICE("hex"))) print->contents = CONTENTS_HEX;
    else if (slice_same(contents, SLICE("ascii"))) print->contents = CONTENTS_ASCII;
    else if (slice_same(contents, SLICE("none"))) print->contents = CONTENTS_NONE;
    else if (parse_bool(contents, &yes)) print->contents = yes ? CONTENTS_HEX : CONTENTS_NONE;
    else arguments_error(arguments, "CONTENTS: hex, ascii or none");
  }
  arguments_bool(arguments, "TIMESTAMP", 0, &print->timestamp);
  arguments_bool(arguments, "PRINTANNO", 0, &print->annotations);
  arguments_bool(arguments, "HEADROOM", 0, &print->headroom);
  arguments_bool(arguments, "ACTIVE", 0, &print->active);
  return arguments_end(arguments);
}

static void add_contents(const struct print *print, const struct packet *packet, struct output *out) {
  static const char digits[] = "0123456789abcdef";
  uint32_t length = packet->length;
  if (print->most >= 0 && length > (uint32_t)print->most) length = (uint32_t)print->most;
  output_bytes(out, " | ", 3);
  for (uint32_t i = 0; i < length && !out->full; i++) {
    uint8_t byte = packet->data[i];
    char hex[2] = {digits[byte >> 4], digits[byte & 15]}, ascii = byte >= ' ' && byte < 0x7f ? (char)byte : '.';
    if (i > 0 && i % 4 == 0 && print->contents == CONTENTS_HEX) output_bytes(out, " ", 1);
    if (i > 0 && i % 8 == 0 && print->contents == CONTENTS_ASCII) output_bytes(out, " ", 1);
    if (print->contents == CONTENTS_HEX) output_bytes(out, hex, 2);
    else output_bytes(out, &ascii, 1);
  }
}

/* A label of the operator's may hold anything. */
static void add_label(const struct print *print, struct output *out) {
  for (size_t i = 0; i < print->label.length && i < 128; i++) {
    char c = print->label.at[i];
    output_bytes(out, c >= ' ' && c < 0x7f ? &c : ".", 1);
  }
  if (print->label.length > 0) output_bytes(out, ": ", 2);
}

static void action(struct element *element, struct batch *batch) {
  const struct print *print = (struct print *)element;
  static char line[LINE_BYTES];
  if (!print->active) return;
  BATCH_EACH(packet, batch) {
    struct output out = {line, 0, sizeof line, false};
    add_label(print, &out);
    if (print->timestamp) output_print(&out, "%llu.%06llu: ", (unsigned long long)(packet->timestamp_ns / 1000000000), (unsigned long long)(packet->timestamp_ns / 1000 % 1000000));
    output_print(&out, "%4u", packet->length);
    if (print->headroom) output_print(&out, " (h%u t%u)", packet_headroom(packet), packet_tailroom(packet));
    if (print->contents != CONTENTS_NONE) add_contents(print, packet, &out);
    if (print->annotations) {
      output_print(&out, " | paint %u type %u dst ", packet->paint, packet->type);
      output_ip4(&out, packet->destination_ip);
    }
    element_print_line(&out);
  }
}

static void read_active(struct element *element, struct output *out) { output_print(out, "%s", ((struct print *)element)->active ? "true" : "false"); }
static bool write_active(struct element *element, struct slice value, struct output *why) {
  if (parse_bool(value, &((struct print *)element)->active)) return true;
  output_print(why, "true or false");
  return false;
}

static const struct handler handlers[] = {{"active", read_active, write_active}, {NULL, NULL, NULL}};
const struct element_class class_print = {.name = "Print", .size_bytes = sizeof(struct print), .ports = "1/1", .processing = "a/a", .configure = configure, .action = action,
                                          .handlers = handlers};
