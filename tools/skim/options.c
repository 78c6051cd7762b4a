#include "options.h"

#include "number.h"
#include "report.h"
#include "texts.h"

#include <errno.h>
#include <popt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum option_kind {
    FLAG,
    TEXT,
    COUNT,
    COUNTS,
    SEED,
    REAL,
    CHOICE,
    CHOICES,
    FEATURES,
    PLACE
} option_kind;

struct choice {
    const char *name;
    uint32_t value;
};

static const struct choice page_sizes[] = {{"8", 8}, {"16", 16}, {"32", 32}, {"64", 64}, {0}};
static const struct choice selects[] = {
    {"head", SKIM_SELECT_HEAD}, {"group", SKIM_SELECT_GROUP}, {0}};
static const struct choice combines[] = {{"max", SKIM_COMBINE_MAX},
                                         {"mean", SKIM_COMBINE_MEAN},
                                         {"softmax-max", SKIM_COMBINE_SOFTMAX_MAX},
                                         {"softmax-mean", SKIM_COMBINE_SOFTMAX_MEAN},
                                         {0}};
static const struct choice bounds[] = {
    {"minmax", SKIM_BOUNDS_MINMAX}, {"meanstd", SKIM_BOUNDS_MEANSTD}, {0}};
static const struct choice bounds_types[] = {
    {"native", SKIM_BOUNDS_NATIVE}, {"i8", SKIM_BOUNDS_I8}, {0}};
static const struct choice types[] = {
    {"f32", SKIM_F32}, {"f16", SKIM_F16}, {"bf16", SKIM_BF16}, {0}};
static const struct choice logs[] = {{"none", SKIM_LOG_NONE},       {"error", SKIM_LOG_ERROR},
                                     {"warning", SKIM_LOG_WARNING}, {"info", SKIM_LOG_INFO},
                                     {"debug", SKIM_LOG_DEBUG},     {0}};

static const struct choice tasks[] = {{"passkey", TEXT_PASSKEY},
                                      {"facts", TEXT_FACTS},
                                      {"pair", TEXT_PAIR},
                                      {"votes", TEXT_VOTES},
                                      {0}};
static const struct choice modes[] = {{"dense", EVALUATE_DENSE},   {"head", EVALUATE_HEAD},
                                      {"group", EVALUATE_GROUP},   {"sinks", EVALUATE_SINKS},
                                      {"oracle", EVALUATE_ORACLE}, {0}};

static const struct choice places[] = {
    {"host", LINEAR_HOST}, {"clblast", LINEAR_CLBLAST}, {"cublas", LINEAR_CUBLAS}, {0}};

typedef struct option_spec {
    unsigned group;
    const char *name;
    option_kind kind;
    size_t offset;                // of the field in settings
    double least, most;           // of a number
    const struct choice *choices; // of a CHOICE or CHOICES
    const char *argument, *help;
} option_spec;

#define AT(field) offsetof(struct settings, field)
#define U32 4294967295.0

enum { THREADS_MAX = 1024 }; // of the CPU backend

static const option_spec specs[] = {
    {OPTIONS_DEVICE, "device", TEXT, AT(device), 0, 0, NULL, "SEL",
     "auto, cpu, cuda, cuda:1, vulkan:0 or a UUID (default auto)"},

    {OPTIONS_COMMON, "json", FLAG, AT(json), 0, 0, NULL, NULL, "print JSON"},
    {OPTIONS_COMMON, "threads", COUNT, AT(threads), 0, THREADS_MAX, NULL, "N",
     "threads of the CPU (default 0: one per processor)"},
    {OPTIONS_COMMON, "disable", FEATURES, AT(disable), 0, 0, NULL, "NAME[,NAME...]",
     "fast paths not to use, as 'skim devices' names them: avx2, avx512"},
    {OPTIONS_COMMON, "log", CHOICE, AT(log), 0, 0, logs, "LEVEL",
     "what the library says on stderr: none, error, warning, info, debug (default warning)"},
    {OPTIONS_COMMON, "help", FLAG, AT(help), 0, 0, NULL, NULL, "print this help"},
    {OPTIONS_COMMON, "version", FLAG, AT(version), 0, 0, NULL, NULL, "print the version"},

    {OPTIONS_POLICY, "budget", COUNT, AT(budget), 1, U32, NULL, "TOKENS",
     "tokens that attend may read per list (default 1024)"},
    {OPTIONS_POLICY, "budget-fraction", REAL, AT(budget_fraction), 1e-9, 1, NULL, "F",
     "the budget as a share of the length, instead of --budget"},
    {OPTIONS_PAGES, "page-size", CHOICE, AT(page_size), 0, 0, page_sizes, "P",
     "tokens in a page: 8, 16, 32 or 64 (default 16)"},
    {OPTIONS_POLICY, "dense-below", COUNT, AT(dense_below), 0, U32, NULL, "N",
     "sequences shorter than N tokens stay dense (default 0)"},
    {OPTIONS_POLICY, "select", CHOICE, AT(select), 0, 0, selects, "head|group",
     "one list per query head or per kv head (default group if a kv head has several)"},
    {OPTIONS_POLICY, "combine", CHOICE, AT(combine), 0, 0, combines, "HOW",
     "how group combines scores: max, mean, softmax-max, softmax-mean (default softmax-max)"},
    {OPTIONS_POLICY, "bounds", CHOICE, AT(bounds), 0, 0, bounds, "minmax|meanstd",
     "what summarises a page's keys (default minmax)"},
    {OPTIONS_POLICY, "bounds-type", CHOICE, AT(bounds_type), 0, 0, bounds_types, "native|i8",
     "how bounds are stored (default native: as the keys)"},
    {OPTIONS_PAGES, "spread", REAL, AT(spread), 0, 1e6, NULL, "LAMBDA",
     "weight of the deviation in meanstd (default 1)"},
    {OPTIONS_PAGES, "sink-pages", COUNT, AT(sink_pages), 0, U32, NULL, "N",
     "pages at the start that are always read (default 0)"},
    {OPTIONS_POLICY, "recent-pages", COUNT, AT(recent_pages), 0, U32, NULL, "N",
     "pages at the end that are always read (default 1: the last)"},

    {OPTIONS_LAYERS, "dense-layers", COUNT, AT(dense_layers), 0, U32, NULL, "N",
     "the model's first N layers stay dense (default 2)"},
    {OPTIONS_REPLAY, "out", TEXT, AT(out), 0, 0, NULL, "FILE",
     "write results, lse and the pages read of every query (safetensors)"},

    {OPTIONS_MODEL, "model", TEXT, AT(model), 0, 0, NULL, "DIR",
     "folder of a Hugging Face model: config.json, safetensors, tokenizer.json"},
    {OPTIONS_GENERATE, "prompt", TEXT, AT(prompt), 0, 0, NULL, "TEXT", "the prompt"},
    {OPTIONS_GENERATE, "prompt-file", TEXT, AT(prompt_file), 0, 0, NULL, "FILE",
     "read the prompt from a file (-: standard input)"},
    {OPTIONS_GENERATE, "token-ids", TEXT, AT(token_ids), 0, 0, NULL, "N,N...|@FILE",
     "the prompt as tokens; without a tokenizer, tokens are printed too"},
    {OPTIONS_GENERATE, "tokens", COUNT, AT(tokens), 0, 1 << 30, NULL, "N",
     "most tokens to generate (default 128)"},
    {OPTIONS_GENERATE, "linear", PLACE, AT(linear), 0, 0, NULL, "host|clblast[:N]|cublas[:N]",
     "where linear layers run: host, or a device of OpenCL or CUDA, number N (default host)"},
    {OPTIONS_GENERATE, "dense", FLAG, AT(dense), 0, 0, NULL, NULL,
     "read the whole cache for every token, whatever the policy says"},
    {OPTIONS_MODEL, "kv-type", CHOICE, AT(kv_type), 0, 0, types, "f32|f16|bf16",
     "of the keys and values in the cache (default: as the model's weights)"},
    {OPTIONS_GENERATE, "logits", TEXT, AT(logits), 0, 0, NULL, "FILE",
     "write the logits of every position (safetensors)"},
    {OPTIONS_GENERATE, "trace", TEXT, AT(record), 0, 0, NULL, "FILE",
     "record a trace for skim replay: what the attention gets (safetensors)"},
    {OPTIONS_GENERATE, "trace-layers", COUNTS, AT(trace_layers), 0, U32, NULL, "N[,N...]",
     "layers of the trace (default: all)"},
    {OPTIONS_GENERATE, "trace-queries", COUNT, AT(trace_queries), 1, U32, NULL, "N",
     "queries of the trace, of the last N tokens that are run (default 64)"},

    {OPTIONS_EVALUATE, "task", CHOICE, AT(task), 0, 0, tasks, "TASK",
     "what is hidden in the texts: passkey, facts, pair or votes (default passkey)"},
    {OPTIONS_EVALUATE, "length", COUNTS, AT(lengths), 1, 1 << 28, NULL, "N[,N...]",
     "tokens of a text with its question (default 8192)"},
    {OPTIONS_EVALUATE, "mode", CHOICES, AT(modes), 0, 0, modes, "MODE[,MODE...]",
     "who chooses the pages: dense, head, group, sinks, oracle (default dense,head,sinks)"},
    {OPTIONS_EVALUATE, "budget", COUNTS, AT(budgets), 1, U32, NULL, "TOKENS[,...]",
     "tokens that attend may read per list (default 512)"},
    {OPTIONS_EVALUATE, "combine", CHOICES, AT(combines), 0, 0, combines, "HOW[,HOW...]",
     "how group combines scores: max, mean, softmax-max, softmax-mean (default softmax-max)"},
    {OPTIONS_EVALUATE, "bounds", CHOICES, AT(bounds_list), 0, 0, bounds, "KIND[,KIND]",
     "what summarises a page's keys: minmax, meanstd (default minmax)"},
    {OPTIONS_EVALUATE, "bounds-type", CHOICES, AT(bounds_types), 0, 0, bounds_types, "TYPE[,TYPE]",
     "how bounds are stored: native, i8 (default native)"},
    {OPTIONS_EVALUATE, "dense-layers", COUNTS, AT(dense_layers_list), 0, U32, NULL, "N[,N...]",
     "the model's first N layers stay dense (default 2)"},
    {OPTIONS_EVALUATE, "recent-pages", COUNTS, AT(recent_pages_list), 0, U32, NULL, "N[,N...]",
     "pages at the end that are always read (default 1: the last)"},
    {OPTIONS_EVALUATE, "questions", COUNT, AT(questions), 1, 1 << 20, NULL, "N",
     "questions of each cell (default 100)"},
    {OPTIONS_EVALUATE, "questions-per-context", COUNT, AT(questions_per_context), 1, TEXT_QUESTIONS,
     NULL, "N", "questions of one text (default: passkey 1, else 4)"},
    {OPTIONS_EVALUATE, "mask-needle", FLAG, AT(mask_needle), 0, 0, NULL, NULL,
     "take the pages of what is asked for out of reach"},
    {OPTIONS_EVALUATE, "show", FLAG, AT(show), 0, 0, NULL, NULL,
     "show every question and answer; one cell at a time, so that it can be timed"},
    {OPTIONS_EVALUATE, "seed", SEED, AT(seed), 0, 0, NULL, "N", "seed of the texts (default 0)"},

    {OPTIONS_SHAPE, "q-heads", COUNT, AT(q_heads), 1, U32, NULL, "N", "query heads (default 32)"},
    {OPTIONS_SHAPE, "kv-heads", COUNT, AT(kv_heads), 1, U32, NULL, "N", "kv heads (default 8)"},
    {OPTIONS_SHAPE, "head-dim", COUNT, AT(head_dim), 1, U32, NULL, "N", "channels (default 128)"},
    {OPTIONS_SHAPE, "context", COUNTS, AT(contexts), 1, U32, NULL, "N[,N...]",
     "tokens of a sequence; several make a list (default 32768)"},
    {OPTIONS_SHAPE, "type", CHOICE, AT(type), 0, 0, types, "f32|f16|bf16",
     "of keys, values and queries (default f16)"},
    {OPTIONS_SHAPE, "batch", COUNT, AT(batch), 1, 65536, NULL, "N", "sequences (default 1)"},
    {OPTIONS_SHAPE, "layers", COUNT, AT(layers), 0, 65536, NULL, "N",
     "layers to rotate through (default 0: enough to leave the last-level cache)"},

    {OPTIONS_BENCH, "model-layers", COUNT, AT(model_layers), 1, 65536, NULL, "N",
     "with --model: scale to a model of N such layers (default: the folder's)"},
    {OPTIONS_BENCH, "prefill", COUNT, AT(prefill), 0, U32, NULL, "N",
     "also time the dense attention of a prompt of N tokens (default 0: do not)"},
    {OPTIONS_BENCH, "sequences", COUNT, AT(sequences), 0, 4096, NULL, "N",
     "also time fork, truncate and the begin of N sequences (default 0: do not)"},
    {OPTIONS_BENCH, "snapshot", COUNT, AT(snapshot), 0, 1 << 20, NULL, "N",
     "also time saving and loading N MiB of a cache (default 0: do not)"},
    {OPTIONS_BENCH, "repeat", COUNT, AT(repeat), 1, 100000, NULL, "N",
     "repetitions whose median is printed (default 25)"},

    {OPTIONS_CONFORM, "quick", FLAG, AT(quick), 0, 0, NULL, NULL, "only the quick cases"},
    {OPTIONS_CONFORM, "filter", TEXT, AT(filter), 0, 0, NULL, "TEXT",
     "only cases whose name contains this"},
    {OPTIONS_CONFORM, "allocation-max", SEED, AT(allocation_max), 0, 0, NULL, "BYTES",
     "GPUs: most bytes of one piece of device memory, so that larger buffers are split"},
    {OPTIONS_CONFORM, "seed", SEED, AT(seed), 0, 0, NULL, "N", "seed of the random data"},
};

enum { SPECS = sizeof specs / sizeof *specs };

static const struct {
    unsigned group;
    const char *heading;
} headings[] = {
    {OPTIONS_MODEL, "Model:"},
    {OPTIONS_GENERATE, "Prompt and text:"},
    {OPTIONS_EVALUATE, "Texts, and lists whose every combination is measured:"},
    {OPTIONS_LAYERS, "Layers:"},
    {OPTIONS_REPLAY, "Trace:"},
    {OPTIONS_SHAPE, "Shape:"},
    {OPTIONS_BENCH, "Measurement:"},
    {OPTIONS_CONFORM, "Cases:"},
    {OPTIONS_POLICY, "Policy:"},
    {OPTIONS_PAGES, "Pages:"},
    {OPTIONS_DEVICE, "Where:"},
    {OPTIONS_COMMON, "Common:"},
};

enum { GROUPS = sizeof headings / sizeof *headings };

// Letters for an option.
static const struct {
    char letter;
    const char *name;
} letters[] = {{'h', "help"}, {'?', "help"}};

enum { LETTERS = sizeof letters / sizeof *letters };

static bool read_count(const char *text, double least, double most, uint64_t *value, char **end)
{
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    *value = strtoull(text, end, 10);
    return errno == 0 && (double)*value >= least && (double)*value <= most;
}

static int wrong_number(const option_spec *spec, const char *text)
{
    if (spec->kind == SEED)
        return report_usage("--%s takes a whole number, not '%s'", spec->name, text);
    const char *what = spec->kind == REAL     ? "a number"
                       : spec->kind == COUNTS ? "at most 64 whole numbers with commas between them,"
                                              : "a whole number";
    if (spec->most >= U32)
        return report_usage("--%s takes %s of at least %.10g, not '%s'", spec->name, what,
                            spec->least, text);
    return report_usage("--%s takes %s from %.10g to %.10g, not '%s'", spec->name, what,
                        spec->least, spec->most, text);
}

static int read_counts(const option_spec *spec, const char *text, count_list *list)
{
    list->count = 0;
    const char *rest = text;
    do {
        uint64_t value = 0;
        char *end = NULL;
        if (list->count == OPTIONS_COUNTS ||
            !read_count(rest, spec->least, spec->most, &value, &end) || (*end && *end != ','))
            return wrong_number(spec, text);
        list->values[list->count++] = (uint32_t)value;
        rest = *end ? end + 1 : NULL;
    } while (rest);
    return EXIT_DONE;
}

static int read_choice(const option_spec *spec, const char *text, uint32_t *value)
{
    char names[128] = "";
    for (const struct choice *choice = spec->choices; choice->name; choice++) {
        if (strcmp(choice->name, text) == 0) {
            *value = choice->value;
            return EXIT_DONE;
        }
        size_t length = strlen(names);
        snprintf(names + length, sizeof names - length, "%s%s",
                 choice == spec->choices ? ""
                 : (choice + 1)->name    ? ", "
                                         : " or ",
                 choice->name);
    }
    return report_usage("--%s takes %s, not '%s'", spec->name, names, text);
}

// Choices with commas between them.
static int read_choices(const option_spec *spec, char *text, count_list *list)
{
    list->count = 0;
    for (char *name = text, *rest; name; name = rest) {
        rest = strchr(name, ',');
        if (rest)
            *rest++ = '\0';
        if (list->count == OPTIONS_COUNTS)
            return report_usage("--%s takes at most %d names", spec->name, OPTIONS_COUNTS);
        int failed = read_choice(spec, name, &list->values[list->count++]);
        if (failed)
            return failed;
    }
    return EXIT_DONE;
}

static int read_real(const option_spec *spec, const char *text, double *value)
{
    if (!number_read(text, value) || *value < spec->least || *value > spec->most)
        return wrong_number(spec, text);
    return EXIT_DONE;
}

// The bit of a feature's name, 0 if there is none.
static uint64_t feature_bit(const char *text, size_t length)
{
    for (uint32_t i = 0; i < 64; i++) {
        const char *name = skim_feature_name((uint64_t)1 << i);
        if (name && strlen(name) == length && strncmp(name, text, length) == 0)
            return (uint64_t)1 << i;
    }
    return 0;
}

static int read_features(const option_spec *spec, const char *text, uint64_t *features)
{
    for (const char *rest = text; rest;) {
        size_t length = strcspn(rest, ",");
        uint64_t bit = feature_bit(rest, length);
        if (!bit)
            return report_usage("--%s: '%.*s' is no fast path; 'skim devices' names them",
                                spec->name, (int)length, rest);
        *features |= bit;
        rest = rest[length] ? rest + length + 1 : NULL;
    }
    return EXIT_DONE;
}

// A place, or one with the number of a device.
static int read_place(const option_spec *spec, const char *text, struct settings *settings)
{
    size_t length = strcspn(text, ":");
    for (const struct choice *place = places; place->name; place++) {
        if (strlen(place->name) != length || strncmp(place->name, text, length) != 0)
            continue;
        uint64_t device = LINEAR_ANY;
        char *end = NULL;
        if (text[length] && (place->value == LINEAR_HOST ||
                             !read_count(text + length + 1, 0, 9999, &device, &end) || *end))
            break;
        settings->linear = place->value;
        settings->linear_device = (uint32_t)device;
        return EXIT_DONE;
    }
    return report_usage("--%s takes host, clblast, clblast:N, cublas or cublas:N, not '%s'",
                        spec->name, text);
}

static int read_option(const option_spec *spec, char *text, struct settings *settings)
{
    void *field = (char *)settings + spec->offset;
    uint64_t value = 0;
    char *end = NULL;
    switch (spec->kind) {
    case FLAG:
        *(bool *)field = true;
        return EXIT_DONE;
    case TEXT:
        free(*(char **)field);
        *(char **)field = strdup(text);
        return *(char **)field ? EXIT_DONE
                               : report_failure("out of memory; free some and try again");
    case COUNT:
        if (!read_count(text, spec->least, spec->most, &value, &end) || *end)
            return wrong_number(spec, text);
        *(uint32_t *)field = (uint32_t)value;
        return EXIT_DONE;
    case COUNTS:
        return read_counts(spec, text, field);
    case SEED:
        if (!read_count(text, 0, 2e19, field, &end) || *end)
            return wrong_number(spec, text);
        return EXIT_DONE;
    case REAL:
        return read_real(spec, text, field);
    case CHOICE:
        return read_choice(spec, text, field);
    case FEATURES:
        return read_features(spec, text, field);
    case CHOICES:
        return read_choices(spec, text, field);
    case PLACE:
        return read_place(spec, text, settings);
    }
    return EXIT_FAILED;
}

// popt's tables of the groups that a command takes, made from specs.
struct tables {
    struct poptOption groups[GROUPS + 1];
    // Of one group after the other, each with its end.
    struct poptOption options[SPECS + LETTERS + GROUPS];
};

// Adds the options of one group. Returns where the next group's begin.
static struct poptOption *add_options(unsigned group, struct poptOption *next)
{
    for (size_t i = 0; i < SPECS; i++) {
        if (specs[i].group != group)
            continue;
        *next++ =
            (struct poptOption){.longName = specs[i].name,
                                .argInfo = specs[i].kind == FLAG ? POPT_ARG_NONE : POPT_ARG_STRING,
                                .val = (int)i + 1,
                                .descrip = specs[i].help,
                                .argDescrip = specs[i].argument};
        for (size_t l = 0; l < LETTERS; l++)
            if (strcmp(letters[l].name, specs[i].name) == 0)
                *next++ = (struct poptOption){.shortName = letters[l].letter,
                                              .argInfo = POPT_ARG_NONE | POPT_ARGFLAG_DOC_HIDDEN,
                                              .val = (int)i + 1};
    }
    return next + 1;
}

static void make_tables(unsigned groups, struct tables *tables)
{
    *tables = (struct tables){0};
    struct poptOption *next = tables->options;
    struct poptOption *group = tables->groups;
    for (size_t g = 0; g < GROUPS; g++) {
        if (!(groups & headings[g].group))
            continue;
        *group++ = (struct poptOption){
            .argInfo = POPT_ARG_INCLUDE_TABLE, .arg = next, .descrip = headings[g].heading};
        next = add_options(headings[g].group, next);
    }
}

static void set_defaults(struct settings *settings)
{
    *settings = (struct settings){
        .log = SKIM_LOG_WARNING,
        .budget = 1024,
        .page_size = 16,
        .dense_layers = 2,
        .spread = 1,
        .recent_pages = 1,
        .q_heads = 32,
        .kv_heads = 8,
        .head_dim = 128,
        .type = SKIM_F16,
        .batch = 1,
        .contexts = {.count = 1, .values = {32768}},
        .repeat = 25,
        .tokens = 128,
        .trace_queries = 64,
        .linear_device = LINEAR_ANY,
        .questions = 100,
        .lengths = {.count = 1, .values = {8192}},
        .budgets = {.count = 1, .values = {512}},
        .modes = {.count = 3, .values = {EVALUATE_DENSE, EVALUATE_HEAD, EVALUATE_SINKS}},
        .combines = {.count = 1, .values = {SKIM_COMBINE_SOFTMAX_MAX}},
        .bounds_list = {.count = 1, .values = {SKIM_BOUNDS_MINMAX}},
        .bounds_types = {.count = 1, .values = {SKIM_BOUNDS_NATIVE}},
        .dense_layers_list = {.count = 1, .values = {2}},
        .recent_pages_list = {.count = 1, .values = {1}},
    };
}

// Options that go only with another one, or never: of commands that have the group.
static const struct {
    unsigned group;
    const char *name, *other;
    bool together;
} pairs[] = {
    {OPTIONS_POLICY, "budget", "budget-fraction", false},
    {OPTIONS_GENERATE, "trace-layers", "trace", true},
    {OPTIONS_GENERATE, "trace-queries", "trace", true},
    {OPTIONS_BENCH, "dense-layers", "model", true},
    {OPTIONS_BENCH, "model-layers", "model", true},
    {OPTIONS_BENCH, "kv-type", "model", true},
    // With a model these are its own, or one.
    {OPTIONS_BENCH, "q-heads", "model", false},
    {OPTIONS_BENCH, "kv-heads", "model", false},
    {OPTIONS_BENCH, "head-dim", "model", false},
    {OPTIONS_BENCH, "type", "model", false},
    {OPTIONS_BENCH, "layers", "model", false},
    {OPTIONS_BENCH, "batch", "model", false},
    {OPTIONS_BENCH, "prefill", "model", false},
    {OPTIONS_BENCH, "sequences", "model", false},
    {OPTIONS_BENCH, "snapshot", "model", false},
};

// seen: by the index of the option in specs, from 1.
static bool was_seen(const bool *seen, const char *name)
{
    for (size_t i = 0; i < SPECS; i++)
        if (seen[i + 1] && strcmp(specs[i].name, name) == 0)
            return true;
    return false;
}

static int check_pairs(const struct command *command, const bool *seen)
{
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (!(command->groups & pairs[i].group) || !was_seen(seen, pairs[i].name) ||
            was_seen(seen, pairs[i].other) == pairs[i].together)
            continue;
        if (pairs[i].together)
            return report_usage("--%s goes with --%s only; give both", pairs[i].name,
                                pairs[i].other);
        return report_usage("--%s and --%s exclude each other; give one", pairs[i].name,
                            pairs[i].other);
    }
    return EXIT_DONE;
}

static int read_all(const struct command *command, poptContext context, struct settings *settings)
{
    bool seen[SPECS + 1] = {false};
    for (int index; (index = poptGetNextOpt(context)) != -1;) {
        if (index < -1)
            return report_usage("%s: %s; 'skim %s --help' lists the options",
                                poptBadOption(context, POPT_BADOPTION_NOALIAS), poptStrerror(index),
                                command->name);
        char *text = poptGetOptArg(context);
        seen[index] = true;
        int failed = read_option(&specs[index - 1], text, settings);
        free(text);
        if (failed)
            return failed;
    }
    if (settings->help || settings->version)
        return EXIT_DONE;
    int status = check_pairs(command, seen);
    if (status != EXIT_DONE)
        return status;
    const char *operand = command->operand ? poptGetArg(context) : NULL;
    if (command->operand && !operand)
        return report_usage("%s needs a %s; 'skim %s --help' says more", command->name,
                            command->operand, command->name);
    const char *surplus = poptGetArg(context);
    if (surplus)
        return report_usage("'%s' is one argument too many; 'skim %s --help' says what it takes",
                            surplus, command->name);
    if (operand && !(settings->trace = strdup(operand)))
        return report_failure("out of memory; free some and try again");
    return EXIT_DONE;
}

bool options_read(const struct command *command, int argc, const char **argv,
                  struct settings *settings, int *exit_status)
{
    set_defaults(settings);
    struct tables tables;
    make_tables(command->groups, &tables);
    char name[32];
    snprintf(name, sizeof name, "skim %s", command->name);
    argv[0] = name;
    poptContext context = poptGetContext(NULL, argc, argv, tables.groups, 0);
    if (!context) {
        *exit_status = report_failure("out of memory; free some and try again");
        return false;
    }
    char usage[64];
    snprintf(usage, sizeof usage, "[options]%s%s", command->operand ? " " : "",
             command->operand ? command->operand : "");
    poptSetOtherOptionHelp(context, usage);
    *exit_status = read_all(command, context, settings);
    bool proceed = *exit_status == EXIT_DONE;
    if (proceed && settings->help) {
        poptPrintHelp(context, stdout, 0);
        printf("\n%s\n", command->text);
        proceed = false;
    } else if (proceed && settings->version) {
        printf("skim %s\n", skim_version());
        proceed = false;
    }
    poptFreeContext(context);
    return proceed;
}

void options_free(struct settings *settings)
{
    free(settings->device);
    free(settings->trace);
    free(settings->out);
    free(settings->filter);
    free(settings->model);
    free(settings->prompt);
    free(settings->prompt_file);
    free(settings->token_ids);
    free(settings->logits);
    free(settings->record);
}

skim_policy options_policy(const struct settings *settings)
{
    skim_policy policy = skim_policy_defaults();
    policy.budget = settings->budget;
    policy.budget_fraction = settings->budget_fraction;
    policy.dense_layers = settings->dense_layers;
    policy.dense_below = settings->dense_below;
    policy.select = (skim_select_mode)settings->select;
    policy.combine = (skim_combine)settings->combine;
    policy.spread = (float)settings->spread;
    policy.sink_pages = settings->sink_pages;
    policy.recent_pages = settings->recent_pages;
    return policy;
}

static const char *choice_name(const struct choice *choices, uint32_t value, const char *otherwise)
{
    for (; choices->name; choices++)
        if (choices->value == value)
            return choices->name;
    return otherwise;
}

const char *options_select_name(uint32_t select)
{
    return choice_name(selects, select, "auto");
}

const char *options_combine_name(uint32_t combine)
{
    return choice_name(combines, combine, "softmax-max");
}

const char *options_bounds_name(uint32_t value)
{
    return choice_name(bounds, value, "minmax");
}

const char *options_bounds_type_name(uint32_t bounds_type)
{
    return choice_name(bounds_types, bounds_type, "native");
}

const char *options_mode_name(uint32_t mode)
{
    return choice_name(modes, mode, "dense");
}

const char *options_task_name(uint32_t task)
{
    return choice_name(tasks, task, "passkey");
}
