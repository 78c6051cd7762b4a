// The store of compiled kernels: what it keeps is used, and nothing that it says is believed.
#include "host.h"
#include "rig.h"

#include <stdio.h>
#include <string.h>

static const uint32_t prompt[RIG_SEQUENCES] = {40, 0, 0, 0};

enum { KERNELS = 2 }; // of a cache with mixed layers

static rig_shape mixed_shape(void)
{
    rig_shape shape = rig_shape_small();
    shape.mixed = true;
    return shape;
}

// One run of the program. Returns how many kernels were compiled.
static uint32_t run(host *h, bool with_store, rig_data *data)
{
    skim_runtime_options options = host_options(h, SKIM_LOG_WARNING);
    if (!with_store) {
        options.store.load = NULL;
        options.store.save = NULL;
    }
    rig r;
    storing_compiled();
    CHECK_OK(rig_open(&r, &options, true));
    CHECK_OK(rig_add_cache(&r, mixed_shape()));
    CHECK_OK(rig_add_sequences(&r, 1));
    CHECK_OK(rig_forward(&r, prompt, data, NULL));
    rig_close(&r);
    return storing_compiled();
}

static void kernels_are_compiled_by_the_first_run_only(void)
{
    host h;
    host_init(&h);
    rig_shape shape = mixed_shape();
    rig_data first, second;
    rig_data_init(&first, &shape, 40, 3);
    rig_data_init(&second, &shape, 40, 3);
    CHECK_EQUAL(run(&h, true, &first), KERNELS);
    CHECK_EQUAL(h.value_count, KERNELS);
    CHECK_EQUAL(h.saves, KERNELS);
    CHECK_EQUAL(run(&h, true, &second), 0);
    CHECK_EQUAL(h.saves, KERNELS);
    CHECK_EQUAL(h.message_count, 0);
    CHECK(rig_same_results(&first, &second));
    rig_data_deinit(&first);
    rig_data_deinit(&second);
    host_deinit(&h);
}

static void without_a_store_or_with_one_that_keeps_nothing_it_works_too(void)
{
    host h;
    host_init(&h);
    rig_shape shape = mixed_shape();
    rig_data data;
    rig_data_init(&data, &shape, 40, 3);
    CHECK(run(&h, false, &data) >= KERNELS);
    CHECK_EQUAL(h.loads + h.saves, 0);
    h.lie = HOST_KEEPS_NOTHING;
    CHECK(run(&h, true, &data) >= KERNELS);
    CHECK(run(&h, true, &data) >= KERNELS);
    CHECK_EQUAL(h.message_count, 0); // nothing is wrong
    rig_data_deinit(&data);
    host_deinit(&h);
}

// The backend refuses to prepare with a kernel that came back different: none does.
static void what_a_lying_store_returns_is_made_again(void)
{
    rig_shape shape = mixed_shape();
    rig_data right, data;
    rig_data_init(&right, &shape, 40, 3);
    rig_data_init(&data, &shape, 40, 3);
    for (int lie = HOST_SHORT; lie < HOST_LIE_COUNT; lie++) {
        host h;
        host_init(&h);
        run(&h, true, &right);
        h.lie = (host_lie)lie;
        CHECK(run(&h, true, &data) >= KERNELS);
        CHECK(host_said(&h, "is not used") >= KERNELS);
        CHECK_EQUAL(host_said(&h, "is not used"), h.message_count);
        CHECK(rig_same_results(&right, &data));
        // What it was given since is right again.
        h.lie = HOST_TRUTH;
        CHECK_EQUAL(run(&h, true, &data), 0);
        host_deinit(&h);
    }
    rig_data_deinit(&right);
    rig_data_deinit(&data);
}

static void what_another_program_left_under_the_key_is_made_again(void)
{
    rig_shape shape = mixed_shape();
    rig_data data;
    rig_data_init(&data, &shape, 40, 3);
    for (size_t size = 1; size < 4096; size *= 3) {
        host h;
        host_init(&h);
        run(&h, true, &data);
        for (uint32_t i = 0; i < h.value_count; i++) {
            if (size > h.values[i].size)
                break;
            memset(h.values[i].data, 'x', h.values[i].size);
            h.values[i].size = size;
        }
        uint32_t compiled = run(&h, true, &data);
        CHECK(compiled == KERNELS || size > h.values[0].size);
        CHECK_EQUAL(run(&h, true, &data), 0);
        host_deinit(&h);
    }
    rig_data_deinit(&data);
}

static void no_memory_for_a_kept_kernel_means_that_it_is_compiled(void)
{
    rig_shape shape = mixed_shape();
    rig_data data;
    rig_data_init(&data, &shape, 40, 3);
    host h;
    host_init(&h);
    run(&h, true, &data);
    uint32_t compiled = 0, refused = 0;
    uint64_t requests = h.allocated;
    for (uint64_t at = 1; at <= requests; at++) {
        h.allocated = h.failed = 0;
        h.fail_from = at;
        h.fail_count = 1;
        skim_runtime_options options = host_options(&h, SKIM_LOG_WARNING);
        rig r;
        storing_compiled();
        skim_status status = rig_open(&r, &options, true);
        if (status == SKIM_OK)
            status = rig_add_cache(&r, shape);
        if (status == SKIM_OK)
            status = skim_cache_prepare(r.cache, NULL);
        rig_close(&r);
        CHECK(status == SKIM_OK || status == SKIM_NO_MEMORY);
        compiled += status == SKIM_OK && storing_compiled() > 0;
        refused += status != SKIM_OK;
    }
    CHECK(compiled >= KERNELS);
    CHECK(refused > 0);
    CHECK_EQUAL(h.message_count, 0);
    rig_data_deinit(&data);
    host_deinit(&h);
}

// --- slow, from several threads, calling back

typedef struct preparer {
    skim_runtime *runtime;
    pthread_t thread;
} preparer;

static void *prepare(void *argument)
{
    preparer *p = (preparer *)argument;
    rig r;
    memset(&r, 0, sizeof r);
    CHECK_OK(skim_device_open(p->runtime, "cpu", NULL, &r.device));
    CHECK_OK(skim_queue_create(r.device, &r.queue));
    CHECK_OK(rig_add_cache(&r, mixed_shape()));
    CHECK_OK(skim_cache_prepare(r.cache, NULL));
    skim_cache_destroy(r.cache);
    skim_queue_destroy(r.queue);
    skim_device_close(r.device);
    return NULL;
}

static void a_slow_store_is_called_from_several_threads(void)
{
    enum { THREADS = 3 };
    host h;
    host_init(&h);
    h.delay_us = 300;
    skim_runtime_options options = host_options(&h, SKIM_LOG_WARNING);
    skim_runtime *runtime = NULL;
    CHECK_OK(storing_runtime_create(&options, &runtime));
    preparer preparers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        preparers[i].runtime = runtime;
        CHECK_EQUAL(pthread_create(&preparers[i].thread, NULL, prepare, &preparers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(preparers[i].thread, NULL);
    CHECK_EQUAL(h.value_count, KERNELS);
    CHECK_EQUAL(h.message_count, 0);
    skim_runtime_destroy(runtime);
    host_deinit(&h);
}

typedef struct asker {
    skim_device *device;
    skim_runtime *runtime;
    uint32_t calls;
} asker;

static void ask(void *user)
{
    asker *a = (asker *)user;
    if (!a->device)
        return;
    a->calls++;
    char text[64];
    skim_runtime_error(a->runtime, text, sizeof text);
    skim_device_info info;
    info.size_of = sizeof info;
    CHECK_OK(skim_device_get_info(a->device, &info));
    skim_device *another = NULL;
    CHECK_OK(skim_device_open(a->runtime, "cpu", NULL, &another));
    skim_device_close(another);
}

static void a_store_may_ask_and_even_open_a_device(void)
{
    host h;
    host_init(&h);
    asker a;
    memset(&a, 0, sizeof a);
    h.call_back = ask;
    h.call_back_user = &a;
    skim_runtime_options options = host_options(&h, SKIM_LOG_WARNING);
    options.allocator.allocate = NULL; // the store alone calls back
    options.allocator.release = NULL;
    rig r;
    CHECK_OK(rig_open(&r, &options, true));
    a.device = r.device;
    a.runtime = r.runtime;
    CHECK_OK(rig_add_cache(&r, mixed_shape()));
    CHECK_OK(skim_cache_prepare(r.cache, NULL));
    CHECK_EQUAL(a.calls, h.loads + h.saves);
    CHECK(a.calls >= 2 * KERNELS);
    a.device = NULL;
    rig_close(&r);
    host_deinit(&h);
}

const check_case store_cases[] = {
    {"kernels are compiled by the first run only", kernels_are_compiled_by_the_first_run_only},
    {"without a store, or with one that keeps nothing, it works too",
     without_a_store_or_with_one_that_keeps_nothing_it_works_too},
    {"what a lying store returns is made again", what_a_lying_store_returns_is_made_again},
    {"what another program left under the key is made again",
     what_another_program_left_under_the_key_is_made_again},
    {"no memory for a kept kernel means that it is compiled",
     no_memory_for_a_kept_kernel_means_that_it_is_compiled},
    {"a slow store is called from several threads", a_slow_store_is_called_from_several_threads},
    {"a store may ask, and even open a device", a_store_may_ask_and_even_open_a_device},
    {NULL, NULL},
};
