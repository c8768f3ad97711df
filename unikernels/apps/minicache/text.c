/* See text.h. */
#include "text.h"

void text_json(struct text *text, struct slice value) {
  for (size_t i = 0; i < value.length; i++) {
    uint8_t c = (uint8_t)value.at[i];
    if (c == '"' || c == '\\') {
      text_literal(text, "\\");
      text_bytes(text, value.at + i, 1);
    } else if (c < ' ' || c >= 0x7f) { /* what is no ASCII may be no UTF-8 either */
      text_literal(text, "\\u00");
      text_hex(text, &c, 1);
    } else {
      text_bytes(text, value.at + i, 1);
    }
  }
}
