// The last failure of an object in words, and the log.
#ifndef SKIM_ERROR_H
#define SKIM_ERROR_H

#include "runtime/thread.h"
#include "skim/runtime.h"

#define SKIM_ERROR_SIZE 512

typedef struct skim_error {
    skim_mutex mutex;
    char text[SKIM_ERROR_SIZE];
} skim_error;

struct skim_host;

#if defined(__GNUC__)
#define SKIM_PRINTF(at, first) __attribute__((__format__(__printf__, at, first)))
#else
#define SKIM_PRINTF(at, first)
#endif

void skim_error_init(skim_error *error);
void skim_error_deinit(skim_error *error);

// Keeps the sentence and returns status. error may be NULL.
skim_status skim_fail(skim_error *error, skim_status status, const char *format, ...)
    SKIM_PRINTF(3, 4);

// Copies as the public _error calls do.
size_t skim_error_copy(const skim_error *error, char *text, size_t size);

void skim_log_write(const struct skim_host *host, skim_log_level level, const char *format, ...)
    SKIM_PRINTF(3, 4);

#endif
