/* Heads of answers, and answers without a body from elsewhere. Each leaves the viewer in the state that goes on. */
#ifndef MINICACHE_RESPOND_H
#define MINICACHE_RESPOND_H

#include "meta.h"
#include "viewer.h"

#define RESPOND_PART_BYTES 1024u

/* Answers with what the store has: 200, 206, 304, 412, 416 as the request says. The object may still be filling. */
void respond_object(struct viewer *viewer, struct object *object, const struct kept *kept, enum outcome outcome);

/* A short text; `extra`: whole field lines. */
void respond_status(struct viewer *viewer, uint16_t status, struct slice extra);
void respond_body(struct viewer *viewer, uint16_t status, struct slice type, struct slice extra, struct slice body);

/* The origin's own head, for an answer that is passed on; the body follows by respond_relay, the end by respond_relay_end. */
void respond_relay_head(struct viewer *viewer, const struct http_head *response, enum outcome outcome);
size_t respond_relay(struct viewer *viewer, const char *bytes, size_t length); /* how many were taken */
void respond_relay_end(struct viewer *viewer, bool whole);
void respond_interim(struct viewer *viewer, const struct http_head *response);

/* For sending.c: the head of the part at viewer->span, and what ends the last part. */
bool respond_part(struct viewer *viewer);
bool respond_last_part(struct viewer *viewer);

#endif
