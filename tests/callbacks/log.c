// The log: what is said at which level, and what a logger may do meanwhile.
#include "host.h"
#include "rig.h"

#include <stdio.h>
#include <string.h>

static void open_auto(skim_runtime *runtime)
{
    skim_device *device = NULL;
    CHECK_OK(skim_device_open(runtime, "auto", NULL, &device));
    skim_device_close(device);
}

// "auto" on a machine without a GPU backend: one message per backend that was passed over, and one
// for the device taken.
static void auto_says_what_it_passed_over_from_level_info_on(void)
{
    for (int level = SKIM_LOG_NONE; level <= SKIM_LOG_DEBUG; level++) {
        host h;
        host_init(&h);
        skim_runtime_options options = host_options(&h, (skim_log_level)level);
        skim_runtime *runtime = NULL;
        CHECK_OK(skim_runtime_create(&options, &runtime));
        open_auto(runtime);
        uint32_t backends = skim_runtime_backend_count(runtime), absent = 0;
        for (uint32_t i = 0; i < backends && level >= SKIM_LOG_INFO; i++) {
            skim_backend_info info;
            info.size_of = sizeof info;
            CHECK_OK(skim_runtime_backend_info(runtime, i, &info));
            char text[300];
            snprintf(text, sizeof text, "auto: %s: %s", info.name, info.reason);
            CHECK_EQUAL(host_said(&h, text), info.device_count == 0);
            absent += info.device_count == 0;
        }
        CHECK_EQUAL(h.message_count, level >= SKIM_LOG_INFO ? absent + 1 : 0);
        for (uint32_t i = 0; i < h.message_count; i++)
            CHECK_EQUAL(h.levels[i], SKIM_LOG_INFO);
        skim_runtime_destroy(runtime);
        host_deinit(&h);
    }
}

static void a_named_device_is_opened_in_silence(void)
{
    host h;
    host_init(&h);
    skim_runtime_options options = host_options(&h, SKIM_LOG_DEBUG);
    rig r;
    CHECK_OK(rig_open(&r, &options, false));
    skim_device *none = NULL;
    CHECK_EQUAL(skim_device_open(r.runtime, "nowhere", NULL, &none), SKIM_NO_DEVICE);
    CHECK_EQUAL(h.message_count, 0); // the status and the sentence are the caller's to show
    rig_close(&r);
    host_deinit(&h);
}

static void *open_twice(void *runtime)
{
    open_auto((skim_runtime *)runtime);
    open_auto((skim_runtime *)runtime);
    return NULL;
}

static void a_slow_logger_is_called_from_several_threads(void)
{
    enum { THREADS = 3 };
    host h;
    host_init(&h);
    skim_runtime_options options = host_options(&h, SKIM_LOG_INFO);
    skim_runtime *runtime = NULL;
    CHECK_OK(skim_runtime_create(&options, &runtime));
    open_auto(runtime);
    uint32_t once = h.message_count;
    CHECK(once > 0);
    h.delay_us = 500;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, open_twice, runtime), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQUAL(h.message_count, once * (1 + 2 * THREADS));
    skim_runtime_destroy(runtime);
    host_deinit(&h);
}

typedef struct asker {
    skim_runtime *runtime;
    bool inside;
    uint32_t calls;
} asker;

static void open_another(void *user)
{
    asker *a = (asker *)user;
    if (!a->runtime || a->inside)
        return;
    a->inside = true; // opening allocates, and the allocator calls this too
    a->calls++;
    char text[64];
    skim_runtime_error(a->runtime, text, sizeof text);
    skim_device_info info;
    info.size_of = sizeof info;
    CHECK_OK(skim_runtime_device_info(a->runtime, 0, &info));
    skim_device *device = NULL;
    CHECK_OK(skim_device_open(a->runtime, info.selector, NULL, &device));
    skim_device_close(device);
    a->inside = false;
}

static void a_logger_may_ask_and_even_open_a_device(void)
{
    host h;
    host_init(&h);
    asker a;
    memset(&a, 0, sizeof a);
    h.call_back = open_another;
    h.call_back_user = &a;
    skim_runtime_options options = host_options(&h, SKIM_LOG_INFO);
    options.allocator.allocate = NULL; // the logger alone calls back
    options.allocator.release = NULL;
    CHECK_OK(skim_runtime_create(&options, &a.runtime));
    open_auto(a.runtime);
    CHECK_EQUAL(a.calls, h.message_count);
    CHECK(a.calls > 0);
    skim_runtime_destroy(a.runtime);
    host_deinit(&h);
}

const check_case log_cases[] = {
    {"auto says what it passed over, from level info on",
     auto_says_what_it_passed_over_from_level_info_on},
    {"a named device is opened in silence", a_named_device_is_opened_in_silence},
    {"a slow logger is called from several threads", a_slow_logger_is_called_from_several_threads},
    {"a logger may ask, and even open a device", a_logger_may_ask_and_even_open_a_device},
    {NULL, NULL},
};
