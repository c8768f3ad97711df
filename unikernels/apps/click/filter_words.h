/* The words that patterns are made of, with what they stand for. Internal to the filter's reader. */
#ifndef CLICK_FILTER_WORDS_H
#define CLICK_FILTER_WORDS_H

#include "filter.h"

/* What a primitive is about. Fields have a width and place of their own; the others are put together from several. */
enum filter_type { TYPE_NONE, TYPE_HOST, TYPE_NET, TYPE_PORT, TYPE_PROTO, TYPE_OPTION, TYPE_FIELD, TYPE_FRAGMENT, TYPE_UNFRAGMENTED, TYPE_ECT, TYPE_CE };

struct filter_field {
  uint8_t base, bytes, shift;
  uint16_t offset;
  uint32_t mask;
  uint8_t protocol; /* only in packets of this one; 0: any */
};

/* A word that names a type, such as "ttl"; false: it is none in this family. *field is set for TYPE_FIELD. */
bool filter_word_type(struct slice word, unsigned family, enum filter_type *type, struct filter_field *field);
/* A protocol by name or number. */
bool filter_word_protocol(struct slice word, unsigned family, uint8_t *protocol);
/* The same, names only. */
bool filter_name_protocol(struct slice word, unsigned family, uint8_t *protocol);
/* A port by name or number, a TCP flag, an ICMP type. */
bool filter_word_port(struct slice word, uint32_t *port);
bool filter_word_option(struct slice word, uint32_t *flag);
bool filter_word_icmp(struct slice word, unsigned family, uint32_t *type);

#endif
