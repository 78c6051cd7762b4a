#include "runtime/error.h"

#include "runtime/backend.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void skim_error_init(skim_error *error)
{
    skim_mutex_init(&error->mutex);
    error->text[0] = '\0';
}

void skim_error_deinit(skim_error *error)
{
    skim_mutex_deinit(&error->mutex);
}

skim_status skim_fail(skim_error *error, skim_status status, const char *format, ...)
{
    if (!error)
        return status;
    char text[SKIM_ERROR_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);

    skim_mutex_lock(&error->mutex);
    memcpy(error->text, text, sizeof text);
    skim_mutex_unlock(&error->mutex);
    return status;
}

size_t skim_error_copy(const skim_error *error, char *text, size_t size)
{
    skim_mutex *mutex = (skim_mutex *)&error->mutex;
    skim_mutex_lock(mutex);
    size_t length = strlen(error->text);
    if (text && size > 0) {
        size_t copied = length < size - 1 ? length : size - 1;
        memcpy(text, error->text, copied);
        text[copied] = '\0';
    }
    skim_mutex_unlock(mutex);
    return length;
}

void skim_log_write(const struct skim_host *host, skim_log_level level, const char *format, ...)
{
    if (!host->log.message || level > host->log.level)
        return;
    char text[SKIM_ERROR_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    host->log.message(host->log.user, level, text);
}
