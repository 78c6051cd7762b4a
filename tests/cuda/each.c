// Every kernel that is built for a type, a head's dimension and a group, through the cache: a
// prompt, then steps that select, held against the CPU's results. What the conformance suite's
// shapes miss.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "skim/skim.h"

#include <stdbool.h>
#include <string.h>

enum { KV_HEADS = 2, PAGE = 16, PROMPT = 70, STEPS = 2, LENGTH = PROMPT + STEPS, DIM_MAX = 256 };
enum { HEADS_MAX = 16 };

typedef struct shape {
    skim_type type;
    uint32_t dim, group;
    skim_bounds bounds;
    skim_bounds_type bounds_type;
    skim_select_mode select;
    bool narrow; // queries and results have the type, too: tensor cores may be used
} shape;

// The same numbers in the shape's type on both devices.
typedef struct tensors {
    float k[LENGTH * KV_HEADS * DIM_MAX], v[LENGTH * KV_HEADS * DIM_MAX];
    float q[LENGTH * HEADS_MAX * DIM_MAX], out[LENGTH * HEADS_MAX * DIM_MAX];
    uint16_t halves[2][LENGTH * KV_HEADS * DIM_MAX];
    uint16_t queries[LENGTH * HEADS_MAX * DIM_MAX], results[LENGTH * HEADS_MAX * DIM_MAX];
} tensors;

static float noise(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) / 8388608.0f - 1.0f;
}

// Exact in every type: eighths up to 2.
static float coarse(float x)
{
    return roundf(x * 8) / 8;
}

static uint16_t to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static uint16_t to_f16(float x)
{
    if (x == 0)
        return 0;
    int exponent;
    const float fraction = frexpf(fabsf(x), &exponent);
    return (uint16_t)((x < 0 ? 0x8000 : 0) | (exponent + 14) << 10 |
                      ((uint32_t)(fraction * 2048) & 1023));
}

static float from_half(uint16_t half, skim_type type)
{
    const uint32_t bits = (uint32_t)half << 16;
    const int exponent = half >> 10 & 31;
    float x;
    memcpy(&x, &bits, sizeof x);
    if (type == SKIM_F16)
        x = ldexpf((float)((half & 1023) + (exponent ? 1024 : 0)), (exponent ? exponent : 1) - 25) *
            (half & 0x8000 ? -1.0f : 1.0f);
    return x;
}

// Pages differ by how far their keys go along the queries, so that rounding changes no choice.
static void fill(tensors *t, const shape *of)
{
    uint32_t state = of->dim * 7 + of->group;
    for (uint32_t token = 0; token < LENGTH; token++)
        for (uint32_t i = 0; i < KV_HEADS * of->dim; i++) {
            const float reach = (float)((token / PAGE * 3) % 5) * 0.375f;
            const size_t at = (size_t)token * KV_HEADS * of->dim + i;
            t->k[at] = coarse((i % 2 ? reach : -reach) + noise(&state) * 0.25f);
            t->v[at] = coarse(noise(&state));
            t->halves[0][at] = of->type == SKIM_F16 ? to_f16(t->k[at]) : to_bf16(t->k[at]);
            t->halves[1][at] = of->type == SKIM_F16 ? to_f16(t->v[at]) : to_bf16(t->v[at]);
        }
    const uint32_t heads = KV_HEADS * of->group;
    for (size_t i = 0; i < (size_t)LENGTH * heads * of->dim; i++) {
        t->q[i] = (i % 2 ? 0.25f : -0.25f) + noise(&state) * 0.0625f;
        t->queries[i] = of->type == SKIM_F16 ? to_f16(t->q[i]) : to_bf16(t->q[i]);
    }
}

static void step(skim_cache *cache, skim_queue *queue, skim_sequence *sequence, const shape *of,
                 tensors *t, uint32_t first, uint32_t count)
{
    const uint32_t heads = KV_HEADS * of->group;
    const size_t at = (size_t)first * KV_HEADS * of->dim, query = (size_t)first * heads * of->dim;
    const skim_step_entry entry = {.sequence = sequence, .tokens = count};
    const bool wide = of->type == SKIM_F32;
    const skim_tensor k =
        skim_tensor_host(wide ? (void *)&t->k[at] : (void *)&t->halves[0][at], of->type);
    const skim_tensor v =
        skim_tensor_host(wide ? (void *)&t->v[at] : (void *)&t->halves[1][at], of->type);
    const skim_step_attend_args attend = {
        .size_of = sizeof attend,
        .q = of->narrow ? skim_tensor_host(&t->queries[query], of->type)
                        : skim_tensor_host(&t->q[query], SKIM_F32),
        .out = of->narrow ? skim_tensor_host(&t->results[query], of->type)
                          : skim_tensor_host(&t->out[query], SKIM_F32)};
    skim_step *open = NULL;
    assert_int_equal(skim_step_begin(cache, &entry, 1, &open), SKIM_OK);
    assert_int_equal(skim_step_append(open, 0, &k, &v), SKIM_OK);
    assert_int_equal(skim_step_attend(open, 0, &attend), SKIM_OK);
    assert_int_equal(skim_step_end(open, NULL), SKIM_OK);
    assert_int_equal(skim_queue_finish(queue), SKIM_OK);
}

static void run(const char *selector, const shape *of, tensors *t)
{
    skim_runtime *runtime;
    skim_device *device;
    skim_queue *queue;
    skim_cache *cache;
    skim_sequence *sequence;
    assert_int_equal(skim_runtime_create(NULL, &runtime), SKIM_OK);
    assert_int_equal(skim_device_open(runtime, selector, NULL, &device), SKIM_OK);
    assert_int_equal(skim_queue_create(device, &queue), SKIM_OK);
    const skim_layer layer = {.size_of = sizeof layer,
                              .q_heads = KV_HEADS * of->group,
                              .kv_heads = KV_HEADS,
                              .key_dim = of->dim,
                              .type = of->type};
    skim_policy policy = skim_policy_defaults();
    policy.budget = 2 * PAGE;
    policy.dense_layers = 0;
    policy.select = of->select;
    const skim_cache_options options = {.size_of = sizeof options,
                                        .layers = &layer,
                                        .layer_count = 1,
                                        .capacity = 128,
                                        .bounds = of->bounds,
                                        .bounds_type = of->bounds_type,
                                        .policy = &policy};
    assert_int_equal(skim_cache_create(queue, &options, &cache), SKIM_OK);
    assert_int_equal(skim_sequence_create(cache, &sequence), SKIM_OK);
    memset(t->out, 0, sizeof t->out);
    step(cache, queue, sequence, of, t, 0, PROMPT);
    for (uint32_t i = 0; i < STEPS; i++)
        step(cache, queue, sequence, of, t, PROMPT + i, 1);
    assert_int_equal(skim_sequence_destroy(sequence), SKIM_OK);
    skim_cache_destroy(cache);
    skim_queue_destroy(queue);
    skim_device_close(device);
    skim_runtime_destroy(runtime);
}

static void compare(const shape *of)
{
    static tensors cpu, cuda;
    fill(&cpu, of);
    fill(&cuda, of);
    run("cpu", of, &cpu);
    run("cuda", of, &cuda);
    const size_t count = (size_t)LENGTH * KV_HEADS * of->group * of->dim;
    for (size_t i = 0; i < count; i++)
        if (!(fabsf(cpu.out[i] - cuda.out[i]) <= 1e-5f))
            fail_msg(
                "type %d, dim %u, group %u, bounds %d/%d, select %d: element %zu is %g, should "
                "be %g",
                (int)of->type, of->dim, of->group, (int)of->bounds, (int)of->bounds_type,
                (int)of->select, i, (double)cuda.out[i], (double)cpu.out[i]);
}

// Relative to the size of each token's result, as the conformance suite does it.
static void compare_narrow(const shape *of)
{
    static tensors cpu, cuda;
    fill(&cpu, of);
    fill(&cuda, of);
    run("cpu", of, &cpu);
    run("cuda", of, &cuda);
    const uint32_t of_token = KV_HEADS * of->group * of->dim;
    const double limit = of->type == SKIM_F16 ? 1e-6 : 1e-4;
    for (uint32_t token = 0; token < LENGTH; token++) {
        double wrong = 0, size = 0;
        for (uint32_t i = 0; i < of_token; i++) {
            const size_t at = (size_t)token * of_token + i;
            const double expected = (double)from_half(cpu.results[at], of->type);
            const double error = (double)from_half(cuda.results[at], of->type) - expected;
            wrong += error * error;
            size += expected * expected;
        }
        if (!(wrong <= limit * size))
            fail_msg("type %d, dim %u, group %u: token %u has NMSE %g", (int)of->type, of->dim,
                     of->group, token, wrong / size);
    }
}

static void test_16_bit_queries_and_results_are_as_on_the_cpu(void **state)
{
    (void)state;
    const skim_type types[] = {SKIM_F16, SKIM_BF16};
    const uint32_t dims[] = {64, 128, 256}, groups[] = {1, 4, 5};
    for (int t = 0; t < 2; t++)
        for (int d = 0; d < 3; d++)
            for (int g = 0; g < 3; g++)
                compare_narrow(&(shape){.type = types[t],
                                        .dim = dims[d],
                                        .group = groups[g],
                                        .select = SKIM_SELECT_GROUP,
                                        .narrow = true});
}

// A short sequence, which is dense, alone and beside a long one, which is not.
static void attend_short(bool beside, float *out)
{
    enum { GROUP = 8, DIM = 128, HEADS = GROUP * KV_HEADS, LONG = 64, SHORT = 20 };
    static float k[LONG * KV_HEADS * DIM], q[2 * HEADS * DIM], results[LONG * HEADS * DIM];
    skim_runtime *runtime;
    skim_device *device;
    skim_queue *queue;
    skim_cache *cache;
    skim_sequence *sequences[2];
    uint32_t state = 77;
    for (size_t i = 0; i < sizeof k / sizeof *k; i++)
        k[i] = noise(&state);
    for (size_t i = 0; i < sizeof q / sizeof *q; i++)
        q[i] = noise(&state);
    assert_int_equal(skim_runtime_create(NULL, &runtime), SKIM_OK);
    assert_int_equal(skim_device_open(runtime, "cuda", NULL, &device), SKIM_OK);
    assert_int_equal(skim_queue_create(device, &queue), SKIM_OK);
    const skim_layer layer = {.size_of = sizeof layer,
                              .q_heads = HEADS,
                              .kv_heads = KV_HEADS,
                              .key_dim = DIM,
                              .type = SKIM_F32};
    skim_policy policy = skim_policy_defaults();
    policy.budget = 2 * PAGE;
    policy.dense_layers = 0;
    policy.select = SKIM_SELECT_HEAD;
    const skim_cache_options options = {.size_of = sizeof options,
                                        .layers = &layer,
                                        .layer_count = 1,
                                        .capacity = 256,
                                        .max_sequences = 2,
                                        .policy = &policy};
    assert_int_equal(skim_cache_create(queue, &options, &cache), SKIM_OK);
    const uint32_t lengths[] = {SHORT, LONG};
    for (int s = 0; s < 2; s++) {
        skim_step *step = NULL;
        assert_int_equal(skim_sequence_create(cache, &sequences[s]), SKIM_OK);
        const skim_step_entry entry = {.sequence = sequences[s], .tokens = lengths[s]};
        const skim_tensor keys = skim_tensor_host(k, SKIM_F32);
        assert_int_equal(skim_step_begin(cache, &entry, 1, &step), SKIM_OK);
        assert_int_equal(skim_step_append(step, 0, &keys, &keys), SKIM_OK);
        assert_int_equal(skim_step_end(step, NULL), SKIM_OK);
    }
    skim_step *step = NULL;
    const skim_step_entry entries[] = {{.sequence = sequences[0], .tokens = 1},
                                       {.sequence = sequences[1], .tokens = 1}};
    const skim_tensor keys = skim_tensor_host(k, SKIM_F32);
    const skim_step_attend_args args = {.size_of = sizeof args,
                                        .q = skim_tensor_host(q, SKIM_F32),
                                        .out = skim_tensor_host(results, SKIM_F32)};
    assert_int_equal(skim_step_begin(cache, entries, beside ? 2 : 1, &step), SKIM_OK);
    assert_int_equal(skim_step_append(step, 0, &keys, &keys), SKIM_OK);
    assert_int_equal(skim_step_attend(step, 0, &args), SKIM_OK);
    assert_int_equal(skim_step_end(step, NULL), SKIM_OK);
    assert_int_equal(skim_queue_finish(queue), SKIM_OK);
    memcpy(out, results, HEADS * DIM * sizeof *out);
    for (int s = 0; s < 2; s++)
        assert_int_equal(skim_sequence_destroy(sequences[s]), SKIM_OK);
    skim_cache_destroy(cache);
    skim_queue_destroy(queue);
    skim_device_close(device);
    skim_runtime_destroy(runtime);
}

static void test_a_dense_row_has_the_same_bits_beside_a_sparse_one(void **state)
{
    (void)state;
    static float alone[HEADS_MAX * DIM_MAX], beside[HEADS_MAX * DIM_MAX];
    attend_short(false, alone);
    attend_short(true, beside);
    assert_true(alone[0] != 0);
    assert_memory_equal(alone, beside, sizeof alone);
}

static void compare_all(skim_type type)
{
    const uint32_t dims[] = {64, 128, 256, 72}, groups[] = {1, 4, 8};
    for (int d = 0; d < 4; d++)
        for (int g = 0; g < 3; g++)
            for (int stored = 0; stored < 2; stored++)
                compare(
                    &(shape){.type = type,
                             .dim = dims[d],
                             .group = groups[g],
                             .bounds = (d + g) % 2 ? SKIM_BOUNDS_MEANSTD : SKIM_BOUNDS_MINMAX,
                             .bounds_type = stored ? SKIM_BOUNDS_I8 : SKIM_BOUNDS_NATIVE,
                             .select = g == 2 || stored ? SKIM_SELECT_GROUP : SKIM_SELECT_HEAD});
}

static void test_f32_is_as_on_the_cpu(void **state)
{
    (void)state;
    compare_all(SKIM_F32);
}

static void test_f16_is_as_on_the_cpu(void **state)
{
    (void)state;
    compare_all(SKIM_F16);
}

static void test_bf16_is_as_on_the_cpu(void **state)
{
    (void)state;
    compare_all(SKIM_BF16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32_is_as_on_the_cpu),
        cmocka_unit_test(test_f16_is_as_on_the_cpu),
        cmocka_unit_test(test_bf16_is_as_on_the_cpu),
        cmocka_unit_test(test_a_dense_row_has_the_same_bits_beside_a_sparse_one),
        cmocka_unit_test(test_16_bit_queries_and_results_are_as_on_the_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
