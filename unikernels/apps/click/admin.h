/* The admin port: HTTP/1.1 over lwIP, one request a connection. */
#ifndef CLICK_ADMIN_H
#define CLICK_ADMIN_H

#include "shoal.h"

/* False when there is no memory to listen. lwIP runs already. */
bool admin_listen(uint16_t port);

#endif
