// What the cases share: the table, the context of a running case, memory, randomness, and verdicts.
#ifndef SUITE_H
#define SUITE_H

#include "conformance.h"
#include "reference.h"
#include "skim/skim.h"

#define EPSILON32 0x1p-24 // of f32 rounding to nearest
#define PRINTF(text, first) __attribute__((format(printf, text, first)))

typedef enum data_kind {
    DATA_NOISE,   // independent N(0, 1)
    DATA_CLUSTER, // keys around centres that change every few tokens, queries near one of them
    DATA_DRIFT,   // a slow random walk with biased channels
    DATA_INTEGER, // small integers: scores are exact in f32 and often equal
    DATA_UNIFORM, // K = 0 and V one-hot by token class: out * count is a vector of integers
    DATA_NEEDLE   // each key answers one query alone, V tells the token
} data_kind;

typedef enum pool_layout {
    LAYOUT_SKIM,   // [slot][head][K, then V: token][dim], one buffer
    LAYOUT_TOKENS, // [slot][token][head][dim], K and V in two buffers
    LAYOUT_PADDED, // [slot][head][token][dim + 8] and gaps between heads and pages, two buffers
    LAYOUT_MIXED   // [slot][token][head][K, V], one buffer
} pool_layout;

typedef enum placement {
    PLACE_HOST,
    PLACE_HOST_STRIDED,
    PLACE_BUFFER,
    PLACE_BUFFER_STRIDED
} placement;

typedef enum batch_kind {
    BATCH_ONE,    // one sequence
    BATCH_DECODE, // several, one token each, lengths at all sorts of boundaries
    BATCH_MIXED,  // prefill, decode, dense, sparse and idle rows
    BATCH_SHARED, // several that share their first pages
    BATCH_MANY    // more than backends keep partial results of at once
} batch_kind;

// A case's parameters. Not every verb looks at every field.
typedef struct params {
    skim_type kv, q, out;
    uint32_t dim, page, group, kv_heads;
    uint32_t length;  // tokens of the first sequence
    uint32_t queries; // its new tokens in the last call
    uint32_t chunk;   // most tokens appended at once before that; 0: all
    uint32_t budget;
    double fraction;
    skim_bounds bounds;
    skim_bounds_type bounds_type;
    skim_select_mode select;
    skim_combine combine;
    float spread;
    uint32_t sinks, recent;
    float scale; // 0: the default
    data_kind data;
    pool_layout layout;
    placement place;
    batch_kind batch;
    bool lse;
    uint32_t variant; // of the case's own meaning
} params;

typedef struct context context;
typedef void case_run(context *ctx, const params *p);

typedef struct test_case {
    char name[120];
    const char *verb;
    bool quick;
    case_run *run;
    params p;
} test_case;

// The table: each cases_*.c adds its own.
typedef struct case_table {
    test_case *cases;
    size_t count, capacity;
} case_table;

// Adds a case named verb/<what of the parameters is not the default>; a second of that name is
// dropped.
void add_case(case_table *table, const char *verb, bool quick, case_run *run, const params *p);
// Adds every case from first on once more with int8 bounds, of the quick ones every so manieth as
// quick.
void add_i8_twins(case_table *table, size_t first, uint32_t quick_every);
params default_params(void);
void add_append_cases(case_table *table);
void add_estimate_cases(case_table *table);
void add_select_cases(case_table *table);
void add_attend_cases(case_table *table);
void add_pipeline_cases(case_table *table);
void add_step_cases(case_table *table);
void add_sequence_cases(case_table *table);
void add_scenario_cases(case_table *table);
void add_exact_cases(case_table *table);
void add_policy_cases(case_table *table);
void add_pool_cases(case_table *table);
void add_i8_cases(case_table *table);
void build_table(case_table *table);

// Axes that several verbs walk, and element i of one, round and round.
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define PICK(array, i) ((array)[(i) % COUNT_OF(array)])
extern const skim_type all_types[3];
extern const uint32_t all_pages[4];
extern const uint32_t all_dims[16];
extern const uint32_t all_groups[8];
extern const uint32_t all_kv_heads[5];
extern const skim_combine all_combines[4];
extern const data_kind real_data[3];

// A case that runs. Memory and objects taken through it are freed when the case ends.
struct context {
    const conformance_options *options;
    skim_runtime *runtime;
    skim_device *device;
    skim_limits limits;
    skim_queue *queue; // a fresh one per case
    uint64_t random;   // state
    bool failed, skipped;
    char detail[512];
    void **blocks;
    size_t block_count, block_capacity;
    skim_buffer **buffers;
    size_t buffer_count, buffer_capacity;
    skim_cache *cache; // destroyed at the end if a case leaves it
};

// The first failure of a case is kept. All return false, or whether the condition held.
bool fail(context *ctx, const char *format, ...) PRINTF(2, 3);
bool skip(context *ctx, const char *format, ...) PRINTF(2, 3);
bool check(context *ctx, bool condition, const char *format, ...) PRINTF(3, 4);
// A status that must be OK; says the call and the queue's, cache's or device's error.
bool ok(context *ctx, skim_status status, const char *call);

// Zeroed memory until the end of the case; ends the program when there is none.
void *take(context *ctx, size_t count, size_t size);
// A device buffer until the end of the case; NULL after a failure.
skim_buffer *take_buffer(context *ctx, uint64_t size);
// Ends the case's device objects early and gives a fresh queue.
bool renew_queue(context *ctx);
void release_objects(context *ctx);
void release_case(context *ctx);

// Deterministic randomness.
uint64_t hash_text(const char *text, uint64_t seed);
uint32_t random_u32(context *ctx);
uint32_t random_below(context *ctx, uint32_t limit);
double random_unit(context *ctx);
double random_normal(context *ctx);
void shuffle(context *ctx, uint32_t *values, uint32_t count);

static inline uint32_t ceil_div(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

static inline uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static inline uint32_t max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

#endif
