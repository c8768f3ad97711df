/* A line of the protocol as its words, for request.c and request_place.c. */
#ifndef SWITCH_REQUEST_H
#define SWITCH_REQUEST_H
#include <stdbool.h>
#include <stdint.h>

#define WORDS_MAX 12u

struct reply;
struct line { char *words[WORDS_MAX]; unsigned count; bool used[WORDS_MAX]; };

void refuse(struct reply *r, int error, const char *what);
bool parse_mac(const char *text, uint8_t mac[6]);
bool number(const char *text, uint64_t most, uint64_t *value);
const char *value_of(struct line *l, const char *key); /* the value of KEY=, which may stand there once; NULL when it is missing */
bool number_of(struct line *l, const char *key, uint64_t most, uint64_t *value);
bool all_used(const struct line *l);                   /* every word was understood, and none twice */
void request_move(struct line *l, struct reply *r);
void request_hold(struct line *l, struct reply *r);
void request_announce(struct line *l, struct reply *r);
void request_traffic(struct line *l, struct reply *r);

#endif
