/* See signed_url.h. */
#include "signed_url.h"
#include "sha256.h"
#include "text.h"

#define COVERED_BYTES 1024u
#define DEPTH_MOST 32u

void signed_url_sign(char signature[SIGNATURE_BYTES], struct slice expires, struct slice covered, struct slice key) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  char message[COVERED_BYTES + 64];
  uint8_t code[33];
  struct text text = {message, 0, sizeof message, false};
  text_literal(&text, "shoal-url-1\n");
  text_slice(&text, expires);
  text_literal(&text, "\n");
  text_slice(&text, covered);
  hmac_sha256(key.at, key.length, message, text.length, code);
  code[32] = 0;
  for (unsigned i = 0; i < SIGNATURE_BYTES; i++) {
    unsigned bit = 6 * i, word = (unsigned)code[bit / 8] << 8 | (bit / 8 < 32 ? code[bit / 8 + 1] : 0);
    signature[i] = digits[word >> (10 - bit % 8) & 63];
  }
}

/* "." and "..", their escapes included: a server behind might walk out of what is covered. */
static bool walks(struct slice path) {
  while (path.length > 0) {
    size_t end = slice_find(slice_from(path, 1), '/') + 1, dots = 0;
    bool other = false;
    for (size_t i = 1; i < end; i++) {
      if (path.at[i] == '\\') return true;
      if (path.at[i] == '.') dots++;
      else if (path.at[i] == '%' && i + 2 < end && path.at[i + 1] == '2' && slice_lower(path.at[i + 2]) == 'e') dots++, i += 2;
      else if (path.at[i] == '%' && i + 2 < end && ((path.at[i + 1] == '2' && slice_lower(path.at[i + 2]) == 'f') || (path.at[i + 1] == '5' && slice_lower(path.at[i + 2]) == 'c'))) return true;
      else other = true;
    }
    if (!other && dots > 0 && dots <= 2) return true;
    path = slice_from(path, end);
  }
  return false;
}

bool signed_url_check(struct slice *target, struct slice key, int64_t now_seconds) {
  struct slice text = *target;
  uint64_t expires, depth;
  if (text.length < 2 || text.at[0] != '/' || text.at[1] != '~') return false;
  size_t end = slice_find(slice_from(text, 1), '/') + 1;
  if (end >= text.length) return false;
  struct slice token = {text.at + 2, end - 2}, rest = slice_from(text, end);
  size_t first = slice_find(token, '.'), second = first + 1 + slice_find(slice_from(token, first + 1), '.');
  if (second >= token.length) return false;
  struct slice when = {token.at, first}, levels = {token.at + first + 1, second - first - 1}, given = slice_from(token, second + 1);
  if (!slice_number(when, INT64_MAX, &expires) || !slice_number(levels, DEPTH_MOST, &depth) || given.length != SIGNATURE_BYTES) return false;
  struct slice path = {rest.at, slice_find(rest, '?')}, covered = {path.at, 0};
  if (walks(path)) return false;
  for (uint64_t i = 0; i < depth; i++) {
    if (covered.length == path.length) return false; /* fewer segments than are signed */
    covered.length += 1 + slice_find(slice_from(path, covered.length + 1), '/');
  }
  if (depth == 0) covered = SLICE("/");
  if (covered.length > COVERED_BYTES) return false;
  char signature[SIGNATURE_BYTES];
  signed_url_sign(signature, when, covered, key);
  uint8_t difference = 0; /* takes as long whatever differs */
  for (unsigned i = 0; i < SIGNATURE_BYTES; i++) difference |= (uint8_t)(signature[i] ^ given.at[i]);
  if (difference != 0 || (int64_t)expires < now_seconds) return false;
  *target = rest;
  return true;
}
