// Which pages a replay read, and the file of its results.
#include "replay.h"
#include "report.h"

#include <stdlib.h>
#include <string.h>

static int keep_list(struct replay_layer *layer, const uint32_t *list, uint32_t count)
{
    if (layer->page_count + count > layer->page_room) {
        size_t room = 2 * layer->page_room + count + 1024;
        uint32_t *pages = realloc(layer->pages, room * sizeof *pages);
        if (!pages)
            return report_failure(
                "out of memory for the lists of pages; free some or leave out --out");
        layer->pages = pages;
        layer->page_room = room;
    }
    memcpy(layer->pages + layer->page_count, list, count * sizeof *list);
    layer->page_count += count;
    return EXIT_DONE;
}

// Counts a list's pages that no earlier list of this kv head had.
static void count_list_pages(struct replay *replay, struct replay_layer *layer, uint32_t count,
                             uint32_t length, uint64_t token_bytes)
{
    uint32_t page_size = replay->settings->page_size;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t page = replay->list[i];
        if (page >= replay->max_pages || replay->seen[page])
            continue;
        replay->seen[page] = true;
        uint32_t rest = length - page * page_size;
        layer->pages_read++;
        layer->bytes_read += (rest < page_size ? rest : page_size) * token_bytes;
    }
}

int replay_note_pages(struct replay *replay, skim_step *step, uint32_t layer, uint32_t query,
                      const skim_step_report *report)
{
    struct replay_layer *run = &replay->layers[layer];
    const struct trace_layer *recorded = run->trace;
    uint32_t length = replay->trace.tokens - replay->trace.queries + query + 1;
    uint32_t group = recorded->q_heads / recorded->kv_heads;
    // K and V of one token and kv head.
    uint64_t token_bytes = 2 * recorded->head_dim * skim_type_size(recorded->tensors[TRACE_K].type);
    for (uint32_t head = 0; head < recorded->q_heads; head++) {
        if (head % group == 0)
            memset(replay->seen, 0, replay->max_pages * sizeof *replay->seen);
        uint32_t count = 0;
        skim_status status =
            skim_step_pages(step, 0, head, replay->list, replay->max_pages, &count);
        if (status != SKIM_OK)
            return session_cache_failure(replay->cache, status);
        run->page_counts[(size_t)query * recorded->q_heads + head] = count;
        count_list_pages(replay, run, count, length, token_bytes);
        int failed = replay->settings->out ? keep_list(run, replay->list, count) : EXIT_DONE;
        if (failed)
            return failed;
    }
    uint32_t pages = (length - 1) / replay->settings->page_size + 1;
    run->pages_total += (uint64_t)pages * recorded->kv_heads;
    run->bytes_dense += (uint64_t)length * recorded->kv_heads * token_bytes;
    run->bytes_read += report->bounds_bytes;
    return EXIT_DONE;
}

// The lists of one layer as [queries][q_heads][width], padded with -1.
static int32_t *pad_lists(const struct replay *replay, const struct replay_layer *layer,
                          uint32_t *width)
{
    size_t lists = (size_t)replay->trace.queries * layer->trace->q_heads;
    *width = 0;
    for (size_t i = 0; i < lists; i++)
        if (layer->page_counts[i] > *width)
            *width = layer->page_counts[i];
    int32_t *padded = calloc(lists, *width * sizeof *padded);
    if (!padded)
        return NULL;
    const uint32_t *list = layer->pages;
    for (size_t i = 0; i < lists; i++) {
        for (uint32_t j = 0; j < *width; j++)
            padded[i * *width + j] = j < layer->page_counts[i] ? (int32_t)list[j] : -1;
        list += layer->page_counts[i];
    }
    return padded;
}

int replay_write(struct replay *replay)
{
    uint32_t count = replay->trace.layer_count;
    uint64_t queries = replay->trace.queries;
    int failed = EXIT_DONE;
    struct trace_out *tensors = calloc(count, 3 * sizeof *tensors);
    int32_t **padded = calloc(count, sizeof *padded);
    if (!tensors || !padded)
        failed = report_failure("out of memory for the output; free some or leave out --out");
    for (uint32_t i = 0; i < count && !failed; i++) {
        const struct replay_layer *layer = &replay->layers[i];
        const struct trace_layer *recorded = layer->trace;
        uint32_t width = 0;
        padded[i] = pad_lists(replay, layer, &width);
        if (!padded[i])
            failed = report_failure("out of memory for the output; free some or leave out --out");
        struct trace_out *out = tensors + 3 * (size_t)i;
        snprintf(out[0].name, sizeof out[0].name, "layers.%u.out", recorded->index);
        snprintf(out[1].name, sizeof out[1].name, "layers.%u.lse", recorded->index);
        snprintf(out[2].name, sizeof out[2].name, "layers.%u.pages", recorded->index);
        out[0].type = out[1].type = TRACE_OUT_F32;
        out[2].type = TRACE_OUT_I32;
        out[0].rank = out[2].rank = 3;
        out[1].rank = 2;
        for (int t = 0; t < 3; t++) {
            out[t].shape[0] = queries;
            out[t].shape[1] = recorded->q_heads;
        }
        out[0].shape[2] = recorded->head_dim;
        out[2].shape[2] = width;
        out[0].data = layer->sparse_out;
        out[1].data = layer->sparse_lse;
        out[2].data = padded[i];
    }
    if (!failed)
        failed = trace_writer_write(&replay->writer, tensors, 3 * (size_t)count, NULL);
    for (uint32_t i = 0; padded && i < count; i++)
        free(padded[i]);
    free(padded);
    free(tensors);
    return failed;
}
