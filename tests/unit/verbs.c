// Tier 2 over the null backend: bad arguments of each verb, and the staging of host tensors.
#include "tests/unit/fixture.h"

#include "runtime/queue.h"

#include <math.h>

enum { SLOTS = 8, PAGES_MAX = 6, ROWS = 2, HEADS = 4, KV = 2, DIM = 64 };

// Everything a verb needs, right; cases spoil one thing each.
typedef struct verb_args {
    skim_shape shape;
    skim_row rows[ROWS];
    uint32_t table[2 * PAGES_MAX];
    skim_append_args append;
    skim_estimate_args estimate;
    skim_select_args select;
    skim_attend_args attend;
} verb_args;

typedef struct verbs {
    fixture f;
    skim_buffer *pages, *bounds, *scores, *lists, *foreign;
    skim_device *other_device;
    verb_args good, args;
} verbs;

static verbs v;

static skim_paged paged(uint64_t offset)
{
    return (skim_paged){.buffer = v.pages,
                        .offset = offset,
                        .page_stride = KV * PAGE * 2 * DIM,
                        .head_stride = PAGE * 2 * DIM,
                        .token_stride = DIM};
}

static void link_args(verb_args *args)
{
    args->append.shape = args->estimate.shape = args->select.shape = args->attend.shape =
        &args->shape;
    args->append.rows = args->estimate.rows = args->select.rows = args->attend.rows =
        skim_tensor_host(args->rows, SKIM_U32);
    args->append.table = args->estimate.table = args->attend.table =
        skim_tensor_host(args->table, SKIM_U32);
}

static void make_good(verb_args *args)
{
    *args = (verb_args){
        .shape = {.size_of = sizeof args->shape,
                  .q_heads = HEADS,
                  .kv_heads = KV,
                  .key_dim = DIM,
                  .value_dim = DIM,
                  .page_size = PAGE,
                  .type = SKIM_F32,
                  .slots = SLOTS,
                  .max_rows = ROWS,
                  .max_tokens = 4,
                  .max_pages = PAGES_MAX},
        .rows = {{.length = 81,
                  .query_count = 1,
                  .page_count = 6,
                  .select_count = 3,
                  .forced_first = 1,
                  .forced_last = 1},
                 {.length = 20,
                  .query_start = 1,
                  .query_count = 3,
                  .table_start = 6,
                  .page_count = 2,
                  .select_count = 3,
                  .forced_last = 1,
                  .flags = SKIM_ROW_DENSE}},
        .table = {7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0},
        .append = {.size_of = sizeof args->append,
                   .row_count = ROWS,
                   .token_count = 4,
                   .table_count = 12,
                   .k = skim_tensor_host(v.f.k, SKIM_F32),
                   .v = skim_tensor_host(v.f.k, SKIM_F32),
                   .keys = paged(0),
                   .values = paged(PAGE * DIM * 4),
                   .bounds = v.bounds},
        .estimate = {.size_of = sizeof args->estimate,
                     .row_count = ROWS,
                     .token_count = 4,
                     .table_count = 12,
                     .q = skim_tensor_host(v.f.q, SKIM_F32),
                     .bounds = v.bounds,
                     .spread = 1.0f,
                     .scores = v.scores,
                     .score_stride = PAGES_MAX},
        .select = {.size_of = sizeof args->select,
                   .row_count = ROWS,
                   .scores = v.scores,
                   .score_stride = PAGES_MAX,
                   .lists = v.lists,
                   .list_stride = PAGES_MAX},
        .attend = {.size_of = sizeof args->attend,
                   .row_count = ROWS,
                   .token_count = 4,
                   .table_count = 12,
                   .q = skim_tensor_host(v.f.q, SKIM_F32),
                   .keys = paged(0),
                   .values = paged(PAGE * DIM * 4),
                   .lists = v.lists,
                   .list_stride = PAGES_MAX,
                   .out = skim_tensor_host(v.f.out, SKIM_F32)},
    };
}

static int setup_verbs(void **state)
{
    (void)state;
    memset(&v, 0, sizeof v);
    null_reset();
    fixture_open(&v.f, &null_backend);
    assert_int_equal(skim_device_open(v.f.runtime, "null", NULL, &v.other_device), SKIM_OK);
    skim_device *device = v.f.device;
    uint64_t lists = ROWS * HEADS * PAGES_MAX * 4;
    assert_int_equal(skim_buffer_create(device, SLOTS * KV * PAGE * 2 * DIM * 4, &v.pages),
                     SKIM_OK);
    assert_int_equal(skim_buffer_create(device, SLOTS * KV * 2 * DIM * 4, &v.bounds), SKIM_OK);
    assert_int_equal(skim_buffer_create(device, lists, &v.scores), SKIM_OK);
    assert_int_equal(skim_buffer_create(device, lists, &v.lists), SKIM_OK);
    assert_int_equal(skim_buffer_create(v.other_device, 1 << 20, &v.foreign), SKIM_OK);
    make_good(&v.good);
    assert_int_equal(skim_queue_prepare(v.f.queue, &v.good.shape), SKIM_OK);
    return 0;
}

static int teardown_verbs(void **state)
{
    (void)state;
    skim_buffer_destroy(v.pages);
    skim_buffer_destroy(v.bounds);
    skim_buffer_destroy(v.scores);
    skim_buffer_destroy(v.lists);
    skim_buffer_destroy(v.foreign);
    skim_device_close(v.other_device);
    fixture_close(&v.f);
    return 0;
}

enum { APPEND = 1, ESTIMATE = 2, SELECT = 4, ATTEND = 8, ALL = 15 };

static skim_status call(int verb)
{
    switch (verb) {
    case APPEND:
        return skim_append(v.f.queue, &v.args.append);
    case ESTIMATE:
        return skim_estimate(v.f.queue, &v.args.estimate);
    case SELECT:
        return skim_select(v.f.queue, &v.args.select);
    default:
        return skim_attend(v.f.queue, &v.args.attend);
    }
}

#define EVERY(field, value)                                                                        \
    args->append.field = args->estimate.field = args->select.field = args->attend.field = (value)
#define TABLED(field, value)                                                                       \
    args->append.field = args->estimate.field = args->attend.field = (value)
#define SPOILS(X)                                                                                  \
    X(ALL, EVERY(size_of, 8), SKIM_INVALID)                                                        \
    X(ALL, EVERY(shape, NULL), SKIM_INVALID)                                                       \
    X(ALL, args->shape.size_of = 0, SKIM_INVALID)                                                  \
    X(ALL, args->shape.page_size = 7, SKIM_INVALID)                                                \
    X(ALL, args->shape.page_size = 32, SKIM_STATE)                                                 \
    X(ALL, args->shape.key_dim = args->shape.value_dim = 128, SKIM_STATE)                          \
    X(ALL, args->shape.value_dim = 32, SKIM_UNSUPPORTED)                                           \
    X(ALL, args->shape.type = SKIM_F16, SKIM_STATE)                                                \
    X(ALL, args->shape.bounds = SKIM_BOUNDS_MEANSTD, SKIM_STATE)                                   \
    X(ALL, args->shape.bounds_type = SKIM_BOUNDS_I8, SKIM_STATE)                                   \
    X(ALL, args->shape.bounds_type = (skim_bounds_type)2, SKIM_INVALID)                            \
    X(ALL, args->shape.slots = 0, SKIM_INVALID)                                                    \
    X(ALL, args->shape.slots = 9, SKIM_STATE)                                                      \
    X(ALL, args->shape.max_pages = UINT32_MAX, SKIM_UNSUPPORTED)                                   \
    X(ALL, args->shape.max_tokens = 0, SKIM_INVALID)                                               \
    X(ALL, args->shape.q_heads = 0, SKIM_INVALID)                                                  \
    X(ALL, EVERY(row_count, 0), SKIM_INVALID)                                                      \
    X(ALL, EVERY(row_count, 3), SKIM_INVALID)                                                      \
    X(ALL, EVERY(rows.data, NULL), SKIM_INVALID)                                                   \
    X(ALL, EVERY(rows.type, SKIM_F32), SKIM_INVALID)                                               \
    X(ALL, EVERY(rows.offset, 2), SKIM_INVALID)                                                    \
    X(ALL, EVERY(rows.token_stride, 13), SKIM_INVALID)                                             \
    X(ALL, EVERY(rows.buffer, v.foreign), SKIM_INVALID)                                            \
    X(ALL, args->rows[0].page_count = 5, SKIM_INVALID)                                             \
    X(ALL, args->rows[0].flags = 4, SKIM_INVALID)                                                  \
    X(ALL, args->rows[1].reserved[2] = 1, SKIM_INVALID)                                            \
    X(ALL, args->rows[0].query_count = 82, SKIM_INVALID)                                           \
    X(ALL, (args->rows[0].length = 97, args->rows[0].page_count = 7), SKIM_INVALID)                \
    X(ALL & ~APPEND, args->rows[1].flags = 0, SKIM_INVALID)                                        \
    X(ALL & ~SELECT, TABLED(token_count, 5), SKIM_INVALID)                                         \
    X(ALL & ~SELECT, TABLED(token_count, 3), SKIM_INVALID)                                         \
    X(ALL & ~SELECT, TABLED(table_count, 0), SKIM_INVALID)                                         \
    X(ALL & ~SELECT, TABLED(table_count, 7), SKIM_INVALID)                                         \
    X(ALL & ~SELECT, TABLED(table.data, NULL), SKIM_INVALID)                                       \
    X(ALL & ~SELECT, TABLED(table.token_stride, 2), SKIM_INVALID)                                  \
    X(ALL & ~SELECT, args->table[3] = SLOTS, SKIM_INVALID)                                         \
    X(ALL & ~SELECT, args->rows[0].table_start = 7, SKIM_INVALID)                                  \
    X(ALL & ~SELECT, args->rows[0].table_start = UINT32_MAX, SKIM_INVALID)                         \
    X(ALL & ~SELECT, args->rows[1].query_start = 2, SKIM_INVALID)                                  \
    X(ALL & ~SELECT, args->rows[1].query_start = UINT32_MAX, SKIM_INVALID)                         \
    X(ESTIMATE | SELECT, args->rows[0].select_count = 1, SKIM_INVALID)                             \
    X(ESTIMATE | SELECT, args->rows[0].forced_last = 0, SKIM_INVALID)                              \
    X(ESTIMATE | SELECT,                                                                           \
      (args->rows[0].select_count = args->rows[0].forced_first = args->rows[0].forced_last = 0),   \
      SKIM_INVALID)                                                                                \
    X(ATTEND, args->rows[0].select_count = 0, SKIM_OK)                                             \
    X(SELECT | ATTEND, (args->select.list_stride = args->attend.list_stride = 2), SKIM_INVALID)    \
    X(SELECT | ATTEND, (args->select.list_stride = args->attend.list_stride = 0), SKIM_INVALID)    \
    X(SELECT | ATTEND, (args->select.list_stride = args->attend.list_stride = UINT64_MAX),         \
      SKIM_INVALID)                                                                                \
    X(SELECT | ATTEND, (args->select.list_stride = args->attend.list_stride = 1 << 20),            \
      SKIM_INVALID)                                                                                \
    X(SELECT | ATTEND, (args->select.lists_offset = args->attend.lists_offset = 16), SKIM_OK)      \
    X(SELECT | ATTEND,                                                                             \
      (args->select.lists_offset = args->attend.lists_offset = 16,                                 \
       args->select.select = args->attend.select = SKIM_SELECT_HEAD),                              \
      SKIM_INVALID)                                                                                \
    X(SELECT | ATTEND, (args->select.lists_offset = args->attend.lists_offset = 4), SKIM_INVALID)  \
    X(SELECT | ATTEND, (args->select.select = args->attend.select = (skim_select_mode)3),          \
      SKIM_INVALID)                                                                                \
    X(SELECT | ATTEND, (args->select.scale = args->attend.scale = NAN), SKIM_INVALID)              \
    X(SELECT | ATTEND, (args->select.scale = args->attend.scale = -1.0f), SKIM_INVALID)            \
    X(SELECT, args->select.lists = NULL, SKIM_INVALID)                                             \
    X(SELECT, args->select.combine = (skim_combine)5, SKIM_INVALID)                                \
    X(ATTEND, args->attend.lists = NULL, SKIM_INVALID)                                             \
    X(ESTIMATE | SELECT, (args->estimate.scores = args->select.scores = NULL), SKIM_INVALID)       \
    X(ESTIMATE | SELECT, (args->estimate.score_stride = args->select.score_stride = 5),            \
      SKIM_INVALID)                                                                                \
    X(ESTIMATE | SELECT, (args->estimate.score_stride = args->select.score_stride = 7),            \
      SKIM_INVALID)                                                                                \
    X(ESTIMATE | SELECT, (args->estimate.score_stride = args->select.score_stride = UINT64_MAX),   \
      SKIM_INVALID)                                                                                \
    X(ESTIMATE | SELECT, (args->estimate.scores_offset = args->select.scores_offset = 16),         \
      SKIM_INVALID)                                                                                \
    X(ESTIMATE, args->estimate.spread = -1.0f, SKIM_INVALID)                                       \
    X(ESTIMATE, args->estimate.spread = INFINITY, SKIM_INVALID)                                    \
    X(ESTIMATE, args->estimate.token_count = 0, SKIM_INVALID)                                      \
    X(ATTEND, args->attend.token_count = 0, SKIM_INVALID)                                          \
    X(ESTIMATE | APPEND, (args->estimate.bounds = args->append.bounds = NULL), SKIM_INVALID)       \
    X(ESTIMATE | APPEND, (args->estimate.bounds_offset = args->append.bounds_offset = 64),         \
      SKIM_INVALID)                                                                                \
    X(ESTIMATE | APPEND, (args->estimate.bounds_offset = args->append.bounds_offset = 32),         \
      SKIM_INVALID)                                                                                \
    X(APPEND | ATTEND, (args->append.keys.buffer = args->attend.keys.buffer = NULL), SKIM_INVALID) \
    X(APPEND | ATTEND, (args->append.keys.buffer = args->attend.keys.buffer = v.foreign),          \
      SKIM_INVALID)                                                                                \
    X(APPEND | ATTEND, (args->append.values.offset = args->attend.values.offset += 16),            \
      SKIM_INVALID)                                                                                \
    X(APPEND | ATTEND, (args->append.keys.offset = args->attend.keys.offset = 8), SKIM_INVALID)    \
    X(APPEND | ATTEND, (args->append.keys.token_stride = args->attend.keys.token_stride = 56),     \
      SKIM_INVALID)                                                                                \
    X(APPEND | ATTEND, (args->append.keys.token_stride = args->attend.keys.token_stride = 68),     \
      SKIM_INVALID)                                                                                \
    X(APPEND | ATTEND, (args->append.keys.head_stride = args->attend.keys.head_stride = 0),        \
      SKIM_INVALID)                                                                                \
    X(APPEND | ATTEND,                                                                             \
      (args->append.keys.page_stride = args->attend.keys.page_stride = UINT64_MAX / 16 * 8),       \
      SKIM_INVALID)                                                                                \
    X(APPEND, args->append.k.type = SKIM_F16, SKIM_INVALID)                                        \
    X(APPEND, args->append.v.data = NULL, SKIM_INVALID)                                            \
    X(APPEND, args->append.token_count = 0, SKIM_INVALID)                                          \
    X(APPEND, args->append.k.type = SKIM_TYPE_NONE, SKIM_INVALID)                                  \
    X(APPEND, args->append.v.type = SKIM_TYPE_NONE, SKIM_INVALID)                                  \
    X(APPEND, (args->append.k.type = args->append.v.type = SKIM_TYPE_NONE), SKIM_OK)               \
    X(APPEND | ESTIMATE, (args->append.centre = args->estimate.centre = args->append.bounds),      \
      SKIM_INVALID)                                                                                \
    X(APPEND, args->append.freeze = 1, SKIM_INVALID)                                               \
    X(ESTIMATE | ATTEND, (args->estimate.q.type = args->attend.q.type = SKIM_U32), SKIM_INVALID)   \
    X(ESTIMATE | ATTEND, (args->estimate.q.head_stride = args->attend.q.head_stride = 60),         \
      SKIM_INVALID)                                                                                \
    X(ATTEND, args->attend.out.type = SKIM_TYPE_NONE, SKIM_INVALID)                                \
    X(ATTEND, args->attend.lse = skim_tensor_host(v.f.out, SKIM_BF16), SKIM_INVALID)               \
    X(ATTEND, args->attend.lse = skim_tensor_host(NULL, SKIM_F32), SKIM_INVALID)

static void spoil(int index, verb_args *args, int *verb_set, skim_status *status)
{
    int at = 0;
#define X(set, statement, expected)                                                                \
    if (at++ == index) {                                                                           \
        statement;                                                                                 \
        *verb_set = (set);                                                                         \
        *status = (expected);                                                                      \
        return;                                                                                    \
    }
    SPOILS(X)
#undef X
    *verb_set = 0;
}

static void good_arguments_are_taken(void **state)
{
    (void)state;
    for (int verb = APPEND; verb <= ATTEND; verb <<= 1) {
        v.args = v.good;
        link_args(&v.args);
        assert_int_equal(call(verb), SKIM_OK);
    }
    // What the backend sees is resolved.
    assert_int_equal(null_record_now.attend.select, SKIM_SELECT_GROUP);
    assert_true(null_record_now.attend.scale == 0.125f);
    assert_int_equal(null_record_now.attend.q.token_stride, HEADS * DIM);
    assert_int_equal(null_record_now.attend.q.head_stride, DIM);
    assert_non_null(null_record_now.attend.q.buffer);
    assert_int_equal(null_record_now.rows[1].length, 20);
}

static void each_bad_argument_is_refused_and_nothing_recorded(void **state)
{
    (void)state;
    int count = 0;
    for (int index = 0;; index++) {
        int verb_set = 0;
        skim_status expected = SKIM_OK;
        v.args = v.good;
        link_args(&v.args);
        spoil(index, &v.args, &verb_set, &expected);
        if (verb_set == 0)
            break;
        for (int verb = APPEND; verb <= ATTEND; verb <<= 1) {
            if (!(verb_set & verb))
                continue;
            uint32_t calls = null_record_now.count;
            skim_status status = call(verb);
            if (status != expected)
                print_error("case %d of SPOILS, verb %d\n", index, verb);
            assert_int_equal(status, expected);
            if (expected != SKIM_OK) {
                assert_int_equal(null_record_now.count, calls);
                assert_true(skim_queue_error(v.f.queue, NULL, 0) > 10);
            }
            count++;
        }
    }
    assert_true(count > 150);
    v.args = v.good;
    link_args(&v.args);
    for (int verb = APPEND; verb <= ATTEND; verb <<= 1)
        assert_int_equal(call(verb), SKIM_OK);
}

static void null_arguments_are_refused(void **state)
{
    (void)state;
    uint64_t bytes;
    assert_int_equal(skim_append(v.f.queue, NULL), SKIM_INVALID);
    assert_int_equal(skim_estimate(v.f.queue, NULL), SKIM_INVALID);
    assert_int_equal(skim_select(v.f.queue, NULL), SKIM_INVALID);
    assert_int_equal(skim_attend(v.f.queue, NULL), SKIM_INVALID);
    assert_int_equal(skim_append(NULL, &v.good.append), SKIM_INVALID);
    assert_int_equal(skim_estimate(NULL, &v.good.estimate), SKIM_INVALID);
    assert_int_equal(skim_select(NULL, &v.good.select), SKIM_INVALID);
    assert_int_equal(skim_attend(NULL, &v.good.attend), SKIM_INVALID);
    assert_int_equal(skim_queue_prepare(NULL, &v.good.shape), SKIM_INVALID);
    assert_int_equal(skim_queue_prepare(v.f.queue, NULL), SKIM_INVALID);
    assert_int_equal(skim_bounds_size(NULL, &v.good.shape, &bytes), SKIM_INVALID);
    assert_int_equal(skim_bounds_size(v.f.device, &v.good.shape, NULL), SKIM_INVALID);
    assert_int_equal(skim_bounds_size(v.f.device, NULL, &bytes), SKIM_INVALID);
}

// --- staging

static void host_tensors_may_be_reused_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < STEP_TOKENS * 4 * 64; i++)
        v.f.q[i] = (float)i;
    v.args = v.good;
    link_args(&v.args);
    v.args.attend.q.token_stride = 300; // strided host memory arrives packed
    v.args.attend.q.head_stride = 70;
    assert_int_equal(call(ATTEND), SKIM_OK);
    memset(v.f.q, 0, sizeof v.f.q);
    const skim_tensor *q = &null_record_now.attend.q;
    const float *staged = (const float *)((char *)q->buffer->impl + q->offset);
    assert_int_equal(q->token_stride, HEADS * DIM);
    for (int t = 0; t < 4; t++) {
        for (int h = 0; h < HEADS; h++)
            assert_true(staged[t * HEADS * DIM + h * DIM + 5] == (float)(t * 300 + h * 70 + 5));
    }
}

static void a_device_that_cannot_see_the_host_gets_copies_both_ways(void **state)
{
    (void)state;
    teardown_verbs(NULL);
    memset(&v, 0, sizeof v);
    null_reset();
    null_control_now.unified = false;
    fixture_open(&v.f, &null_backend);
    // Reuse the setup by hand: buffers without a host side.
    assert_int_equal(skim_device_open(v.f.runtime, "null", NULL, &v.other_device), SKIM_OK);
    uint64_t lists = ROWS * HEADS * PAGES_MAX * 4;
    assert_int_equal(skim_buffer_create(v.f.device, SLOTS * KV * PAGE * 2 * DIM * 4, &v.pages),
                     SKIM_OK);
    assert_int_equal(skim_buffer_create(v.f.device, SLOTS * KV * 2 * DIM * 4, &v.bounds), SKIM_OK);
    assert_int_equal(skim_buffer_create(v.f.device, lists, &v.scores), SKIM_OK);
    assert_int_equal(skim_buffer_create(v.f.device, lists, &v.lists), SKIM_OK);
    assert_int_equal(skim_buffer_create(v.other_device, 64, &v.foreign), SKIM_OK);
    make_good(&v.good);
    assert_int_equal(skim_queue_prepare(v.f.queue, &v.good.shape), SKIM_OK);
    v.args = v.good;
    link_args(&v.args);
    memset(null_record_now.calls, 0, sizeof null_record_now.calls);
    v.args.attend.lse = skim_tensor_host(v.f.k, SKIM_F32);
    v.args.attend.out.head_stride = DIM + 8; // padding between heads stays the caller's
    for (int i = 0; i < 4 * HEADS * (DIM + 8); i++)
        v.f.out[i] = -7.0f;
    assert_int_equal(call(ATTEND), SKIM_OK);
    assert_string_equal(null_record_now.calls,
                        "upload upload upload attend download download download download download "
                        "download download download download download download download download "
                        "download download download download ");
    assert_true(v.f.out[DIM] == -7.0f && v.f.out[DIM + 7] == -7.0f);
    assert_true(v.f.out[0] != -7.0f);
    assert_non_null(null_record_now.attend.out.buffer);
}

// Many more bytes than the ring holds: it waits for earlier submissions and never overwrites what
// is still to be read within one.
static void a_full_staging_ring_waits_and_goes_on(void **state)
{
    (void)state;
    uint64_t size = v.f.queue->staging.size;
    v.args = v.good;
    link_args(&v.args);
    uint64_t bytes = null_record_now.bytes;
    for (int i = 0; i < 500; i++) {
        for (int j = 0; j < 8; j++)
            v.f.q[j] = (float)i;
        assert_int_equal(call(ATTEND), SKIM_OK);
        const skim_tensor *q = &null_record_now.attend.q;
        assert_true(*(const float *)((char *)q->buffer->impl + q->offset) == (float)i);
        assert_true(q->offset + 4 * HEADS * DIM * 4 <= size);
        if (i % 3 == 0)
            assert_int_equal(skim_queue_submit(v.f.queue, NULL), SKIM_OK);
    }
    assert_int_equal(null_record_now.bytes, bytes);
    assert_non_null(strstr(null_record_now.calls, "wait"));
}

enum { STAGED_MAX = 64, LONG_TABLE = 12000 };

// What calls have staged and no wait has shown to be read yet.
typedef struct staged_values {
    uint32_t count;
    struct {
        const float *place;
        float value;
        uint64_t point; // of the submission that reads it
    } values[STAGED_MAX];
} staged_values;

static void check_staged(staged_values *staged)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < staged->count; i++) {
        if (staged->values[i].point <= null_record_now.waited)
            continue;
        assert_true(*staged->values[i].place == staged->values[i].value);
        staged->values[kept++] = staged->values[i];
    }
    staged->count = kept;
}

// Calls of many sizes, submissions of many calls, of one, and of none that stages anything.
static void staging_is_not_reused_before_it_was_read(void **state)
{
    (void)state;
    static const uint32_t table_counts[] = {12, 300, 5000, LONG_TABLE}; // the ring has 64 KiB
    static uint32_t long_table[LONG_TABLE];
    static staged_values staged;
    uint32_t random = 7;
    v.args = v.good;
    link_args(&v.args);
    v.args.attend.table = skim_tensor_host(long_table, SKIM_U32);
    for (int i = 0; i < 20000; i++) {
        random = random * 1664525u + 1013904223u;
        if (random >> 31 || staged.count == STAGED_MAX - 1)
            assert_int_equal(skim_queue_submit(v.f.queue, NULL), SKIM_OK);
        if (random >> 29 & 1) {
            assert_int_equal(skim_queue_zero(v.f.queue, v.scores, 0, 64), SKIM_OK);
            assert_int_equal(skim_queue_submit(v.f.queue, NULL), SKIM_OK);
        }
        if (staged.count == STAGED_MAX - 1)
            assert_int_equal(skim_queue_finish(v.f.queue), SKIM_OK);
        v.args.attend.table_count = table_counts[random >> 20 & 3];
        v.f.q[0] = (float)i;
        assert_int_equal(call(ATTEND), SKIM_OK);
        const skim_tensor *q = &null_record_now.attend.q;
        check_staged(&staged);
        staged.values[staged.count].place = (const float *)((char *)q->buffer->impl + q->offset);
        staged.values[staged.count].value = (float)i;
        staged.values[staged.count++].point = v.f.queue->submitted + 1;
    }
}

#define VERB(test) cmocka_unit_test_setup_teardown(test, setup_verbs, teardown_verbs)

int main(void)
{
    const struct CMUnitTest tests[] = {
        VERB(good_arguments_are_taken),
        VERB(each_bad_argument_is_refused_and_nothing_recorded),
        VERB(null_arguments_are_refused),
        VERB(host_tensors_may_be_reused_at_once),
        VERB(a_device_that_cannot_see_the_host_gets_copies_both_ways),
        VERB(a_full_staging_ring_waits_and_goes_on),
        VERB(staging_is_not_reused_before_it_was_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
