// The layers that a bench rotates through, and its four verbs (tier 2 of the interface).
#include "bench.h"
#include "report.h"

#include "ceilings.h"

#include <stdlib.h>
#include <string.h>

enum { LAYERS_MOST = 4096 }; // when their number is chosen here

static skim_shape make_shape(const struct settings *settings, uint32_t context, uint32_t batch)
{
    uint32_t pages = (context - 1) / settings->page_size + 1;
    return (skim_shape){.size_of = sizeof(skim_shape),
                        .q_heads = settings->q_heads,
                        .kv_heads = settings->kv_heads,
                        .key_dim = settings->head_dim,
                        .value_dim = settings->head_dim,
                        .page_size = settings->page_size,
                        .type = (skim_type)settings->type,
                        .bounds = (skim_bounds)settings->bounds,
                        .bounds_type = (skim_bounds_type)settings->bounds_type,
                        .slots = pages * batch,
                        .max_rows = batch,
                        .max_tokens = batch,
                        .max_pages = pages};
}

// Bytes of one head's row of elements.
static uint64_t row_bytes(const struct bench *bench)
{
    return bench->shape.key_dim * skim_type_size(bench->shape.type);
}

static uint64_t layer_bytes(const struct bench *bench)
{
    return 2 * row_bytes(bench) * bench->shape.kv_heads * bench->shape.page_size *
           bench->shape.slots;
}

// Two vectors for each page and kv head; i8 ones have a scale each, and all pages one centre.
uint64_t bench_bounds_bytes(const struct bench *bench)
{
    const skim_shape *shape = &bench->shape;
    uint64_t pages = (uint64_t)shape->kv_heads * shape->slots;
    if (!bench->sparse)
        return 0;
    if (shape->bounds_type == SKIM_BOUNDS_I8)
        return 2 * (shape->key_dim + sizeof(float)) * pages + bench_centre_bytes(shape);
    return 2 * row_bytes(bench) * pages;
}

uint64_t bench_dense_bytes(const struct bench *bench)
{
    return 2 * row_bytes(bench) * bench->shape.kv_heads * bench->context * bench->batch;
}

// Rows as the policy has them.
static int make_rows(struct bench *bench)
{
    skim_policy policy = options_policy(bench->settings);
    policy.dense_layers = 0;
    bench->rows = calloc(bench->batch, sizeof *bench->rows);
    if (!bench->rows)
        return report_failure("out of memory; free some or use a smaller --batch");
    for (uint32_t i = 0; i < bench->batch; i++) {
        bench->rows[i] = (skim_row){.length = bench->context,
                                    .query_start = i,
                                    .query_count = 1,
                                    .table_start = i * bench->pages};
        skim_status status =
            skim_policy_resolve(&policy, 0, bench->shape.page_size, &bench->rows[i]);
        if (status != SKIM_OK)
            return report_failure(
                "this policy does not fit a sequence of %u tokens; change its options",
                bench->context);
    }
    bench->sparse = !(bench->rows[0].flags & SKIM_ROW_DENSE);
    bool grouped = bench->shape.q_heads > bench->shape.kv_heads;
    bench->select = policy.select != SKIM_SELECT_AUTO ? policy.select
                    : grouped                         ? SKIM_SELECT_GROUP
                                                      : SKIM_SELECT_HEAD;
    bench->combine =
        policy.combine == SKIM_COMBINE_DEFAULT ? SKIM_COMBINE_SOFTMAX_MAX : policy.combine;
    bench->lists =
        bench->select == SKIM_SELECT_GROUP ? bench->shape.kv_heads : bench->shape.q_heads;
    return EXIT_DONE;
}

// Layers enough that between two visits of the same data two and a half times the last-level cache
// is read, as far as LAYERS_MOST and 60 % of the free memory go. The five measurements of a round
// visit five layers.
static int choose_layers(struct bench *bench)
{
    bench->cache_bytes = ceiling_cache_bytes();
    double layer = (double)layer_bytes(bench) + (double)bench_bounds_bytes(bench);
    double round = 2 * (double)bench_dense_bytes(bench);
    double wanted = 5 * (1 + (double)(uint64_t)(2.5 * (double)bench->cache_bytes / round));
    wanted = wanted < LAYERS_MOST ? wanted : LAYERS_MOST; // tiny layers take long to make
    double available = (double)bench->session->info.memory_available;
    double fit = available > 0 ? (0.6 * available - layer) / layer : wanted;
    if (bench->settings->layers)
        wanted = bench->settings->layers;
    if (fit < 1 || (bench->settings->layers && fit < wanted))
        return report_failure(
            "this shape needs %s, of which at most 60 %% of the free memory (%s) can be "
            "used; choose a shorter --context or fewer --layers",
            report_bytes(layer * (1 + wanted)).text, report_bytes(available).text);
    bench->layer_count = (uint32_t)(fit < wanted ? fit : wanted);
    if (bench->layer_count / 5 * round < (double)bench->cache_bytes)
        report_warning("only %s to rotate through: some data may stay in the last-level cache (%s)",
                       report_count(bench->layer_count, "layer").text,
                       report_bytes((double)bench->cache_bytes).text);
    return EXIT_DONE;
}

struct wanted_buffer {
    skim_buffer **buffer;
    uint64_t bytes;
    const void *content; // uploaded; NULL: none
};

static skim_status make_buffers(const struct bench *bench, const struct wanted_buffer *wanted,
                                size_t count)
{
    skim_status status = SKIM_OK;
    for (size_t i = 0; i < count && status == SKIM_OK; i++) {
        status = skim_buffer_create(bench->session->device, wanted[i].bytes, wanted[i].buffer);
        if (status == SKIM_OK && wanted[i].content)
            status = skim_queue_upload(bench->session->queue, *wanted[i].buffer, 0,
                                       wanted[i].content, wanted[i].bytes);
    }
    return status == SKIM_OK ? skim_queue_finish(bench->session->queue) : status;
}

static int make_step_buffers(struct bench *bench)
{
    uint64_t rows_bytes = bench->batch * sizeof(skim_row);
    uint64_t heads = (uint64_t)bench->batch * bench->shape.q_heads;
    uint64_t new_bytes = bench->batch * bench->shape.kv_heads * row_bytes(bench);
    uint64_t found_bytes = (uint64_t)bench->batch * bench->lists * bench->pages * sizeof(uint32_t);
    uint32_t *table = malloc(bench->shape.slots * sizeof *table);
    skim_row *dense = malloc(rows_bytes);
    bench->lists_host = calloc(1, found_bytes);
    bench->chunks = malloc(layer_bytes(bench) / (2 * row_bytes(bench) * bench->shape.page_size) *
                           sizeof *bench->chunks);
    if (!table || !dense || !bench->lists_host || !bench->chunks) {
        free(table);
        free(dense);
        return report_failure("out of memory; free some or use a shorter --context");
    }
    for (uint32_t i = 0; i < bench->shape.slots; i++)
        table[i] = i;
    for (uint32_t i = 0; i < bench->batch; i++) {
        dense[i] = bench->rows[i];
        dense[i].flags |= SKIM_ROW_DENSE;
    }
    const struct wanted_buffer wanted[] = {
        {&bench->sparse_rows, rows_bytes, bench->rows},
        {&bench->dense_rows, rows_bytes, dense},
        {&bench->table, bench->shape.slots * sizeof *table, table},
        {&bench->queries, BENCH_QUERIES * heads * row_bytes(bench), bench->data.queries},
        {&bench->new_k, new_bytes, bench->data.keys},
        {&bench->new_v, new_bytes, bench->data.values},
        {&bench->scores, heads * bench->pages * sizeof(float), NULL},
        {&bench->found, found_bytes, NULL},
        {&bench->out, heads * row_bytes(bench), NULL},
    };
    skim_status status = make_buffers(bench, wanted, sizeof wanted / sizeof *wanted);
    free(table);
    free(dense);
    return status == SKIM_OK ? EXIT_DONE : session_queue_failure(bench->session, status);
}

static skim_paged paged(const struct bench *bench, uint32_t layer, bool values)
{
    uint64_t head = (uint64_t)bench->shape.page_size * bench->shape.key_dim;
    return (skim_paged){.buffer = bench->layers[layer].pages,
                        .offset = values ? head * skim_type_size(bench->shape.type) : 0,
                        .page_stride = 2 * head * bench->shape.kv_heads,
                        .head_stride = 2 * head,
                        .token_stride = bench->shape.key_dim};
}

static skim_append_args append_args(const struct bench *bench, uint32_t layer)
{
    return (skim_append_args){.size_of = sizeof(skim_append_args),
                              .shape = &bench->shape,
                              .rows = skim_tensor_buffer(bench->sparse_rows, 0, SKIM_U32),
                              .row_count = bench->batch,
                              .token_count = bench->batch,
                              .table = skim_tensor_buffer(bench->table, 0, SKIM_U32),
                              .table_count = bench->shape.slots,
                              .k = skim_tensor_buffer(bench->new_k, 0, bench->shape.type),
                              .v = skim_tensor_buffer(bench->new_v, 0, bench->shape.type),
                              .keys = paged(bench, layer, false),
                              .values = paged(bench, layer, true),
                              .bounds = bench->layers[layer].bounds,
                              .centre = bench->layers[layer].centre};
}

// Appends count tokens of the synthetic data, from token on, to one sequence of a layer.
static skim_status fill_tokens(const struct bench *bench, const skim_shape *shape, uint32_t layer,
                               uint32_t sequence, uint32_t place, uint32_t token, uint32_t count)
{
    uint32_t length = place + count;
    skim_row row = {.length = length,
                    .query_count = count,
                    .table_start = sequence * bench->pages,
                    .page_count = (length - 1) / shape->page_size + 1,
                    .forced_last = 1,
                    .flags = SKIM_ROW_DENSE};
    row.select_count = row.page_count;
    uint64_t offset = (uint64_t)token * shape->kv_heads * row_bytes(bench);
    skim_append_args args = append_args(bench, layer);
    args.shape = shape;
    args.rows = skim_tensor_host(&row, SKIM_U32);
    args.row_count = 1;
    args.token_count = count;
    args.freeze = args.centre && sequence == 0 && place == 0;
    args.k = skim_tensor_host((const char *)bench->data.keys + offset, shape->type);
    args.v = skim_tensor_host((const char *)bench->data.values + offset, shape->type);
    skim_status status = skim_append(bench->session->queue, &args);
    return status == SKIM_OK ? skim_queue_finish(bench->session->queue) : status;
}

// Every layer and sequence starts elsewhere in the synthetic data and goes around.
static skim_status fill_layer(const struct bench *bench, const skim_shape *shape, uint32_t layer)
{
    skim_status status = SKIM_OK;
    for (uint32_t i = 0; i < bench->batch; i++) {
        uint64_t turn = ((uint64_t)layer * bench->batch + i) * 977 * shape->page_size;
        uint32_t token = (uint32_t)(turn % bench->context);
        for (uint32_t place = 0; place < bench->context && status == SKIM_OK;) {
            uint32_t count = bench->context - (place > token ? place : token);
            if (count > shape->max_tokens)
                count = shape->max_tokens;
            status = fill_tokens(bench, shape, layer, i, place, token, count);
            place += count;
            token = (token + count) % bench->context;
        }
    }
    return status;
}

static int fill_layers(struct bench *bench)
{
    skim_shape shape = bench->shape;
    shape.max_rows = 1;
    shape.max_tokens = BENCH_FILL_TOKENS;
    uint64_t bounds_bytes = 0;
    skim_status status = skim_queue_prepare(bench->session->queue, &shape);
    if (status == SKIM_OK)
        status = skim_bounds_size(bench->session->device, &bench->shape, &bounds_bytes);
    bench->layers = calloc(bench->layer_count, sizeof *bench->layers);
    if (!bench->layers)
        return report_failure("out of memory; free some or use fewer --layers");
    for (uint32_t i = 0; i < bench->layer_count && status == SKIM_OK; i++) {
        const struct wanted_buffer wanted[] = {
            {&bench->layers[i].pages, layer_bytes(bench), NULL},
            {&bench->layers[i].bounds, bounds_bytes, NULL},
            {&bench->layers[i].centre, bench_centre_bytes(&shape), NULL}};
        progress_show("filling layers", i, bench->layer_count);
        status = make_buffers(bench, wanted, shape.bounds_type == SKIM_BOUNDS_I8 ? 3 : 2);
        if (status == SKIM_OK)
            status = fill_layer(bench, &shape, i);
    }
    progress_clear();
    return status == SKIM_OK ? EXIT_DONE : session_queue_failure(bench->session, status);
}

int bench_create(struct bench *bench, const struct settings *settings, struct session *session,
                 struct workers *workers, uint32_t context)
{
    *bench = (struct bench){.settings = settings,
                            .session = session,
                            .workers = workers,
                            .context = context,
                            .batch = settings->batch};
    bench->pages = (context - 1) / settings->page_size + 1;
    if ((uint64_t)bench->pages * bench->batch > session->limits.slots_max)
        return report_failure(
            "%u sequences of %u tokens need more pages than the device takes (%u); choose "
            "a shorter --context or a smaller --batch",
            bench->batch, context, session->limits.slots_max);
    if (settings->q_heads % settings->kv_heads != 0)
        return report_usage("--q-heads %u is no multiple of --kv-heads %u", settings->q_heads,
                            settings->kv_heads);
    bench->shape = make_shape(settings, context, settings->batch);
    // Also checks the shape against the device's limits, before its sizes are computed.
    skim_status status = skim_queue_prepare(session->queue, &bench->shape);
    if (status != SKIM_OK)
        return session_queue_failure(session, status);
    int failed = make_rows(bench);
    if (!failed)
        failed = choose_layers(bench);
    if (failed)
        return failed;
    if (!synthetic_create(&bench->data, bench->shape.type,
                          context > bench->batch ? context : bench->batch, bench->shape.q_heads,
                          bench->shape.kv_heads, bench->shape.key_dim,
                          BENCH_QUERIES * bench->batch))
        return report_failure("out of memory for synthetic data; choose a shorter --context");
    failed = make_step_buffers(bench);
    return failed ? failed : fill_layers(bench);
}

void bench_destroy(struct bench *bench)
{
    for (uint32_t i = 0; bench->layers && i < bench->layer_count; i++) {
        skim_buffer_destroy(bench->layers[i].pages);
        skim_buffer_destroy(bench->layers[i].bounds);
        skim_buffer_destroy(bench->layers[i].centre);
    }
    skim_buffer *const buffers[] = {bench->sparse_rows, bench->dense_rows, bench->table,
                                    bench->queries,     bench->new_k,      bench->new_v,
                                    bench->scores,      bench->found,      bench->out};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        skim_buffer_destroy(buffers[i]);
    synthetic_destroy(&bench->data);
    free(bench->layers);
    free(bench->rows);
    free(bench->lists_host);
    free(bench->chunks);
    *bench = (struct bench){0};
}

// The layer's own query.
static skim_tensor query(const struct bench *bench, uint32_t layer)
{
    uint64_t bytes = (uint64_t)bench->batch * bench->shape.q_heads * row_bytes(bench);
    return skim_tensor_buffer(bench->queries, layer % BENCH_QUERIES * bytes, bench->shape.type);
}

skim_status bench_append(const struct bench *bench, uint32_t layer)
{
    skim_append_args args = append_args(bench, layer);
    return skim_append(bench->session->queue, &args);
}

skim_status bench_estimate(const struct bench *bench, uint32_t layer)
{
    skim_estimate_args args = {.size_of = sizeof args,
                               .shape = &bench->shape,
                               .rows = skim_tensor_buffer(bench->sparse_rows, 0, SKIM_U32),
                               .row_count = bench->batch,
                               .token_count = bench->batch,
                               .table = skim_tensor_buffer(bench->table, 0, SKIM_U32),
                               .table_count = bench->shape.slots,
                               .q = query(bench, layer),
                               .bounds = bench->layers[layer].bounds,
                               .centre = bench->layers[layer].centre,
                               .spread = (float)bench->settings->spread,
                               .scores = bench->scores,
                               .score_stride = bench->pages};
    return skim_estimate(bench->session->queue, &args);
}

skim_status bench_select(const struct bench *bench)
{
    skim_select_args args = {.size_of = sizeof args,
                             .shape = &bench->shape,
                             .rows = skim_tensor_buffer(bench->sparse_rows, 0, SKIM_U32),
                             .row_count = bench->batch,
                             .scores = bench->scores,
                             .score_stride = bench->pages,
                             .select = bench->select,
                             .combine = bench->combine,
                             .lists = bench->found,
                             .list_stride = bench->pages};
    return skim_select(bench->session->queue, &args);
}

skim_status bench_attend(const struct bench *bench, uint32_t layer, bool dense)
{
    bool listed = bench->sparse && !dense;
    skim_attend_args args = {
        .size_of = sizeof args,
        .shape = &bench->shape,
        .rows = skim_tensor_buffer(dense ? bench->dense_rows : bench->sparse_rows, 0, SKIM_U32),
        .row_count = bench->batch,
        .token_count = bench->batch,
        .table = skim_tensor_buffer(bench->table, 0, SKIM_U32),
        .table_count = bench->shape.slots,
        .q = query(bench, layer),
        .keys = paged(bench, layer, false),
        .values = paged(bench, layer, true),
        .select = bench->select,
        .lists = listed ? bench->found : NULL,
        .list_stride = bench->pages,
        .out = skim_tensor_buffer(bench->out, 0, bench->shape.type)};
    return skim_attend(bench->session->queue, &args);
}

// Tokens on the lists first .. first + count - 1, a page of several lists once.
static uint64_t listed_tokens(const struct bench *bench, const uint32_t *first, uint32_t count,
                              uint32_t chosen, bool *seen)
{
    uint64_t tokens = 0;
    memset(seen, 0, bench->pages * sizeof *seen);
    for (uint32_t l = 0; l < count; l++)
        for (uint32_t i = 0; i < chosen; i++) {
            uint32_t page = first[(size_t)l * bench->pages + i];
            if (page >= bench->pages || seen[page])
                continue;
            seen[page] = true;
            uint32_t rest = bench->context - page * bench->shape.page_size;
            tokens += rest < bench->shape.page_size ? rest : bench->shape.page_size;
        }
    return tokens;
}

skim_status bench_page_bytes(const struct bench *bench, uint64_t *bytes)
{
    *bytes = bench_dense_bytes(bench);
    if (!bench->sparse)
        return SKIM_OK;
    uint64_t size = (uint64_t)bench->batch * bench->lists * bench->pages * sizeof(uint32_t);
    bool *seen = malloc(bench->pages * sizeof *seen);
    if (!seen)
        return SKIM_NO_MEMORY;
    skim_status status =
        skim_queue_download(bench->session->queue, bench->found, 0, bench->lists_host, size);
    if (status == SKIM_OK)
        status = skim_queue_finish(bench->session->queue);
    uint32_t per_kv_head = bench->lists / bench->shape.kv_heads;
    uint64_t tokens = 0;
    for (uint32_t row = 0; row < bench->batch && status == SKIM_OK; row++)
        for (uint32_t head = 0; head < bench->shape.kv_heads; head++) {
            size_t list = (size_t)row * bench->lists + (size_t)head * per_kv_head;
            tokens += listed_tokens(bench, bench->lists_host + list * bench->pages, per_kv_head,
                                    bench->rows[row].select_count, seen);
        }
    free(seen);
    *bytes = 2 * row_bytes(bench) * tokens;
    return status;
}
