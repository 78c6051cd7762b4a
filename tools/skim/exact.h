// What dense attention puts on each page: exact scores of queries against a copy of the keys on the
// host. For measures and for the choice of an oracle; nothing that is attended to comes from here.
#ifndef SKIM_TOOL_EXACT_H
#define SKIM_TOOL_EXACT_H

#include "workers.h"

#include <stdbool.h>
#include <stddef.h>

enum { EXACT_TOP = 10 }; // tokens of the highest weights that are told

struct exact_shape {
    uint32_t layers, q_heads, kv_heads, head_dim, page_size;
    uint32_t tokens; // most tokens of the text
    uint32_t rows;   // most sequences that go on from it
    uint32_t more;   // most tokens of each after the text
};

struct exact {
    struct exact_shape shape;
    struct workers *workers;
    uint32_t threads;
    float *text; // [layer][kv_head][token][head_dim]
    float *more; // [layer][row][kv_head][token][head_dim]
    // Of one run, by kv head, page and query (row and head of the group): the largest score, and
    // the sum of the exponentials of what the scores are below it; then weights, which sum to 1.
    float *maxima, *weights;
    float *queries;    // [kv_head][query][head_dim]
    float *tiles;      // [thread][token][query]
    void *candidates;  // [thread][query][EXACT_TOP]
    uint32_t *top;     // [kv_head][query][EXACT_TOP]: pages of the tokens of the highest weights
    uint32_t *logical; // [page]: which page of the view it is
    void *order;       // [page]: for exact_choose
    uint32_t max_pages, run_queries;
    void (*reduce)(const float *scores, uint32_t tokens, uint32_t queries, float *maxima,
                   float *sums);
};

// Bytes that it takes; 0 if they cannot be counted.
uint64_t exact_bytes(const struct exact_shape *shape, uint32_t threads);
// Returns an exit status.
int exact_open(struct exact *exact, const struct exact_shape *shape, uint32_t threads);
void exact_close(struct exact *exact);

// Keeps keys [tokens][kv_heads][head_dim] of the text, and one more of every row.
void exact_store_text(struct exact *exact, uint32_t layer, uint32_t first, uint32_t tokens,
                      const float *keys);
void exact_store_more(struct exact *exact, uint32_t layer, uint32_t index, uint32_t rows,
                      const float *keys);

// The pages that the rows see, all the same: whole pages of the text but those that are hidden,
// then those of the tail (the text's last tokens) and what came after it.
struct exact_view {
    uint32_t text_pages; // whole ones
    const bool *hidden;  // [text_pages]; NULL: none
    uint32_t tail_first, tail_tokens;
    uint32_t more_tokens;
};

// How many pages a view has.
uint32_t exact_pages(const struct exact *exact, const struct exact_view *view);

// Finds the weights of the pages, and the highest tokens, for some rows' queries q
// [rows][q_heads][head_dim]. rows holds count indices, ascending.
void exact_run(struct exact *exact, uint32_t layer, const struct exact_view *view, const float *q,
               const uint32_t *rows, uint32_t count, float scale);

// Of the last run, for rows[place]: the weight of a page, and the pages of the EXACT_TOP highest
// tokens (UINT32_MAX where there are fewer).
float exact_weight(const struct exact *exact, uint32_t place, uint32_t q_head, uint32_t page);
const uint32_t *exact_top(const struct exact *exact, uint32_t place, uint32_t q_head);

// Chooses the pages of the highest weights among those that are not forced (the first and the
// last ones), which it adds: a list of select_count pages, ascending; of equals the lower page.
void exact_choose(const struct exact *exact, uint32_t place, uint32_t q_head, uint32_t pages,
                  uint32_t forced_first, uint32_t forced_last, uint32_t select_count,
                  uint32_t *list);

#endif
