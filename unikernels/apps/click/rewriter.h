/* What the files of the translators share: patterns (rewriter_pattern.c), mappers that choose among them (mapper.c), the elements (rewriter.c). */
#ifndef CLICK_REWRITER_H
#define CLICK_REWRITER_H

#include "element.h"
#include "flow_table.h"

/* SADDR SPORT DADDR DPORT FOUTPUT ROUTPUT; what is "-" stays as it is in the packet. Addresses and ports in the host's order. */
struct rewrite_pattern {
  uint32_t source_least, source_most, destination;
  uint16_t port_least, port_most, destination_port;
  bool has_source, has_port, has_destination, has_destination_port;
  uint16_t forward_output, reply_output;
};

/* Takes the words of a pattern off the text; false: told in the argument read last. */
bool rewrite_pattern_read(struct slice *text, struct rewrite_pattern *pattern, struct arguments *arguments);
/* FOUTPUT, ROUTPUT or the like. */
bool rewrite_output_read(struct slice *text, uint16_t *output, struct arguments *arguments);

/* What a packet of a new flow shall look like; false: every port is taken, of those that were tried. */
bool rewrite_pattern_apply(const struct rewrite_pattern *pattern, struct flow_table *table, uint8_t protocol, const struct flow_tuple *from, uint64_t now_ns, struct flow_tuple *to);

/* The pattern that a mapper chooses for a new flow. NULL when the element is no mapper. */
bool is_mapper(const struct element *element);
/* The largest output of its patterns. */
uint16_t mapper_output_most(const struct element *mapper);
const struct rewrite_pattern *mapper_choose(struct element *mapper, const struct flow_tuple *from);

#endif
