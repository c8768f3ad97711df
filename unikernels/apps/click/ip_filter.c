/* IPClassifier(PATTERN...) and IPFilter(ACTION PATTERN...), and the same for IPv6: IP6Classifier, IP6Filter. */
#include "element.h"
#include "filter.h"

struct ip_filter {
  struct element element;
  struct filter filter;
};

static bool finish(struct ip_filter *of, struct arguments *arguments) {
  if (!arguments->failed && !filter_finish(&of->filter)) arguments_error(arguments, "no memory");
  return arguments_end(arguments);
}

static bool classifier_configure(struct ip_filter *of, struct arguments *arguments, unsigned family) {
  struct slice text;
  uint32_t count = arguments_rest_count(arguments);
  filter_begin(&of->filter, family);
  if (count != of->element.output_count) return arguments_error(arguments, "%u patterns are for as many outputs, %u are connected", count, of->element.output_count);
  for (uint32_t i = 0; arguments_rest(arguments, &text); i++) filter_add(&of->filter, text, FILTER_OUTPUT | i, arguments);
  return finish(of, arguments);
}

static bool classifier4_configure(struct element *element, struct arguments *arguments) { return classifier_configure((struct ip_filter *)element, arguments, 4); }
static bool classifier6_configure(struct element *element, struct arguments *arguments) { return classifier_configure((struct ip_filter *)element, arguments, 6); }

/* allow is output 0; deny output 1, if there is one; drop none; a number that output. */
static bool read_action(const struct ip_filter *of, struct slice word, uint32_t *output) {
  uint64_t number;
  if (slice_equal(word, SLICE("allow"))) *output = 0;
  else if (slice_equal(word, SLICE("deny"))) *output = of->element.output_count > 1 ? 1 : FILTER_DROP;
  else if (slice_equal(word, SLICE("drop"))) *output = FILTER_DROP;
  else if (of->element.output_count > 0 && parse_u64(word, of->element.output_count - 1u, &number)) *output = (uint32_t)number;
  else return false;
  if (*output != FILTER_DROP) *output |= FILTER_OUTPUT;
  return true;
}

static bool filter_configure(struct ip_filter *of, struct arguments *arguments, unsigned family) {
  struct slice text, word;
  filter_begin(&of->filter, family);
  while (arguments_rest(arguments, &text)) {
    uint32_t output;
    if (!parse_word(&text, &word) || !read_action(of, word, &output)) {
      arguments_error(arguments, "allow, deny, drop or the number of an output that is connected is missing");
      continue;
    }
    filter_add(&of->filter, text, output, arguments);
  }
  return finish(of, arguments);
}

static bool filter4_configure(struct element *element, struct arguments *arguments) { return filter_configure((struct ip_filter *)element, arguments, 4); }
static bool filter6_configure(struct element *element, struct arguments *arguments) { return filter_configure((struct ip_filter *)element, arguments, 6); }

static void cleanup(struct element *element) { filter_end(&((struct ip_filter *)element)->filter); }

static void push(struct element *element, unsigned input, struct batch *batch) {
  const struct filter *filter = &((struct ip_filter *)element)->filter;
  struct fanout fanout;
  (void)input;
  fanout_begin(&fanout, element);
  for (struct packet *packet; (packet = batch_take(batch)) != NULL;) {
    uint32_t output = filter_run(filter, packet);
    if (output < element->output_count) fanout_add(&fanout, output, packet);
    else packet_free(packet);
  }
  fanout_end(&fanout);
}

static void read_program(struct element *element, struct output *out) { filter_write(&((struct ip_filter *)element)->filter, out); }

static const struct handler handlers[] = {{"program", read_program, NULL}, {NULL, NULL, NULL}};
#define FILTER_CLASS(class_name, how) \
  {.name = class_name, .size_bytes = sizeof(struct ip_filter), .ports = "1/-", .processing = "h/h", .configure = how, .cleanup = cleanup, .push = push, .handlers = handlers}
const struct element_class class_ip_classifier = FILTER_CLASS("IPClassifier", classifier4_configure);
const struct element_class class_ip_filter = FILTER_CLASS("IPFilter", filter4_configure);
const struct element_class class_ip6_classifier = FILTER_CLASS("IP6Classifier", classifier6_configure);
const struct element_class class_ip6_filter = FILTER_CLASS("IP6Filter", filter6_configure);
