/* The port of whoever runs the cache: /health, and with the secret /metrics, /objects, /log, /purge, /streams. docs/formats/minicache.md */
#ifndef MINICACHE_ADMIN_H
#define MINICACHE_ADMIN_H

#include "viewer.h"

void admin_request(struct viewer *viewer);

#endif
