// Bad input: every public call answers with a status and a sentence, and nothing has changed.
#include "tests/unit/fixture.h"

#include "runtime/cache.h"

#include <math.h>
#include <stdlib.h>

// --- runtime and devices

static void *fail_allocate(void *user, size_t size, size_t alignment)
{
    (void)user;
    (void)size;
    (void)alignment;
    return NULL;
}

static void fail_release(void *user, void *memory, size_t size, size_t alignment)
{
    (void)user;
    (void)memory;
    (void)size;
    (void)alignment;
    fail();
}

static void names_are_of_what_is_there(void **state)
{
    (void)state;
    assert_string_equal(skim_feature_name(SKIM_FEATURE_AVX2), "avx2");
    assert_string_equal(skim_feature_name(SKIM_FEATURE_AVX512), "avx512");
    assert_null(skim_feature_name(0));
    assert_null(skim_feature_name(SKIM_FEATURE_AVX2 | SKIM_FEATURE_AVX512));
    assert_null(skim_feature_name((uint64_t)1 << 63));
    assert_string_equal(skim_type_name(SKIM_BF16), "bf16");
    assert_string_equal(skim_type_name((skim_type)99), "none");
    assert_int_equal(skim_type_size((skim_type)99), 0);
    assert_string_equal(skim_status_name((skim_status)99), "unknown status");
}

static void a_runtime_needs_whole_options(void **state)
{
    (void)state;
    skim_runtime *runtime = NULL;
    assert_int_equal(skim_runtime_create(NULL, NULL), SKIM_INVALID);
    skim_runtime_options options = {.size_of = sizeof options - 1};
    assert_int_equal(skim_runtime_create(&options, &runtime), SKIM_INVALID);
    options =
        (skim_runtime_options){.size_of = sizeof options, .allocator = {.allocate = fail_allocate}};
    assert_int_equal(skim_runtime_create(&options, &runtime), SKIM_INVALID);
    options.allocator.release = fail_release;
    assert_int_equal(skim_runtime_create(&options, &runtime), SKIM_NO_MEMORY);
    assert_null(runtime);
}

static void a_struct_of_a_newer_header_is_taken_while_its_new_fields_are_zero(void **state)
{
    (void)state;
    struct {
        skim_runtime_options options;
        uint64_t later;
    } newer = {.options = {.size_of = sizeof newer}};
    skim_runtime *runtime = NULL;
    newer.later = 1;
    assert_int_equal(skim_runtime_create(&newer.options, &runtime), SKIM_INVALID);
    newer.later = 0;
    assert_int_equal(skim_runtime_create(&newer.options, &runtime), SKIM_OK);
    skim_runtime_destroy(runtime);
}

static void selectors_name_just_what_there_is(void **state)
{
    fixture *f = *state;
    const struct {
        const char *selector;
        skim_status status;
    } cases[] = {
        {"null", SKIM_OK},
        {"null:0", SKIM_OK},
        {"null:1", SKIM_NO_DEVICE},
        {"null:", SKIM_INVALID},
        {"null:x", SKIM_INVALID},
        {"null:99999999999", SKIM_INVALID},
        {"nul", SKIM_NO_DEVICE},
        {"", SKIM_NO_DEVICE},
        {"cuda", SKIM_NO_DEVICE},
        {"NULL", SKIM_NO_DEVICE},
        {"auto", SKIM_NO_DEVICE}, // a software device only by name
        {"00000000-0000-0000-0000-000000000001", SKIM_OK},
        {"00000000000000000000000000000001", SKIM_OK},
        {"00000000-0000-0000-0000-000000000002", SKIM_NO_DEVICE},
        {"00000000-0000-0000-0000-000000000000", SKIM_NO_DEVICE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        skim_device *device = NULL;
        skim_status status = skim_device_open(f->runtime, cases[i].selector, NULL, &device);
        assert_int_equal(status, cases[i].status);
        assert_true((device != NULL) == (status == SKIM_OK));
        skim_device_close(device);
    }
    assert_int_equal(skim_device_open(f->runtime, NULL, NULL, NULL), SKIM_INVALID);
    assert_int_equal(skim_device_open(NULL, "cpu", NULL, NULL), SKIM_INVALID);
    assert_true(skim_runtime_error(f->runtime, NULL, 0) > 0);
}

static void auto_takes_a_real_gpu_and_says_why_not_the_others(void **state)
{
    (void)state;
    null_reset();
    null_control_now.real_gpu = true;
    const skim_registration list[] = {{"cuda", NULL}, {"null", &null_backend}};
    skim_runtime *runtime;
    assert_int_equal(skim_runtime_create_with(NULL, list, 2, &runtime), SKIM_OK);
    skim_device *device = NULL;
    assert_int_equal(skim_device_open(runtime, "auto", NULL, &device), SKIM_OK);
    skim_device_info info = {.size_of = sizeof info};
    assert_int_equal(skim_device_get_info(device, &info), SKIM_OK);
    assert_string_equal(info.selector, "null:0");
    skim_device_close(device);
    skim_backend_info backend = {.size_of = sizeof backend};
    assert_int_equal(skim_runtime_backend_info(runtime, 0, &backend), SKIM_OK);
    assert_string_equal(backend.reason, "this build of Skim has no cuda backend");
    assert_int_equal(skim_runtime_backend_info(runtime, 2, &backend), SKIM_INVALID);
    assert_int_equal(skim_device_open(runtime, "cuda", NULL, &device), SKIM_NO_DEVICE);
    skim_runtime_destroy(runtime);
}

static void auto_says_why_the_only_device_was_refused(void **state)
{
    (void)state;
    skim_runtime *runtime;
    skim_device *device = NULL;
    assert_int_equal(skim_runtime_create(NULL, &runtime), SKIM_OK);
    skim_device_options options = {.size_of = sizeof options, .threads = 1000000};
    assert_int_equal(skim_device_open(runtime, "auto", &options, &device), SKIM_INVALID);
    assert_null(device);
    char text[256];
    skim_runtime_error(runtime, text, sizeof text);
    assert_non_null(strstr(text, "threads"));
    skim_runtime_destroy(runtime);
}

static void infos_of_what_is_not_there_are_refused(void **state)
{
    fixture *f = *state;
    skim_device_info info = {.size_of = sizeof info};
    skim_limits limits = {.size_of = 3};
    assert_int_equal(skim_runtime_device_info(f->runtime, 1, &info), SKIM_INVALID);
    assert_int_equal(skim_runtime_device_info(f->runtime, 0, NULL), SKIM_INVALID);
    assert_int_equal(skim_device_get_limits(f->device, &limits), SKIM_INVALID);
    assert_int_equal(skim_device_get_info(NULL, &info), SKIM_INVALID);
    assert_int_equal(skim_runtime_device_count(NULL), 0);
    assert_int_equal(skim_runtime_backend_count(NULL), 0);
}

// --- buffers and queues

static void buffers_need_a_size_within_the_limits(void **state)
{
    fixture *f = *state;
    skim_buffer *buffer = NULL;
    assert_int_equal(skim_buffer_create(f->device, 0, &buffer), SKIM_INVALID);
    assert_int_equal(skim_buffer_create(f->device, 64, NULL), SKIM_INVALID);
    assert_int_equal(skim_buffer_create(NULL, 64, &buffer), SKIM_INVALID);
    assert_int_equal(skim_buffer_create(f->device, UINT64_MAX, &buffer), SKIM_NO_MEMORY);
    null_control_now.fail_entry = "buffer_create";
    null_control_now.fail_status = SKIM_NO_MEMORY;
    assert_int_equal(skim_buffer_create(f->device, 64, &buffer), SKIM_NO_MEMORY);
    null_control_now.fail_entry = NULL;
    assert_null(buffer);
    assert_int_equal(skim_buffer_size(NULL), 0);
    assert_null(skim_buffer_host(NULL));
    skim_buffer_destroy(NULL);
}

static void transfers_stay_inside_their_buffer(void **state)
{
    fixture *f = *state;
    skim_buffer *buffer;
    char data[64] = {0};
    assert_int_equal(skim_buffer_create(f->device, 64, &buffer), SKIM_OK);
    const struct {
        uint64_t offset, size;
        skim_status status;
    } cases[] = {{0, 64, SKIM_OK},
                 {1, 63, SKIM_OK},
                 {1, 64, SKIM_INVALID},
                 {64, 1, SKIM_INVALID},
                 {0, 0, SKIM_INVALID},
                 {UINT64_MAX, 2, SKIM_INVALID},
                 {2, UINT64_MAX, SKIM_INVALID}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t offset = cases[i].offset, size = cases[i].size;
        skim_status status = cases[i].status;
        assert_int_equal(skim_queue_upload(f->queue, buffer, offset, data, size), status);
        assert_int_equal(skim_queue_download(f->queue, buffer, offset, data, size), status);
        assert_int_equal(skim_queue_zero(f->queue, buffer, offset, size), status);
    }
    assert_int_equal(skim_queue_upload(f->queue, NULL, 0, data, 1), SKIM_INVALID);
    assert_int_equal(skim_queue_upload(f->queue, buffer, 0, NULL, 1), SKIM_INVALID);
    assert_int_equal(skim_queue_upload(NULL, buffer, 0, data, 1), SKIM_INVALID);
    skim_buffer_destroy(buffer);
}

static void points_and_marks_that_are_not_there_are_refused(void **state)
{
    fixture *f = *state;
    uint64_t nanoseconds;
    assert_int_equal(skim_queue_wait(f->queue, UINT64_MAX, 0), SKIM_INVALID);
    assert_int_equal(skim_queue_wait(NULL, 0, 0), SKIM_INVALID);
    assert_int_equal(skim_queue_mark(f->queue, 4), SKIM_INVALID);
    assert_int_equal(skim_queue_mark_time(f->queue, 4, &nanoseconds), SKIM_INVALID);
    assert_int_equal(skim_queue_mark_time(f->queue, 0, NULL), SKIM_INVALID);
    assert_int_equal(skim_queue_submit(NULL, NULL), SKIM_INVALID);
    assert_int_equal(skim_queue_finish(NULL), SKIM_INVALID);
    assert_null(skim_queue_device(NULL));
    skim_queue *queue = NULL;
    assert_int_equal(skim_queue_create(f->device, NULL), SKIM_INVALID);
    assert_int_equal(skim_queue_create(NULL, &queue), SKIM_INVALID);
    null_control_now.fail_entry = "queue_create";
    null_control_now.fail_status = SKIM_FAILED;
    assert_int_equal(skim_queue_create(f->device, &queue), SKIM_FAILED);
    null_control_now.fail_entry = NULL;
    assert_null(queue);
}

// --- caches

typedef struct cache_case {
    const char *what;
    void (*spoil)(fixture *f);
    skim_status status;
} cache_case;

#define SPOIL(name, statement)                                                                     \
    static void name(fixture *f)                                                                   \
    {                                                                                              \
        (void)f;                                                                                   \
        statement;                                                                                 \
    }
SPOIL(no_layers, f->options.layers = NULL)
SPOIL(zero_layers, f->options.layer_count = 0)
SPOIL(many_layers, f->options.layer_count = UINT32_MAX)
SPOIL(short_options, f->options.size_of = 8)
SPOIL(page_size_7, f->options.page_size = 7)
SPOIL(page_size_128, f->options.page_size = 128)
SPOIL(no_capacity, f->options.capacity = 0)
SPOIL(huge_capacity, f->options.capacity = UINT64_MAX)
SPOIL(many_slots, f->options.capacity = (uint64_t)1 << 40)
SPOIL(long_sequences, f->options.capacity = (uint64_t)1 << 33)
SPOIL(too_many_sequences, f->options.max_sequences = UINT32_MAX)
SPOIL(too_many_tokens, f->options.max_step_tokens = UINT32_MAX)
SPOIL(unknown_bounds, f->options.bounds = (skim_bounds)9)
SPOIL(i8_bounds, (f->device->limits.bounds_types = 1 << SKIM_BOUNDS_NATIVE,
                  f->options.bounds_type = SKIM_BOUNDS_I8))
SPOIL(unknown_storage, f->options.bounds_type = (skim_bounds_type)9)
SPOIL(layer_size, f->layers[1].size_of = 0)
SPOIL(layer_size_differs, f->layers[1].size_of = sizeof(skim_layer) + 8)
SPOIL(no_q_heads, f->layers[0].q_heads = 0)
SPOIL(no_kv_heads, f->layers[0].kv_heads = 0)
SPOIL(odd_group, f->layers[0].q_heads = 5)
SPOIL(many_heads, f->layers[0].q_heads = 2048)
SPOIL(no_dim, f->layers[2].key_dim = 0)
SPOIL(dim_12, f->layers[2].key_dim = 12)
SPOIL(dim_36, f->layers[2].key_dim = 36)
SPOIL(dim_264, f->layers[2].key_dim = 264)
SPOIL(other_value_dim, f->layers[2].value_dim = 32)
SPOIL(no_type, f->layers[0].type = SKIM_TYPE_NONE)
SPOIL(type_u32, f->layers[0].type = SKIM_U32)
SPOIL(type_99, f->layers[0].type = (skim_type)99)
SPOIL(type_minus, f->layers[0].type = (skim_type)-1)
SPOIL(scale_nan, f->layers[0].scale = NAN)
SPOIL(scale_minus, f->layers[0].scale = -1.0f)
SPOIL(scale_inf, f->layers[0].scale = INFINITY)
SPOIL(window, f->layers[0].window = 4096)
SPOIL(softcap, f->layers[0].softcap = 30.0f)
SPOIL(sinks, f->layers[0].sinks = f->q)
SPOIL(alibi, f->layers[0].alibi = f->q)
SPOIL(kv_source, f->layers[1].kv_source = 1)
SPOIL(bad_policy, static skim_policy policy; policy = skim_policy_defaults(); policy.budget = 0;
      f->options.policy = &policy)
SPOIL(little_memory, null_control_now.memory = 1 << 20)

static void caches_refuse_what_they_cannot_be(void **state)
{
    fixture *f = *state;
    const cache_case cases[] = {
#define CASE(name, status) {#name, name, status}
        CASE(no_layers, SKIM_INVALID),
        CASE(zero_layers, SKIM_INVALID),
        CASE(many_layers, SKIM_INVALID),
        CASE(short_options, SKIM_INVALID),
        CASE(page_size_7, SKIM_INVALID),
        CASE(page_size_128, SKIM_INVALID),
        CASE(no_capacity, SKIM_INVALID),
        CASE(huge_capacity, SKIM_UNSUPPORTED),
        CASE(many_slots, SKIM_UNSUPPORTED),
        CASE(long_sequences, SKIM_UNSUPPORTED),
        CASE(too_many_sequences, SKIM_UNSUPPORTED),
        CASE(too_many_tokens, SKIM_UNSUPPORTED),
        CASE(unknown_bounds, SKIM_INVALID),
        CASE(i8_bounds, SKIM_UNSUPPORTED),
        CASE(unknown_storage, SKIM_INVALID),
        CASE(layer_size, SKIM_INVALID),
        CASE(layer_size_differs, SKIM_INVALID),
        CASE(no_q_heads, SKIM_INVALID),
        CASE(no_kv_heads, SKIM_INVALID),
        CASE(odd_group, SKIM_INVALID),
        CASE(many_heads, SKIM_UNSUPPORTED),
        CASE(no_dim, SKIM_INVALID),
        CASE(dim_12, SKIM_UNSUPPORTED),
        CASE(dim_36, SKIM_UNSUPPORTED),
        CASE(dim_264, SKIM_UNSUPPORTED),
        CASE(other_value_dim, SKIM_UNSUPPORTED),
        CASE(no_type, SKIM_INVALID),
        CASE(type_u32, SKIM_INVALID),
        CASE(type_99, SKIM_INVALID),
        CASE(type_minus, SKIM_INVALID),
        CASE(scale_nan, SKIM_INVALID),
        CASE(scale_minus, SKIM_INVALID),
        CASE(scale_inf, SKIM_INVALID),
        CASE(window, SKIM_UNSUPPORTED),
        CASE(softcap, SKIM_UNSUPPORTED),
        CASE(sinks, SKIM_UNSUPPORTED),
        CASE(alibi, SKIM_UNSUPPORTED),
        CASE(kv_source, SKIM_UNSUPPORTED),
        CASE(bad_policy, SKIM_INVALID),
        CASE(little_memory, SKIM_NO_MEMORY),
#undef CASE
    };
    const fixture good = *f;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t buffers = null_record_now.buffers;
        cases[i].spoil(f);
        skim_cache *cache = NULL;
        skim_status status = skim_cache_create(f->queue, &f->options, &cache);
        if (status != cases[i].status)
            print_error("%s\n", cases[i].what);
        assert_int_equal(status, cases[i].status);
        assert_null(cache);
        assert_int_equal(null_record_now.buffers, buffers);
        char text[256];
        assert_true(skim_queue_error(f->queue, text, sizeof text) > 10);
        *f = good;
        null_control_now.memory = 0;
    }
    assert_int_equal(skim_cache_create(f->queue, NULL, &f->cache), SKIM_INVALID);
    assert_int_equal(skim_cache_create(f->queue, &f->options, NULL), SKIM_INVALID);
    assert_int_equal(skim_cache_create(NULL, &f->options, NULL), SKIM_INVALID);
    skim_cache_plan plan = {.size_of = 1};
    assert_int_equal(skim_cache_plan_query(f->queue, &f->options, &plan), SKIM_INVALID);
    assert_int_equal(skim_cache_plan_query(f->queue, &f->options, NULL), SKIM_INVALID);
}

static void a_plan_is_what_creation_takes(void **state)
{
    fixture *f = *state;
    skim_cache_plan plan = {.size_of = sizeof plan};
    assert_int_equal(skim_cache_plan_query(f->queue, &f->options, &plan), SKIM_OK);
    assert_int_equal(plan.slots, CAPACITY / PAGE);
    assert_int_equal(plan.page_bytes, (uint64_t)LAYERS * CAPACITY * 2 * 64 * 2 * 4);
    uint64_t bytes = null_record_now.bytes;
    skim_cache *cache;
    assert_int_equal(skim_cache_create(f->queue, &f->options, &cache), SKIM_OK);
    // All but what the queue keeps for itself: staging and the backend's scratch.
    uint64_t taken = null_record_now.bytes - bytes;
    assert_true(taken > plan.page_bytes + plan.bounds_bytes && taken <= plan.device_bytes);
    skim_cache_destroy(cache);
    assert_int_equal(null_record_now.bytes, bytes);
}

static void creation_survives_every_failing_allocation(void **state)
{
    fixture *f = *state;
    uint64_t bytes = null_record_now.bytes;
    for (uint32_t after = 0; after < 2 * LAYERS + 4; after++) {
        null_control_now.fail_entry = "buffer_create";
        null_control_now.fail_after = after;
        null_control_now.fail_status = SKIM_NO_MEMORY;
        skim_cache *cache = NULL;
        assert_int_equal(skim_cache_create(f->queue, &f->options, &cache), SKIM_NO_MEMORY);
        assert_null(cache);
        assert_int_equal(null_record_now.bytes, bytes);
    }
    null_control_now.fail_entry = NULL;
}

static void a_device_that_computes_wrong_is_refused(void **state)
{
    fixture *f = *state;
    skim_cache *cache;
    null_control_now.right = false;
    assert_int_equal(skim_cache_create(f->queue, &f->options, &cache), SKIM_OK);
    assert_int_equal(skim_cache_prepare(cache, NULL), SKIM_FAILED);
    assert_int_equal(skim_cache_prepare(cache, NULL), SKIM_FAILED);
    skim_sequence *sequence;
    assert_int_equal(skim_sequence_create(cache, &sequence), SKIM_OK);
    skim_step *step;
    skim_step_entry entry = {sequence, 1};
    assert_int_equal(skim_step_begin(cache, &entry, 1, &step), SKIM_FAILED);
    null_control_now.right = true;
    assert_int_equal(skim_step_begin(cache, &entry, 1, &step), SKIM_OK);
    skim_cache_destroy(cache);
}

static void layers_and_policies_that_are_not_there_are_refused(void **state)
{
    fixture *f = *state;
    skim_policy policy = skim_policy_defaults();
    assert_int_equal(skim_cache_set_policy(f->cache, LAYERS, &policy), SKIM_INVALID);
    assert_int_equal(skim_cache_set_policy(f->cache, SKIM_ALL_LAYERS, NULL), SKIM_INVALID);
    assert_int_equal(skim_cache_set_policy(NULL, 0, &policy), SKIM_INVALID);
    assert_int_equal(skim_cache_get_policy(f->cache, LAYERS, &policy), SKIM_INVALID);
    policy.budget = 0;
    assert_int_equal(skim_cache_set_policy(f->cache, 0, &policy), SKIM_INVALID);
    assert_int_equal(skim_cache_get_policy(f->cache, 0, &policy), SKIM_OK);
    assert_int_equal(policy.budget, 1024);
    assert_int_equal(skim_cache_get_usage(f->cache, NULL), SKIM_INVALID);
    assert_int_equal(skim_cache_prepare(NULL, NULL), SKIM_INVALID);
}

// --- sequences and steps

static void sequences_are_counted(void **state)
{
    fixture *f = *state;
    skim_sequence *sequences[SEQUENCES + 1] = {NULL};
    for (int i = 0; i < SEQUENCES; i++)
        assert_int_equal(skim_sequence_create(f->cache, &sequences[i]), SKIM_OK);
    assert_int_equal(skim_sequence_create(f->cache, &sequences[SEQUENCES]), SKIM_STATE);
    assert_null(sequences[SEQUENCES]);
    assert_int_equal(skim_sequence_create(f->cache, NULL), SKIM_INVALID);
    assert_int_equal(skim_sequence_create(NULL, &sequences[0]), SKIM_INVALID);
    assert_int_equal(skim_sequence_destroy(sequences[1]), SKIM_OK);
    assert_int_equal(skim_sequence_destroy(NULL), SKIM_OK);
    assert_int_equal(skim_sequence_create(f->cache, &sequences[1]), SKIM_OK);
    assert_int_equal(skim_sequence_length(NULL), 0);
}

static void steps_refuse_bad_entries(void **state)
{
    fixture *f = *state;
    skim_sequence *a, *b, *gone;
    assert_int_equal(skim_sequence_create(f->cache, &a), SKIM_OK);
    assert_int_equal(skim_sequence_create(f->cache, &b), SKIM_OK);
    assert_int_equal(skim_sequence_create(f->cache, &gone), SKIM_OK);
    assert_int_equal(skim_sequence_destroy(gone), SKIM_OK);
    skim_cache *other;
    skim_sequence *foreign;
    assert_int_equal(skim_cache_create(f->queue, &f->options, &other), SKIM_OK);
    assert_int_equal(skim_sequence_create(other, &foreign), SKIM_OK);
    const struct {
        skim_step_entry entries[2];
        uint32_t count;
        skim_status status;
    } cases[] = {
        {{{a, 1}, {b, 1}}, 0, SKIM_INVALID},
        {{{a, 1}, {b, 1}}, SEQUENCES + 1, SKIM_INVALID},
        {{{a, 1}, {a, 1}}, 2, SKIM_INVALID},
        {{{a, 1}, {NULL, 1}}, 2, SKIM_INVALID},
        {{{a, 0}, {b, 1}}, 2, SKIM_INVALID},
        {{{gone, 1}, {b, 1}}, 2, SKIM_INVALID},
        {{{foreign, 1}, {b, 1}}, 2, SKIM_INVALID},
        {{{a, STEP_TOKENS}, {b, 1}}, 2, SKIM_INVALID},
        {{{a, UINT32_MAX}, {b, UINT32_MAX}}, 2, SKIM_NO_SLOTS},
        {{{a, CAPACITY + 1}, {b, 1}}, 1, SKIM_NO_SLOTS},
    };
    skim_step *step = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(skim_step_begin(f->cache, cases[i].entries, cases[i].count, &step),
                         cases[i].status);
        assert_null(step);
        assert_int_equal(f->cache->pool.free_count, CAPACITY / PAGE);
    }
    assert_int_equal(skim_step_begin(f->cache, NULL, 1, &step), SKIM_INVALID);
    assert_int_equal(skim_step_begin(f->cache, cases[0].entries, 2, NULL), SKIM_INVALID);
    assert_int_equal(skim_step_begin(NULL, cases[0].entries, 2, &step), SKIM_INVALID);
    assert_int_equal(skim_step_begin(f->cache, cases[0].entries, 2, &step), SKIM_OK);
    skim_step_cancel(step);
    skim_step_cancel(NULL);
    skim_cache_destroy(other);
}

static void steps_refuse_bad_tensors(void **state)
{
    fixture *f = *state;
    skim_sequence *sequence;
    skim_buffer *buffer;
    assert_int_equal(skim_buffer_create(f->device, 3 * 2 * 64 * 4, &buffer), SKIM_OK);
    assert_int_equal(skim_sequence_create(f->cache, &sequence), SKIM_OK);
    skim_step *step = fixture_begin(f, sequence, 3);
    const skim_tensor good = skim_tensor_host(f->k, SKIM_F32);
    const skim_tensor bad[] = {
        {NULL, NULL, 0, SKIM_F32, 0, 0},
        {NULL, f->k, 0, SKIM_F16, 0, 0},
        {NULL, f->k, 0, SKIM_TYPE_NONE, 0, 0},
        {NULL, f->k, 0, (skim_type)77, 0, 0},
        {NULL, f->k, 2, SKIM_F32, 0, 0},               // not aligned
        {NULL, f->k, 0, SKIM_F32, 0, 63},              // heads overlap
        {NULL, f->k, 0, SKIM_F32, 63, 64},             // tokens overlap
        {NULL, f->k, 0, SKIM_F32, UINT64_MAX / 4, 64}, // wraps
        {NULL, f->k, 0, SKIM_F32, 0, UINT64_MAX / 2},  // wraps
        {NULL, f->k, UINT64_MAX - 3, SKIM_F32, 0, 0},  // wraps
        {buffer, NULL, 4, SKIM_F32, 0, 0},             // one element too few
        {buffer, NULL, 0, SKIM_F32, 129, 64},          // one element too few
        {buffer, NULL, 2, SKIM_F32, 0, 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(skim_step_append(step, 0, &bad[i], &good), SKIM_INVALID);
        assert_int_equal(skim_step_append(step, 0, &good, &bad[i]), SKIM_INVALID);
    }
    const skim_tensor device = skim_tensor_buffer(buffer, 0, SKIM_F32);
    assert_int_equal(skim_step_append(step, 0, NULL, &good), SKIM_INVALID);
    assert_int_equal(skim_step_append(step, LAYERS, &good, &good), SKIM_INVALID);
    assert_int_equal(skim_step_append(NULL, 0, &good, &good), SKIM_INVALID);
    assert_int_equal(skim_step_append(step, 0, &device, &device), SKIM_OK);

    skim_step_attend_args args = fixture_attend(f);
    args.lse = skim_tensor_host(f->k, SKIM_F16);
    assert_int_equal(skim_step_attend(step, 0, &args), SKIM_INVALID);
    args = fixture_attend(f);
    args.out.data = NULL;
    assert_int_equal(skim_step_attend(step, 0, &args), SKIM_INVALID);
    args = fixture_attend(f);
    args.q.type = SKIM_U32;
    assert_int_equal(skim_step_attend(step, 0, &args), SKIM_INVALID);
    args = fixture_attend(f);
    args.size_of = 8;
    assert_int_equal(skim_step_attend(step, 0, &args), SKIM_INVALID);
    assert_int_equal(skim_step_attend(step, 0, NULL), SKIM_INVALID);
    skim_policy policy = skim_policy_defaults();
    policy.spread = NAN;
    args = fixture_attend(f);
    args.policy = &policy;
    assert_int_equal(skim_step_attend(step, 0, &args), SKIM_INVALID);
    skim_step_report report = {.size_of = sizeof report};
    assert_int_equal(skim_step_get_report(step, 0, &report), SKIM_STATE);
    assert_int_equal(skim_step_get_report(step, LAYERS, &report), SKIM_INVALID);
    skim_step_cancel(step);
    skim_buffer_destroy(buffer);
}

#define FRONT(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_of_what_is_there),
        cmocka_unit_test(a_runtime_needs_whole_options),
        cmocka_unit_test(a_struct_of_a_newer_header_is_taken_while_its_new_fields_are_zero),
        FRONT(selectors_name_just_what_there_is),
        cmocka_unit_test(auto_takes_a_real_gpu_and_says_why_not_the_others),
        cmocka_unit_test(auto_says_why_the_only_device_was_refused),
        FRONT(infos_of_what_is_not_there_are_refused),
        FRONT(buffers_need_a_size_within_the_limits),
        FRONT(transfers_stay_inside_their_buffer),
        FRONT(points_and_marks_that_are_not_there_are_refused),
        FRONT(caches_refuse_what_they_cannot_be),
        FRONT(a_plan_is_what_creation_takes),
        FRONT(creation_survives_every_failing_allocation),
        FRONT(a_device_that_computes_wrong_is_refused),
        FRONT(layers_and_policies_that_are_not_there_are_refused),
        FRONT(sequences_are_counted),
        FRONT(steps_refuse_bad_entries),
        FRONT(steps_refuse_bad_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
