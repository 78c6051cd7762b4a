// What the parts of skim replay share.
#ifndef SKIM_TOOL_REPLAY_H
#define SKIM_TOOL_REPLAY_H

#include "session.h"
#include "trace.h"

#include <jansson.h>

enum { REPLAY_STEP_TOKENS = 512 };

struct replay_layer {
    const struct trace_layer *trace;
    float *sparse_out, *dense_out; // [queries][q_heads][head_dim]
    float *sparse_lse, *dense_lse; // [queries][q_heads]
    uint32_t *page_counts;         // [queries][q_heads]
    uint32_t *pages;               // the lists one after the other; kept only for --out
    size_t page_count, page_room;
    double *sparse_s, *dense_s; // [queries]
    // Sums over queries and kv heads; a page that several query heads of one kv head read counts
    // once.
    bool sparse;
    uint64_t pages_read, pages_total, bytes_read, bytes_dense;
    // Results.
    double mass_kept, relative_error, sparse_ms, dense_ms;
};

struct replay {
    const struct settings *settings;
    struct trace trace;
    struct session session;
    struct trace_writer writer;
    skim_cache *cache;
    skim_sequence *sequence;
    struct replay_layer *layers;
    uint32_t max_pages;
    uint32_t *list; // room for one list of pages
    bool *seen;     // [max_pages]
};

// Asks which pages the last attend read and counts them. Returns an exit status.
int replay_note_pages(struct replay *replay, skim_step *step, uint32_t layer, uint32_t query,
                      const skim_step_report *report);

// Writes the output file. Returns an exit status.
int replay_write(struct replay *replay);

json_t *replay_json(const struct replay *replay);
int replay_print(const struct replay *replay);

#endif
