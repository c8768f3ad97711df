/* See logger.h. */
#include "logger.h"

static void log_nothing(struct xentoollog_logger *logger, xentoollog_level level, int error, const char *context, const char *format,
                        va_list arguments)
{
  (void)logger, (void)level, (void)error, (void)context, (void)format, (void)arguments;
}

static void log_no_progress(struct xentoollog_logger *logger, const char *context, const char *what, int percent, unsigned long done,
                            unsigned long total)
{
  (void)logger, (void)context, (void)what, (void)percent, (void)done, (void)total;
}

static void never_freed(struct xentoollog_logger *logger) { (void)logger; }

struct xentoollog_logger quiet_logger = { log_nothing, log_no_progress, never_freed };
