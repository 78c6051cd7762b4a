// What the parts of skim evaluate share.
#ifndef SKIM_TOOL_EVALUATE_H
#define SKIM_TOOL_EVALUATE_H

#include "exact.h"
#include "forward.h"
#include "report.h"
#include "texts.h"
#include "tokenizer.h"

enum {
    EVALUATE_CELLS = 4096, // most of one length
    EVALUATE_ROWS = 256,   // cells that run side by side
    EVALUATE_KINDS = 4,    // of bounds: what they are, times how they are stored
    EVALUATE_SHIFT = 64,   // lengths vary by fewer tokens
    EVALUATE_QUESTION = 32 // most tokens of a question
};

// Sums over the steps of all questions.
struct cell_counts {
    uint32_t questions, right;
    uint64_t steps, pages_read, pages_total, bytes_read, bytes_dense;
    double seconds;      // with --show
    double mass, recall; // sums over measured steps, sparse layers and query heads
    uint64_t measured;   // how many
};

// One way to choose pages.
struct cell {
    enum evaluate_mode mode;
    uint32_t budget, dense_layers, recent_pages, combine, bounds, bounds_type;
    skim_policy policy;
    uint32_t kind; // of bounds
    struct cell_counts counts;
    uint32_t *right; // [context]
    json_t *answers; // with --show
};

// A combination that was asked for. Dense attention is measured once and told for every budget.
struct asked {
    uint32_t budget;
    uint32_t cell; // its index
};

// The cells of one length, in the order in which they run.
struct cells {
    struct cell *cells;
    uint32_t count;
    struct asked *asked; // in the order of the lists
    uint32_t asked_count;
};

int cells_make(struct cells *cells, const struct settings *settings, uint32_t length,
               uint32_t contexts);
void cells_free(struct cells *cells);

// --- attention of many sequences that continue one text, on pages of the tool's own (tier 2)

struct pool_kind {
    skim_shape shape;
    skim_buffer **bounds; // [layer]
    skim_buffer *centre;  // SKIM_BOUNDS_I8: of every layer
};

// Which lists attend reads: of query heads, of kv heads, and those that come from elsewhere.
enum pool_lists { LISTS_HEAD, LISTS_GROUP, LISTS_GIVEN, LISTS, LISTS_NONE = LISTS };

struct pool {
    struct session *session;
    const struct model_config *config;
    uint32_t page_size, max_pages, text_slots, own_pages, rows;
    skim_type type;
    float spread;
    struct pool_kind kinds[EVALUATE_KINDS];
    uint32_t kind_count;
    skim_buffer **pages; // [layer]
    skim_buffer *scores, *lists[LISTS], *table;
    skim_buffer *queries, *results; // of a step
    uint32_t list_stride;
    uint64_t centre_stride;
    uint16_t *halves[2];  // keys and values of a step in the cache's type, if that is not f32
    float *rounded;       // keys of a step as they are stored
    uint32_t *slot_table; // [rows + 1][max_pages]: the last is the text's own
    skim_row *call_rows;  // [rows]: of one call
};

// What the rows of a question have in common: they see the text's whole pages but those that are
// hidden, then its tail and what each has of its own.
struct pool_view {
    uint32_t text_pages; // whole pages of the text
    const bool *hidden;  // [text_pages]; NULL: none is
    uint32_t shown_pages;
    uint32_t tail_tokens; // of the text's last page, if that is neither whole nor hidden
    uint32_t own_tokens;  // those of the running step included
};

struct pool_options {
    uint32_t page_size, text_tokens, own_tokens, rows, step_tokens;
    skim_type type;
    float spread;
    const struct cells *cells;
};

// All return an exit status; what failed was reported.
int pool_open(struct pool *pool, struct session *session, const struct model_config *config,
              const struct pool_options *options);
void pool_close(struct pool *pool);

// One layer of some tokens of the text: stores them and attends, densely.
int pool_run_text(struct pool *pool, uint32_t layer, uint32_t first, uint32_t tokens,
                  const float *q, const float *k, const float *v, float *out);

// The keys of the step that was last stored, as they are stored; k are those that were given.
const float *pool_stored_keys(struct pool *pool, const float *k, uint32_t tokens);

// Makes every row a continuation of the text. cells are those of the rows.
int pool_fork(struct pool *pool, const struct pool_view *view, const struct cell *cells,
              uint32_t rows);

uint32_t pool_length(const struct pool *pool, const struct pool_view *view);
// A row of one new token, resolved by the policy of its cell.
int pool_row(const struct pool *pool, const struct pool_view *view, const struct cell *cell,
             uint32_t layer, uint32_t index, skim_row *row);

// Record one layer's verbs; k, v, q and out are of all rows, or of a step of the text.
int pool_begin_layer(struct pool *pool, const float *q, uint32_t tokens);
int pool_append(struct pool *pool, const struct pool_view *view, uint32_t layer,
                const struct cell *cells, uint32_t rows, const float *k, const float *v);
// Chooses pages for `count` rows of one kind of bounds and one way to select; their lists are those
// from place on.
int pool_choose(struct pool *pool, uint32_t layer, const struct cell *cell, const skim_row *rows,
                uint32_t place, uint32_t count, uint32_t tokens);
// Attends by the lists from place on, or, with LISTS_NONE, densely.
int pool_attend(struct pool *pool, uint32_t layer, enum pool_lists lists, const skim_row *rows,
                uint32_t place, uint32_t count, uint32_t tokens);
// Copies the lists of count rows from place on from or to host memory, [row][head][list_stride],
// where they have the same place.
int pool_read_lists(struct pool *pool, enum pool_lists lists, uint32_t place, uint32_t count,
                    uint32_t *target);
int pool_write_lists(struct pool *pool, enum pool_lists lists, uint32_t place, uint32_t count,
                     const uint32_t *source);
// Runs what was recorded; then out holds the results.
int pool_end_layer(struct pool *pool, float *out, uint32_t tokens);

// --- a question to many cells at once: their sequences run side by side, one token a step

enum { DECODE_ANSWER = 8 }; // most tokens of an answer

struct decode_question {
    const uint32_t *tokens;
    uint32_t token_count;
    uint32_t answer_tokens; // that are made, at least 1
    uint32_t text_tokens;   // of the text that it is put to
    const bool *hidden;     // [pages of the text, the one that is not whole included]; or NULL
};

// A step of the text, or of the rows.
struct decode {
    struct pool *pool;
    struct exact *exact;
    struct forward *forward;
    uint32_t text_first, text_tokens; // of the text's step; 0 tokens: the rows run
    // The rows that run.
    struct cell *cells;
    uint32_t rows;
    struct pool_view view;
    struct exact_view exact_view;
    bool measured;        // this step
    double exact_seconds; // in exact scores, so far
    // Of a layer. Rows are put in order by the lists that they read; place is what they then have.
    skim_row *row, *call; // [row], [place]
    uint32_t *at;         // [place]: row
    uint32_t first[LISTS + 1], count[LISTS + 1];
    uint32_t *leader;                  // [row]: the row that attends for it
    uint32_t *exact_rows, exact_count; // rows whose exact scores are known
    uint32_t *exact_place;             // [row]
    uint32_t *lists[LISTS];            // [place][head][list_stride]
    unsigned char *marks;              // [page]
    // Of a step.
    uint32_t *history; // [row]: equal for rows that were given the same tokens
    bool *strayed;     // [row]: a layer of this step was sparse
    uint32_t *tokens;  // [row]
    float *logits;     // [row][vocab]
};

int decode_open(struct decode *decode, struct pool *pool, struct exact *exact,
                struct forward *forward);
void decode_close(struct decode *decode);

// The attention of all layers: a forward_attend.
int decode_layer(void *decode, uint32_t layer, const float *q, const float *k, const float *v,
                 float *out);

// Runs a text, densely.
int decode_text(struct decode *decode, const uint32_t *tokens, uint32_t count);

// Asks some cells and adds to their counts. answers receives [cell][DECODE_ANSWER] tokens.
int decode_ask(struct decode *decode, struct cell *cells, uint32_t count,
               const struct decode_question *question, uint32_t *answers);

// --- the measurement

// The text of one context, as tokens, and its questions.
struct context {
    struct text text;
    struct token_list tokens; // without a question
    struct token_list questions[TEXT_QUESTIONS];
    bool *hidden; // [page]
};

struct evaluate {
    const struct settings *settings;
    struct session session;
    struct model model;
    struct tokenizer tokenizer;
    bool has_tokenizer;
    skim_type type;
    uint32_t per_context, contexts;
    struct cells cells[OPTIONS_COUNTS]; // of each length
    double prefill_s;                   // of the last text
    struct report_table table;          // of --show
};

// Makes a context of exactly `length` tokens with any of its questions, or, where tokens are no
// bytes, of as many as can be had. Returns an exit status.
int context_make(struct context *context, const struct evaluate *evaluate,
                 const struct text_key *key, uint32_t length);
void context_free(struct context *context);
// Marks the pages of what question number n asks for, in context->hidden.
void context_hide(struct context *context, const struct evaluate *evaluate, uint32_t n);

// With --show: a question, what a cell answered (before: its counts before it did), and the end of
// the question's answers.
void evaluate_show_question(struct evaluate *evaluate, const struct context *context, uint32_t n);
void evaluate_show_answer(struct evaluate *evaluate, struct cell *cell,
                          const struct cell_counts *before, const struct text_question *question,
                          const char *answer);
void evaluate_show_end(struct evaluate *evaluate);
// What one may call a cell's way of choosing pages: "group softmax-max i8".
report_text evaluate_describe(const struct cell *cell);

// Prints the results as JSON or as a table. Returns an exit status.
int evaluate_report(const struct evaluate *evaluate);

#endif
