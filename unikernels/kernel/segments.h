/*
 * Segments of one TCP flow that follow each other, for a device that takes them as one long frame and has it cut again as late as possible, or
 * never on a virtual wire. Pure: says what may follow, and what the headers of the whole are.
 */
#ifndef KERNEL_SEGMENTS_H
#define KERNEL_SEGMENTS_H

#include "shoal.h"

struct segment_run {
  uint8_t *first;  /* the first frame, with its headers */
  uint16_t head;   /* bytes of those headers; 0: no segment, nothing follows */
  uint16_t each;   /* bytes of data of each segment but the last */
  uint16_t tcp;    /* where the TCP header begins: 34 (IPv4) or 54 (IPv6) */
  bool closed;     /* nothing may follow: a short segment, or PSH or FIN */
  uint32_t next;   /* the sequence number that has to follow */
  uint32_t length; /* of the whole frame so far */
};

/* Where the TCP header of a frame begins, 0 when it is none without options or extensions before it. */
size_t segments_tcp(const uint8_t *frame, size_t length);

/* Begins with a frame that is to be sent; it stays where it is. `flags` as of shoal_net_commit. */
void segments_begin(struct segment_run *run, uint8_t *frame, size_t length, uint32_t flags);

/* True: the frame is the next segment, its data (beyond run->head) belongs to the whole now, its headers are not needed. */
bool segments_follow(struct segment_run *run, const uint8_t *frame, size_t length, uint32_t flags);

/* Writes the lengths of the whole into the first frame's headers, and makes their sums right. Of a single segment: nothing. */
void segments_finish(struct segment_run *run);

#endif
