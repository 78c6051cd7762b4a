// A runtime with the null backend, a device, a queue and a small cache, for tests of the front.
#ifndef UNIT_FIXTURE_H
#define UNIT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/runtime.h"
#include "tests/null/null.h"

#include <string.h>

enum { LAYERS = 3, SEQUENCES = 3, PAGE = 16, CAPACITY = 512, STEP_TOKENS = 128 };

typedef struct fixture {
    skim_runtime *runtime;
    skim_device *device;
    skim_queue *queue;
    skim_layer layers[LAYERS];
    skim_cache_options options;
    skim_cache *cache;
    float k[STEP_TOKENS * 2 * 64];
    float q[STEP_TOKENS * 4 * 64];
    float out[STEP_TOKENS * 4 * 64];
} fixture;

static inline skim_layer fixture_layer(void)
{
    return (skim_layer){.size_of = sizeof(skim_layer),
                        .q_heads = 4,
                        .kv_heads = 2,
                        .key_dim = 64,
                        .type = SKIM_F32};
}

static inline void fixture_fill_options(fixture *f)
{
    for (int i = 0; i < LAYERS; i++)
        f->layers[i] = fixture_layer();
    f->options = (skim_cache_options){.size_of = sizeof f->options,
                                      .layers = f->layers,
                                      .layer_count = LAYERS,
                                      .page_size = PAGE,
                                      .capacity = CAPACITY,
                                      .max_sequences = SEQUENCES,
                                      .max_step_tokens = STEP_TOKENS};
}

static inline void fixture_open(fixture *f, const skim_backend *backend)
{
    const skim_registration registration = {"null", backend};
    assert_int_equal(skim_runtime_create_with(NULL, &registration, 1, &f->runtime), SKIM_OK);
    assert_int_equal(skim_device_open(f->runtime, "null", NULL, &f->device), SKIM_OK);
    assert_int_equal(skim_queue_create(f->device, &f->queue), SKIM_OK);
    fixture_fill_options(f);
}

static inline void fixture_close(fixture *f)
{
    skim_cache_destroy(f->cache);
    skim_queue_destroy(f->queue);
    skim_device_close(f->device);
    skim_runtime_destroy(f->runtime);
    assert_int_equal(null_record_now.buffers, 0);
    assert_int_equal(null_record_now.bytes, 0);
}

static inline int fixture_setup(void **state)
{
    static fixture f;
    memset(&f, 0, sizeof f);
    null_reset();
    fixture_open(&f, &null_backend);
    assert_int_equal(skim_cache_create(f.queue, &f.options, &f.cache), SKIM_OK);
    assert_int_equal(skim_cache_prepare(f.cache, NULL), SKIM_OK);
    *state = &f;
    return 0;
}

static inline int fixture_teardown(void **state)
{
    fixture_close(*state);
    return 0;
}

// A step with one sequence; appends every layer.
static inline skim_step *fixture_begin(fixture *f, skim_sequence *sequence, uint32_t tokens)
{
    skim_step *step = NULL;
    skim_step_entry entry = {sequence, tokens};
    assert_int_equal(skim_step_begin(f->cache, &entry, 1, &step), SKIM_OK);
    return step;
}

static inline void fixture_append_all(fixture *f, skim_step *step)
{
    skim_tensor k = skim_tensor_host(f->k, SKIM_F32);
    for (uint32_t i = 0; i < f->options.layer_count; i++)
        assert_int_equal(skim_step_append(step, i, &k, &k), SKIM_OK);
}

static inline void fixture_grow(fixture *f, skim_sequence *sequence, uint32_t tokens)
{
    while (tokens > 0) {
        uint32_t part = tokens < STEP_TOKENS ? tokens : STEP_TOKENS;
        skim_step *step = fixture_begin(f, sequence, part);
        fixture_append_all(f, step);
        assert_int_equal(skim_step_end(step, NULL), SKIM_OK);
        tokens -= part;
    }
}

static inline skim_step_attend_args fixture_attend(fixture *f)
{
    return (skim_step_attend_args){.size_of = sizeof(skim_step_attend_args),
                                   .q = skim_tensor_host(f->q, SKIM_F32),
                                   .out = skim_tensor_host(f->out, SKIM_F32)};
}

#endif
