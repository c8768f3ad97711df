/*
 * What the admin port is asked and answers, without the network: the configuration comes in pieces and is installed when it is whole, handlers
 * are read and written. docs/formats/click.md has the requests.
 */
#ifndef CLICK_REQUESTS_H
#define CLICK_REQUESTS_H

#include "output.h"

#define REQUEST_PIECE_BYTES_MAX 32768u /* of a request's body */
#define ANSWER_BYTES_MAX 4194304u

enum request_method { REQUEST_GET, REQUEST_PUT, REQUEST_POST, REQUEST_OTHER };

struct request {
  enum request_method method;
  struct slice target;        /* path and query */
  struct slice authorization; /* of the field; empty: none */
  struct slice body;
};

struct answer {
  unsigned status;
  bool json;
  struct output body; /* its bytes are the caller's to free */
};

/* The secret lives as long as the guest; empty: only /health answers. */
void requests_start(struct slice secret);

/* False: there was no memory for an answer. */
bool requests_answer(const struct request *request, struct answer *answer);

/* Installs a text, as an install request would. */
bool requests_install(struct slice text, struct errors *errors);

#endif
