/* Xen's libraries explain failures on stderr unless told otherwise; here the errno and the name of the call say enough, so nothing is printed. */
#ifndef SHOAL_LOGGER_H
#define SHOAL_LOGGER_H

#include <xentoollog.h>

extern struct xentoollog_logger quiet_logger;

#endif
