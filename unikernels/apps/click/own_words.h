/*
 * What a configuration may know of the guest that it runs in: $IP0, $NET0, $GW0, $MAC0 and so on for each device, as the guest's words
 * (ip=, gw=, ip1=, gw1=, …) and its devices say. So one text is right in every copy of a guest, wherever it goes on.
 */
#ifndef CLICK_OWN_WORDS_H
#define CLICK_OWN_WORDS_H

#include "language.h"

/* Defines those that are known now, under whatever the text defines itself. False when there is no memory. */
bool own_words_define(struct memory *memory, struct scope *root);

/* Whether a text may use any. */
bool own_words_in(struct slice text);

/* Opens the devices that have words of their own, so that their Ethernet addresses are known before a configuration asks. */
void own_words_open(void);

#endif
