// skim bench --prefill: the dense causal attention of a prompt, against the machine's f32 peak.
#include "bench.h"
#include "report.h"

#include "ceilings.h"

#include <math.h>
#include <stdlib.h>

struct prefill {
    struct session *session;
    skim_shape shape;
    skim_row row;
    uint32_t tokens;
    struct synthetic data;
    skim_buffer *pages, *bounds, *queries, *out;
    uint32_t *table;
};

static skim_paged paged(const struct prefill *prefill, bool values)
{
    uint64_t head = (uint64_t)prefill->shape.page_size * prefill->shape.key_dim;
    return (skim_paged){.buffer = prefill->pages,
                        .offset = values ? head * skim_type_size(prefill->shape.type) : 0,
                        .page_stride = 2 * head * prefill->shape.kv_heads,
                        .head_stride = 2 * head,
                        .token_stride = prefill->shape.key_dim};
}

static skim_status record_append(const struct prefill *prefill)
{
    skim_append_args args = {.size_of = sizeof args,
                             .shape = &prefill->shape,
                             .rows = skim_tensor_host(&prefill->row, SKIM_U32),
                             .row_count = 1,
                             .token_count = prefill->tokens,
                             .table = skim_tensor_host(prefill->table, SKIM_U32),
                             .table_count = prefill->shape.slots,
                             .k = skim_tensor_host(prefill->data.keys, prefill->shape.type),
                             .v = skim_tensor_host(prefill->data.values, prefill->shape.type),
                             .keys = paged(prefill, false),
                             .values = paged(prefill, true),
                             .bounds = prefill->bounds};
    return skim_append(prefill->session->queue, &args);
}

static skim_status record_attend(const struct prefill *prefill)
{
    skim_attend_args args = {.size_of = sizeof args,
                             .shape = &prefill->shape,
                             .rows = skim_tensor_host(&prefill->row, SKIM_U32),
                             .row_count = 1,
                             .token_count = prefill->tokens,
                             .table = skim_tensor_host(prefill->table, SKIM_U32),
                             .table_count = prefill->shape.slots,
                             .q = skim_tensor_buffer(prefill->queries, 0, prefill->shape.type),
                             .keys = paged(prefill, false),
                             .values = paged(prefill, true),
                             .out = skim_tensor_buffer(prefill->out, 0, prefill->shape.type)};
    return skim_attend(prefill->session->queue, &args);
}

static skim_status prepare(struct prefill *prefill)
{
    skim_device *device = prefill->session->device;
    uint64_t width = skim_type_size(prefill->shape.type) * prefill->shape.key_dim;
    uint64_t bounds_bytes = 0;
    uint64_t query_bytes = width * prefill->tokens * prefill->shape.q_heads;
    uint64_t page_bytes =
        2 * width * prefill->shape.kv_heads * prefill->shape.page_size * prefill->shape.slots;
    skim_status status = skim_queue_prepare(prefill->session->queue, &prefill->shape);
    if (status == SKIM_OK)
        status = skim_bounds_size(device, &prefill->shape, &bounds_bytes);
    if (status == SKIM_OK)
        status = skim_buffer_create(device, page_bytes, &prefill->pages);
    if (status == SKIM_OK)
        status = skim_buffer_create(device, bounds_bytes, &prefill->bounds);
    if (status == SKIM_OK)
        status = skim_buffer_create(device, query_bytes, &prefill->queries);
    if (status == SKIM_OK)
        status = skim_buffer_create(device, query_bytes, &prefill->out);
    if (status == SKIM_OK)
        status = skim_queue_upload(prefill->session->queue, prefill->queries, 0,
                                   prefill->data.queries, query_bytes);
    if (status == SKIM_OK)
        status = record_append(prefill);
    return status == SKIM_OK ? skim_queue_finish(prefill->session->queue) : status;
}

static void report(const struct prefill *prefill, double seconds, double fma, json_t *result)
{
    double visible = 0.5 * prefill->tokens * (prefill->tokens + 1.0);
    double flops = 4.0 * prefill->shape.key_dim * prefill->shape.q_heads * visible;
    json_object_set_new(result, "prefill_tokens", json_integer(prefill->tokens));
    json_object_set_new(result, "prefill_ms", report_real(1e3 * seconds));
    json_object_set_new(result, "prefill_gflops", report_real(1e-9 * flops / seconds));
    json_object_set_new(result, "fma_gflops", report_real(1e-9 * fma));
    json_object_set_new(result, "prefill_of_peak", report_real(flops / seconds / fma));
}

static skim_status measure(const struct prefill *prefill, uint32_t repeat, struct workers *workers,
                           json_t *result)
{
    double *times = calloc(repeat, sizeof *times);
    double *peaks = calloc(repeat, sizeof *peaks);
    skim_status status = times && peaks ? SKIM_OK : SKIM_NO_MEMORY;
    for (uint32_t i = 0; i < repeat && status == SKIM_OK; i++) {
        progress_show("prefill", i, repeat);
        double start = now();
        status = record_attend(prefill);
        if (status == SKIM_OK)
            status = skim_queue_finish(prefill->session->queue);
        times[i] = now() - start;
        peaks[i] = workers ? ceiling_fma(workers) : NAN;
    }
    progress_clear();
    if (status == SKIM_OK)
        report(prefill, median(times, repeat), median(peaks, repeat), result);
    free(times);
    free(peaks);
    return status;
}

int bench_prefill(const struct settings *settings, struct session *session, struct workers *workers,
                  json_t *result)
{
    uint32_t tokens = settings->prefill;
    uint32_t pages = (tokens - 1) / settings->page_size + 1;
    struct prefill prefill = {.session = session, .tokens = tokens};
    prefill.shape = (skim_shape){.size_of = sizeof prefill.shape,
                                 .q_heads = settings->q_heads,
                                 .kv_heads = settings->kv_heads,
                                 .key_dim = settings->head_dim,
                                 .value_dim = settings->head_dim,
                                 .page_size = settings->page_size,
                                 .type = (skim_type)settings->type,
                                 .slots = pages,
                                 .max_rows = 1,
                                 .max_tokens = tokens,
                                 .max_pages = pages};
    prefill.row = (skim_row){.length = tokens,
                             .query_count = tokens,
                             .page_count = pages,
                             .select_count = pages,
                             .forced_last = 1,
                             .flags = SKIM_ROW_DENSE};
    int failed = EXIT_DONE;
    prefill.table = calloc(pages, sizeof *prefill.table);
    if (!prefill.table ||
        !synthetic_create(&prefill.data, prefill.shape.type, tokens, settings->q_heads,
                          settings->kv_heads, settings->head_dim, tokens))
        failed = report_failure(
            "out of memory for a prompt of %u tokens; choose a shorter --prefill", tokens);
    for (uint32_t i = 0; i < pages && !failed; i++)
        prefill.table[i] = i;
    if (!failed) {
        skim_status status = prepare(&prefill);
        if (status == SKIM_OK)
            status = measure(&prefill, settings->repeat / 5 + 3, workers, result);
        if (status != SKIM_OK)
            failed = session_queue_failure(session, status);
    }
    skim_buffer_destroy(prefill.pages);
    skim_buffer_destroy(prefill.bounds);
    skim_buffer_destroy(prefill.queries);
    skim_buffer_destroy(prefill.out);
    synthetic_destroy(&prefill.data);
    free(prefill.table);
    return failed;
}
