// The options of every command, one table.
#ifndef SKIM_TOOL_OPTIONS_H
#define SKIM_TOOL_OPTIONS_H

#include "skim/skim.h"

#include <stdbool.h>

enum { OPTIONS_COUNTS = 64 }; // most numbers of one list

// Which groups of options a command takes.
enum {
    OPTIONS_COMMON = 1 << 0,
    OPTIONS_POLICY = 1 << 1,
    OPTIONS_REPLAY = 1 << 2,
    OPTIONS_SHAPE = 1 << 3,
    OPTIONS_BENCH = 1 << 4,
    OPTIONS_CONFORM = 1 << 5,
    OPTIONS_DEVICE = 1 << 6,
    OPTIONS_LAYERS = 1 << 7,
    OPTIONS_GENERATE = 1 << 8,
    OPTIONS_MODEL = 1 << 9,
    OPTIONS_PAGES = 1 << 10,
    OPTIONS_EVALUATE = 1 << 11
};

// What skim evaluate asks for, and how pages are chosen. Tasks: enum text_task of texts.h.
enum evaluate_mode {
    EVALUATE_DENSE,
    EVALUATE_HEAD,
    EVALUATE_GROUP,
    EVALUATE_SINKS,
    EVALUATE_ORACLE
};

// Where linear layers run; on which of its devices, LINEAR_ANY: as the library thinks best.
enum linear_place { LINEAR_HOST, LINEAR_CLBLAST, LINEAR_CUBLAS };
#define LINEAR_ANY UINT32_MAX

typedef struct count_list {
    uint32_t count;
    uint32_t values[OPTIONS_COUNTS];
} count_list;

struct settings {
    char *device;
    // common
    bool json, help, version;
    uint32_t threads, log;
    uint64_t disable; // SKIM_FEATURE_* bits
    // policy
    uint32_t budget, page_size, dense_below;
    double budget_fraction, spread;
    uint32_t select, combine, bounds, bounds_type; // enums of skim/policy.h
    uint32_t sink_pages, recent_pages;
    uint32_t dense_layers; // of commands that have a model's layers
    // replay
    char *trace, *out;
    // a model's
    char *model;
    uint32_t kv_type; // 0: as the weights
    // generate
    char *prompt, *prompt_file, *token_ids, *logits, *record;
    count_list trace_layers;
    uint32_t tokens, trace_queries;
    uint32_t linear, linear_device;
    bool dense;
    // evaluate: what is asked, and lists whose every combination is a cell
    uint32_t task, questions, questions_per_context;
    bool mask_needle, show;
    count_list lengths, budgets, modes, combines, bounds_list, bounds_types, dense_layers_list,
        recent_pages_list;
    // shape and bench
    uint32_t q_heads, kv_heads, head_dim, type, batch, layers, prefill, sequences, repeat;
    uint32_t model_layers; // 0: the folder's
    uint32_t snapshot;     // MiB
    count_list contexts;
    // conform
    bool quick;
    char *filter;
    uint64_t allocation_max;
    uint64_t seed; // evaluate's too
};

struct command {
    const char *name;
    const char *summary;
    const char *operand; // name of its one operand, or NULL
    const char *text;    // for --help: what it does
    unsigned groups;
    int (*run)(const struct settings *settings);
};

// Reads a command's arguments (argv[0] is not looked at). Returns true to go on; else exit_status
// is what the program ends with: an error was reported, or help was printed.
bool options_read(const struct command *command, int argc, const char **argv,
                  struct settings *settings, int *exit_status);
void options_free(struct settings *settings);

// The policy that the options ask for.
skim_policy options_policy(const struct settings *settings);

// Names of the values of an option, for messages and JSON ("group", "minmax").
const char *options_select_name(uint32_t select);
const char *options_combine_name(uint32_t combine);
const char *options_bounds_name(uint32_t bounds);
const char *options_bounds_type_name(uint32_t bounds_type);
const char *options_mode_name(uint32_t mode);
const char *options_task_name(uint32_t task);

#endif
