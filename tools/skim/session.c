#include "session.h"

#include "report.h"

#include <stdio.h>

static void print_log(void *user, skim_log_level level, const char *text)
{
    (void)user;
    static const char *const names[] = {"", "error: ", "warning: ", "", "debug: "};
    progress_clear();
    fprintf(stderr, "skim: %s%s\n", level <= SKIM_LOG_DEBUG ? names[level] : "", text);
}

int session_start(struct session *session, const struct settings *settings)
{
    *session = (struct session){0};
    skim_runtime_options options = {.size_of = sizeof options};
    if (settings->log != SKIM_LOG_NONE)
        options.log = (skim_log){.message = print_log, .level = (skim_log_level)settings->log};
    skim_status status = skim_runtime_create(&options, &session->runtime);
    return status == SKIM_OK ? EXIT_DONE : report_status(status, NULL);
}

int session_open(struct session *session, const struct settings *settings)
{
    int failed = session_start(session, settings);
    if (failed)
        return failed;
    char text[512] = "";
    skim_device_options options = {
        .size_of = sizeof options, .threads = settings->threads, .disable = settings->disable};
    const char *selector = settings->device ? settings->device : "auto";
    skim_status status = skim_device_open(session->runtime, selector, &options, &session->device);
    if (status != SKIM_OK) {
        skim_runtime_error(session->runtime, text, sizeof text);
        // A selector that is no selector at all is an unknown device to the person who typed it.
        failed = report_status(status == SKIM_INVALID ? SKIM_NO_DEVICE : status, text);
        goto fail;
    }
    session->info.size_of = sizeof session->info;
    session->limits.size_of = sizeof session->limits;
    status = skim_device_get_info(session->device, &session->info);
    if (status == SKIM_OK)
        status = skim_device_get_limits(session->device, &session->limits);
    if (status == SKIM_OK)
        status = skim_queue_create(session->device, &session->queue);
    if (status != SKIM_OK) {
        skim_device_error(session->device, text, sizeof text);
        failed = report_status(status, text);
        goto fail;
    }
    return EXIT_DONE;

fail:
    session_close(session);
    return failed;
}

void session_close(struct session *session)
{
    skim_queue_destroy(session->queue);
    skim_device_close(session->device);
    skim_runtime_destroy(session->runtime);
    *session = (struct session){0};
}

int session_queue_failure(const struct session *session, skim_status status)
{
    char text[512] = "";
    skim_queue_error(session->queue, text, sizeof text);
    if (!*text)
        skim_device_error(session->device, text, sizeof text);
    return report_status(status, text);
}

int session_cache_failure(const skim_cache *cache, skim_status status)
{
    char text[512] = "";
    skim_cache_error(cache, text, sizeof text);
    return report_status(status, text);
}

void session_print_device(const struct session *session)
{
    printf("Device: %s, %s, %s\n", session->info.selector, session->info.name,
           session->info.driver);
}
