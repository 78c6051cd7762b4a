#include "backends/cpu/cpu.h"

#include "runtime/mutant.h"

#include <math.h>
#include <string.h>

static const float LOG2_E = 1.44269504088896341f;
static const float LN_2 = 0.693147180559945309f;

// Rows of a register tile at most: out is padded by so many rows.
enum { ROWS_PAD = 8 };

typedef struct prefill_call {
    const skim_cpu_context *context;
    const skim_attend_args *args;
    const uint64_t *starts;
} prefill_call;

// The rows of a tile are its queries times the group's heads: row = query * group + head. The heads
// of a query see the same keys, so rows side by side do.
typedef struct prefill_scratch {
    float *queries; // [rows][padded]
    float *packed;  // the same, as the kernels read it
    float *keys;    // [keys][padded]
    float *values;
    float *scores; // [keys][score_stride]
    float *out;    // [rows][padded]
    float *max;    // [rows], all four
    float *sum;
    float *alpha;
    float *visible;
} prefill_scratch;

static uint32_t group_of(const skim_shape *shape)
{
    return shape->q_heads / shape->kv_heads;
}

// Queries in a tile: a pure function of the shape.
static uint32_t tile_queries(const skim_shape *shape)
{
    uint32_t queries = SKIM_CPU_PREFILL_ROWS / group_of(shape);
    return queries < 1 ? 1 : queries;
}

static prefill_scratch take_scratch(skim_cpu_arena *arena, const skim_shape *shape)
{
    uint64_t padded = skim_cpu_padded(shape->key_dim);
    uint64_t rows = skim_round_up((uint64_t)tile_queries(shape) * group_of(shape), SKIM_CPU_PAD);
    uint64_t keys = SKIM_CPU_PREFILL_KEYS;
    return (prefill_scratch){
        .queries = skim_cpu_take(arena, rows * padded, sizeof(float)),
        .packed = skim_cpu_take(arena, rows * padded, sizeof(float)),
        .keys = skim_cpu_take(arena, keys * padded, sizeof(float)),
        .values = skim_cpu_take(arena, keys * padded, sizeof(float)),
        .scores = skim_cpu_take(arena, keys * (rows + SKIM_CPU_PAD), sizeof(float)),
        .out = skim_cpu_take(arena, (rows + ROWS_PAD) * padded, sizeof(float)),
        .max = skim_cpu_take(arena, rows, sizeof(float)),
        .sum = skim_cpu_take(arena, rows, sizeof(float)),
        .alpha = skim_cpu_take(arena, rows + SKIM_CPU_PAD, sizeof(float)),
        .visible = skim_cpu_take(arena, rows, sizeof(float)),
    };
}

uint64_t skim_cpu_prefill_worker_size(const skim_shape *shape)
{
    if (shape->max_tokens <= 1)
        return 0;
    skim_cpu_arena arena = {0};
    take_scratch(&arena, shape);
    return arena.used;
}

// One item: some queries of a row for one kv head.
typedef struct prefill_tile {
    const prefill_call *call;
    const skim_row *row;
    uint32_t kv_head;
    uint32_t first_query; // of the row's
    uint32_t queries;
    uint32_t rows;
    uint32_t rows_padded;
    prefill_scratch scratch;
} prefill_tile;

// How many tokens a query of the row sees: itself and all before it.
static uint32_t visible_tokens(const skim_row *row, uint32_t query)
{
    uint32_t visible = row->length - row->query_count + query + 1;
    if (SKIM_MUTANT(attend_not_causal) && visible < row->length)
        visible++;
    if (SKIM_MUTANT(attend_drops_last_token) && query == row->query_count - 1 && visible > 1)
        visible--;
    return visible;
}

// Pages that the tile reads: with the mutant, not the last one.
static uint32_t tile_tokens(const prefill_tile *tile)
{
    uint32_t tokens = visible_tokens(tile->row, tile->first_query + tile->queries - 1);
    uint32_t page_size = tile->call->args->shape->page_size;
    if (SKIM_MUTANT(attend_drops_last_page) && tokens == tile->row->length && tokens > page_size)
        tokens = (tokens - 1) / page_size * page_size;
    return tokens;
}

static void begin_tile(prefill_tile *tile)
{
    const skim_attend_args *args = tile->call->args;
    const skim_shape *shape = args->shape;
    const uint32_t group = group_of(shape);
    const uint32_t padded = skim_cpu_padded(shape->key_dim);
    const skim_cpu_kernels *kernels = tile->call->context->kernels;
    const prefill_scratch *scratch = &tile->scratch;
    float scale = SKIM_MUTANT(attend_wrong_scale) ? 1.0f / (float)shape->key_dim : args->scale;
    for (uint32_t q = 0; q < tile->queries; q++) {
        uint64_t token = (uint64_t)tile->row->query_start + tile->first_query + q;
        kernels->load_rows(
            args->q.type, skim_cpu_element(&args->q, token, (uint64_t)tile->kv_head * group),
            args->q.head_stride * skim_type_size(args->q.type), group, shape->key_dim,
            scale * LOG2_E, scratch->queries + (size_t)q * group * padded);
    }
    kernels->pack_queries(scratch->queries, tile->rows, tile->rows_padded, shape->key_dim, padded,
                          scratch->packed);
    for (uint32_t r = 0; r < tile->rows_padded; r++) {
        scratch->max[r] = -INFINITY;
        scratch->sum[r] = 0;
    }
    memset(scratch->out, 0, ((size_t)tile->rows_padded + ROWS_PAD) * padded * sizeof(float));
}

static uint32_t stored_slot(const prefill_tile *tile, uint32_t page)
{
    if (SKIM_MUTANT(attend_wrong_slot))
        return page % tile->call->args->shape->slots;
    return skim_cpu_table(&tile->call->args->table, tile->row)[page];
}

// Converts tokens first .. first + count - 1 of the row.
static void load_block(const prefill_tile *tile, uint32_t first, uint32_t count)
{
    const skim_attend_args *args = tile->call->args;
    const skim_shape *shape = args->shape;
    const skim_cpu_kernels *kernels = tile->call->context->kernels;
    const size_t size = skim_type_size(shape->type);
    const uint32_t padded = skim_cpu_padded(shape->key_dim);
    const uint32_t kv_head = SKIM_MUTANT(attend_wrong_kv_head) ? 0 : tile->kv_head;
    const char *keys = skim_cpu_paged(&args->keys, shape->type, kv_head);
    const char *values = skim_cpu_paged(&args->values, shape->type, kv_head);
    for (uint32_t n = 0; n < count;) {
        uint32_t page = (first + n) / shape->page_size;
        uint32_t offset = (first + n) % shape->page_size;
        uint32_t tokens = skim_cpu_minimum(shape->page_size - offset, count - n);
        uint64_t slot = stored_slot(tile, page);
        const char *key =
            keys + (slot * args->keys.page_stride + offset * args->keys.token_stride) * size;
        const char *value =
            values + (slot * args->values.page_stride + offset * args->values.token_stride) * size;
        kernels->load_rows(shape->type, key, args->keys.token_stride * size, tokens, shape->key_dim,
                           1.0f, tile->scratch.keys + (size_t)n * padded);
        kernels->load_rows(shape->type, value, args->values.token_stride * size, tokens,
                           shape->value_dim, 1.0f, tile->scratch.values + (size_t)n * padded);
        n += tokens;
    }
}

// Sets how much of a block each row sees; true if some do not see all of it.
static bool find_visible(const prefill_tile *tile, uint32_t first, uint32_t count)
{
    const uint32_t group = group_of(tile->call->args->shape);
    bool masked = false;
    for (uint32_t r = 0; r < tile->rows_padded; r++) {
        uint32_t visible = count;
        if (r < tile->rows) {
            uint32_t tokens = visible_tokens(tile->row, tile->first_query + r / group);
            visible = tokens <= first ? 0 : skim_cpu_minimum(tokens - first, count);
        }
        tile->scratch.visible[r] = (float)visible;
        masked = masked || visible < count;
    }
    return masked;
}

static void attend_tile(const prefill_tile *tile)
{
    const skim_shape *shape = tile->call->args->shape;
    const prefill_scratch *scratch = &tile->scratch;
    skim_cpu_prefill_job job = {
        .rows = tile->rows,
        .rows_padded = tile->rows_padded,
        .score_stride = tile->rows_padded + SKIM_CPU_PAD,
        .dim = shape->key_dim,
        .padded = skim_cpu_padded(shape->key_dim),
        .queries = scratch->packed,
        .keys = scratch->keys,
        .values = scratch->values,
        .visible = scratch->visible,
        .scores = scratch->scores,
        .out = scratch->out,
        .max = scratch->max,
        .sum = scratch->sum,
        .alpha = scratch->alpha,
    };
    uint32_t tokens = tile_tokens(tile);
    for (uint32_t first = 0; first < tokens; first += SKIM_CPU_PREFILL_KEYS) {
        job.keys_count = skim_cpu_minimum(tokens - first, SKIM_CPU_PREFILL_KEYS);
        load_block(tile, first, job.keys_count);
        job.masked = find_visible(tile, first, job.keys_count);
        tile->call->context->kernels->prefill(&job);
    }
}

static void store_tile(const prefill_tile *tile)
{
    const skim_attend_args *args = tile->call->args;
    const uint32_t group = group_of(args->shape);
    const uint32_t padded = skim_cpu_padded(args->shape->value_dim);
    for (uint32_t r = 0; r < tile->rows; r++) {
        uint64_t token = (uint64_t)tile->row->query_start + tile->first_query + r / group;
        uint64_t head = (uint64_t)tile->kv_head * group + r % group;
        float sum = tile->scratch.sum[r];
        tile->call->context->kernels->store_row(
            args->out.type, tile->scratch.out + (size_t)r * padded, args->shape->value_dim,
            1.0f / sum, skim_cpu_element(&args->out, token, head));
        if (args->lse.type != SKIM_TYPE_NONE) {
            float lse = LN_2 * (tile->scratch.max[r] + log2f(sum));
            memcpy(skim_cpu_element(&args->lse, token, head), &lse, sizeof lse);
        }
    }
}

static uint32_t row_tiles(const skim_shape *shape, const skim_row *row)
{
    if (row->query_count <= 1)
        return 0;
    return (row->query_count - 1) / tile_queries(shape) + 1;
}

static void prefill_item(void *argument, uint64_t item, uint32_t worker)
{
    const prefill_call *call = argument;
    const skim_shape *shape = call->args->shape;
    uint32_t r = skim_cpu_find_row(call->starts, call->args->row_count, item);
    const skim_row *row = skim_cpu_rows(&call->args->rows) + r;
    uint32_t index = (uint32_t)(item - call->starts[r]);
    // The last queries see the most keys: longest first leaves the shortest to even out the end.
    uint32_t tile_index = row_tiles(shape, row) - 1 - index / shape->kv_heads;
    skim_cpu_arena arena = skim_cpu_worker_arena(call->context->scratch, worker);
    prefill_tile tile = {
        .call = call,
        .row = row,
        .kv_head = index % shape->kv_heads,
        .first_query = tile_index * tile_queries(shape),
        .scratch = take_scratch(&arena, shape),
    };
    tile.queries = skim_cpu_minimum(tile_queries(shape), row->query_count - tile.first_query);
    tile.rows = tile.queries * group_of(shape);
    tile.rows_padded = skim_cpu_padded(tile.rows);
    begin_tile(&tile);
    attend_tile(&tile);
    store_tile(&tile);
}

static uint64_t row_items(const void *argument, const skim_row *row)
{
    const skim_attend_args *args = argument;
    return (uint64_t)row_tiles(args->shape, row) * args->shape->kv_heads;
}

void skim_cpu_prefill(const skim_cpu_context *context, const skim_attend_args *args)
{
    prefill_call call = {.context = context, .args = args};
    uint64_t items =
        skim_cpu_divide_rows(context, &args->rows, args->row_count, row_items, args, &call.starts);
    skim_cpu_team_run(context->team, items, prefill_item, &call);
}
