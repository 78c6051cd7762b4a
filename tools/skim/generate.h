// What the parts of skim generate share.
#ifndef SKIM_TOOL_GENERATE_H
#define SKIM_TOOL_GENERATE_H

#include "forward.h"
#include "tokenizer.h"
#include "trace.h"

// Why a text ended.
enum generate_end { GENERATE_TOKENS, GENERATE_END_TOKEN, GENERATE_INTERRUPTED };

struct generate {
    const struct settings *settings;
    struct session session;
    struct model model;
    struct tokenizer tokenizer;
    bool has_tokenizer;
    struct token_list prompt, made;
    struct forward forward;
    struct trace_writer writer; // of --logits
    struct recorder recorder;
    struct trace_writer trace_writer; // of --trace
    float *logits;                    // [vocab], or with --logits those of every position
    size_t logit_rows;                // written so far
    enum generate_end end;
    uint64_t prompt_done; // tokens of the prompt that were run
    double load_s, prefill_s, decode_s;
    struct attention_counts prefill_counts, decode_counts;
};

// Reads --prompt, --prompt-file or --token-ids into generate->prompt. Returns an exit status.
int generate_read_prompt(struct generate *generate);

// Writes what was recorded for --trace. Returns an exit status.
int generate_write_trace(struct generate *generate);

// Prints a token that was made, unless all is printed at the end.
void generate_print_token(const struct generate *generate, uint32_t token);

// Prints the result as JSON, or what it took as words on standard error. Returns an exit status.
int generate_report(const struct generate *generate);

#endif
