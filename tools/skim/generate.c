// skim generate: a model continues a text.
#include "generate.h"

#include "commands.h"
#include "report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile sig_atomic_t interrupted;

static void note_interrupt(int signal)
{
    (void)signal;
    interrupted = 1;
}

// What ends the text, so that no file is left half-done; a second one ends the program.
static const int ending_signals[] = {SIGINT, SIGTERM, SIGHUP};
enum { ENDING_SIGNALS = sizeof ending_signals / sizeof *ending_signals };

static void catch_interrupts(struct sigaction before[ENDING_SIGNALS])
{
    struct sigaction action = {.sa_handler = note_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    interrupted = 0;
    for (int i = 0; i < ENDING_SIGNALS; i++) {
        sigaction(ending_signals[i], NULL, &before[i]);
        if (before[i].sa_handler != SIG_IGN) // nohup
            sigaction(ending_signals[i], &action, NULL);
    }
}

static void restore_interrupts(const struct sigaction before[ENDING_SIGNALS])
{
    for (int i = 0; i < ENDING_SIGNALS; i++)
        sigaction(ending_signals[i], &before[i], NULL);
}

static int check_options(const struct settings *settings)
{
    int prompts = !!settings->prompt + !!settings->prompt_file + !!settings->token_ids;
    if (!settings->model)
        return report_usage("generate needs --model DIR; 'skim generate --help' says more");
    if (prompts != 1)
        return report_usage("generate takes %s of --prompt, --prompt-file and --token-ids",
                            prompts ? "only one" : "one");
    return EXIT_DONE;
}

// Positions whose logits are kept: with --logits, every one that is run.
static uint64_t count_rows(const struct generate *generate)
{
    uint64_t steps = generate->settings->tokens ? generate->settings->tokens - 1 : 0;
    return generate->settings->logits ? generate->prompt.count + steps : 1;
}

// Bytes that the host had free at first, or more than any. Reserving memory that is not there
// succeeds on most systems; using it does not.
static uint64_t memory_available(const struct generate *generate)
{
    const skim_device_info *info = &generate->session.info;
    bool known = info->type == SKIM_DEVICE_CPU && info->memory_available;
    return known ? info->memory_available : SIZE_MAX / 2;
}

static int make_recorder(struct generate *generate, uint64_t capacity)
{
    struct attention *attention = &generate->forward.attention;
    attention->recorder = &generate->recorder;
    skim_cache_usage usage = {.size_of = sizeof usage};
    skim_status status = skim_cache_get_usage(attention->cache, &usage);
    if (status != SKIM_OK)
        return session_cache_failure(attention->cache, status);
    uint64_t room = memory_available(generate);
    return recorder_open(&generate->recorder, generate->settings, &generate->model.config,
                         attention->type, capacity,
                         room > usage.device_bytes ? room - usage.device_bytes : 0);
}

static int make_room(struct generate *generate)
{
    uint64_t bytes = sizeof(float);
    uint64_t room = memory_available(generate);
    bool fits = !__builtin_mul_overflow(bytes, count_rows(generate), &bytes) &&
                !__builtin_mul_overflow(bytes, generate->model.config.vocab, &bytes) &&
                bytes <= room;
    if (fits)
        generate->logits = malloc((size_t)bytes);
    if (!generate->logits)
        return report_failure("no memory for the logits of %llu positions; use a shorter prompt",
                              (unsigned long long)count_rows(generate));
    uint32_t steps = generate->settings->tokens ? generate->settings->tokens - 1 : 0;
    uint64_t capacity = generate->prompt.count + steps;
    uint32_t most = generate->model.config.max_positions;
    if (most && capacity > most)
        report_warning("%llu tokens are more than the %u that the model was made for",
                       (unsigned long long)capacity, most);
    int failed = forward_open(&generate->forward, &generate->model, &generate->session,
                              generate->settings, capacity);
    return failed || !generate->settings->record ? failed : make_recorder(generate, capacity);
}

// Runs some tokens; the last one's logits are then at the place that is returned by last_logits.
static int run(struct generate *generate, const uint32_t *tokens, uint32_t count, bool dense,
               bool last)
{
    bool all = generate->settings->logits != NULL;
    float *logits = generate->logits;
    if (all)
        logits += generate->logit_rows * generate->model.config.vocab;
    int failed = forward_run(&generate->forward, tokens, count, dense,
                             all    ? FORWARD_ALL
                             : last ? FORWARD_LAST
                                    : FORWARD_NONE,
                             logits);
    if (!failed)
        generate->logit_rows = all ? generate->logit_rows + count : 1;
    return failed;
}

static int prefill(struct generate *generate)
{
    double start = now();
    size_t count = generate->prompt.count;
    int failed = EXIT_DONE;
    for (size_t first = 0; first < count && !failed; first += FORWARD_STEP_TOKENS) {
        size_t rest = count - first;
        uint32_t tokens = rest < FORWARD_STEP_TOKENS ? (uint32_t)rest : FORWARD_STEP_TOKENS;
        progress_show("prompt", first, count);
        failed = run(generate, generate->prompt.tokens + first, tokens, true, tokens == rest);
        generate->prompt_done += failed ? 0 : tokens;
    }
    progress_clear();
    generate->prefill_s = now() - start;
    generate->prefill_counts = generate->forward.attention.counts;
    attention_reset(&generate->forward.attention);
    return failed;
}

// The likeliest token, the first of equals. False: some logit is no number.
static bool choose(const struct generate *generate, uint32_t *token)
{
    uint32_t vocab = generate->model.config.vocab;
    const float *logits = generate->logits + (generate->logit_rows - 1) * vocab;
    *token = 0;
    bool finite = true;
    for (uint32_t i = 0; i < vocab; i++) {
        finite &= isfinite(logits[i]) != 0;
        if (logits[i] > logits[*token])
            *token = i;
    }
    return finite;
}

static bool is_end(const struct model_config *config, uint32_t token)
{
    for (uint32_t i = 0; i < config->end_count; i++)
        if (config->ends[i] == token)
            return true;
    return false;
}

static int decode(struct generate *generate)
{
    double start = now();
    uint32_t wanted = generate->settings->tokens;
    int failed = EXIT_DONE;
    while (generate->made.count < wanted) {
        uint32_t token = 0;
        if (!choose(generate, &token)) {
            failed = report_failure("the model's logits are not finite after %llu tokens: its "
                                    "weights are damaged, or too large for the type",
                                    (unsigned long long)generate->forward.length);
            break;
        }
        if (is_end(&generate->model.config, token)) {
            generate->end = GENERATE_END_TOKEN;
            break;
        }
        if (!token_list_add(&generate->made, token)) {
            failed = report_failure("out of memory for the text");
            break;
        }
        generate_print_token(generate, token);
        // What cannot be written is reported at the end.
        if (generate->made.count == wanted || ferror(stdout))
            break;
        failed = run(generate, &token, 1, generate->settings->dense, true);
        if (failed)
            break;
    }
    generate->decode_s = now() - start;
    generate->decode_counts = generate->forward.attention.counts;
    return failed;
}

static int write_logits(struct generate *generate)
{
    const struct trace_out tensor = {.name = "logits",
                                     .type = TRACE_OUT_F32,
                                     .rank = 2,
                                     .shape = {generate->logit_rows, generate->model.config.vocab},
                                     .data = generate->logits};
    return trace_writer_write(&generate->writer, &tensor, 1, NULL);
}

// Ctrl-C leaves what there is to be reported, and is a failure.
static int make_text(struct generate *generate)
{
    struct sigaction before[ENDING_SIGNALS];
    catch_interrupts(before);
    generate->forward.stop = &interrupted;
    int failed = prefill(generate);
    if (!failed)
        failed = decode(generate);
    restore_interrupts(before);
    bool stopped = failed == FORWARD_STOPPED;
    if (stopped)
        generate->end = GENERATE_INTERRUPTED;
    else if (failed)
        return failed;
    if (generate->settings->logits && !stopped)
        failed = write_logits(generate);
    if (!failed && generate->settings->record && !stopped)
        failed = generate_write_trace(generate);
    if (failed == EXIT_DONE || stopped)
        failed = generate_report(generate);
    return stopped ? report_failure("interrupted after %llu of %zu prompt tokens and %zu new ones",
                                    (unsigned long long)generate->prompt_done,
                                    generate->prompt.count, generate->made.count)
                   : failed;
}

// Opens the files that were asked for.
static int open_files(struct generate *generate)
{
    const struct settings *settings = generate->settings;
    struct trace_writer *logits = &generate->writer;
    struct trace_writer *trace = &generate->trace_writer;
    int failed = EXIT_DONE;
    if (settings->logits)
        failed = trace_writer_open(logits, settings->logits, "--logits");
    if (!failed && settings->record)
        failed = trace_writer_open(trace, settings->record, "--trace");
    // Of two files under one name the second would replace the first.
    if (!failed && logits->temporary && trace->temporary && strcmp(logits->path, trace->path) == 0)
        failed = report_usage("--logits and --trace name the same file; give two");
    return failed;
}

int generate_run(const struct settings *settings)
{
    struct generate generate = {.settings = settings};
    double start = now();
    int failed = check_options(settings);
    if (failed)
        return failed;
    failed = model_open(&generate.model, settings->model);
    if (!failed)
        failed = generate_read_prompt(&generate);
    if (!failed)
        failed = session_open(&generate.session, settings);
    if (!failed)
        failed = open_files(&generate);
    if (!failed)
        failed = make_room(&generate);
    generate.load_s = now() - start;
    if (!failed)
        failed = make_text(&generate);
    forward_close(&generate.forward);
    session_close(&generate.session);
    trace_writer_close(&generate.writer);
    trace_writer_close(&generate.trace_writer);
    recorder_close(&generate.recorder);
    tokenizer_close(&generate.tokenizer);
    model_close(&generate.model);
    token_list_free(&generate.prompt);
    token_list_free(&generate.made);
    free(generate.logits);
    return failed;
}
