/*
 * URLs that expire, signed by whoever hands them out (docs/formats/signed-url.md): /~EXPIRES.DEPTH.SIGNATURE/path. The token is the
 * first segment of the path, so that relative URLs in a playlist carry it on. Pure.
 */
#ifndef MINICACHE_SIGNED_URL_H
#define MINICACHE_SIGNED_URL_H

#include "slice.h"

#define SIGNATURE_BYTES 43u /* base64url of 32 bytes */

/* True when the target's token is right and not over; the target is then the one without it. */
bool signed_url_check(struct slice *target, struct slice key, int64_t now_seconds);

/* The signature over the first `depth` segments of the path (0: all paths). */
void signed_url_sign(char signature[SIGNATURE_BYTES], struct slice expires, struct slice covered, struct slice key);

#endif
