// skim evaluate: how many answers are right with each way of choosing pages.
#include "evaluate.h"
#include "commands.h"
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What is measured at one length.
struct bench {
    struct evaluate *evaluate;
    struct cells *cells;
    uint32_t length;
    struct pool pool;
    struct exact exact;
    struct forward forward;
    struct decode decode;
};

static int check_options(const struct settings *settings)
{
    if (!settings->model)
        return report_usage("evaluate needs --model DIR; 'skim evaluate --help' says more");
    uint32_t most = text_questions((enum text_task)settings->task);
    if (settings->questions_per_context > most)
        return report_usage("a text of %s has at most %s, not %u",
                            options_task_name(settings->task), report_count(most, "question").text,
                            settings->questions_per_context);
    // JSON has no larger numbers.
    if (settings->seed > INT64_MAX)
        return report_usage("--seed takes at most %lld, not %llu", (long long)INT64_MAX,
                            (unsigned long long)settings->seed);
    // The length of a text varies, so that questions fall at every place in a page.
    size_t least = text_least((enum text_task)settings->task) +
                   text_question_bytes((enum text_task)settings->task) + EVALUATE_SHIFT;
    for (uint32_t i = 0; i < settings->lengths.count; i++) {
        for (uint32_t j = 0; j < i; j++)
            if (settings->lengths.values[j] == settings->lengths.values[i])
                return report_usage("--length names %u twice", settings->lengths.values[i]);
        if (settings->lengths.values[i] < least)
            return report_usage("a text of %s has at least %zu tokens, not %u",
                                options_task_name(settings->task), least,
                                settings->lengths.values[i]);
    }
    return EXIT_DONE;
}

static int open_tokenizer(struct evaluate *evaluate)
{
    char reason[256] = "";
    int failed = tokenizer_open(&evaluate->tokenizer, evaluate->settings->model,
                                &evaluate->model.config, &evaluate->has_tokenizer, reason);
    if (!failed && !evaluate->has_tokenizer)
        failed =
            report_failure("the model's tokenizer cannot be used: %s; evaluate needs one", reason);
    return failed;
}

// How many tokens an answer takes, with one for a blank where not every byte is a token.
static int count_answer(const struct evaluate *evaluate, const char *answer, uint32_t *count)
{
    struct token_list list = {0};
    size_t length = strlen(answer);
    int failed = tokenizer_encode(&evaluate->tokenizer, answer, length, &list);
    *count =
        (uint32_t)list.count - evaluate->tokenizer.prefix_count - evaluate->tokenizer.suffix_count;
    *count += *count < length;
    token_list_free(&list);
    return failed;
}

static int check_memory(const struct bench *bench, const struct exact_shape *shape,
                        uint32_t threads)
{
    uint64_t bytes = exact_bytes(shape, threads);
    uint64_t available = bench->evaluate->session.info.type == SKIM_DEVICE_CPU
                             ? bench->evaluate->session.info.memory_available
                             : 0;
    if (bytes == 0 || (available && bytes > available))
        return report_failure("a text of %u tokens does not fit in memory; use a shorter one",
                              bench->length);
    return EXIT_DONE;
}

static int open_bench(struct bench *bench)
{
    struct evaluate *evaluate = bench->evaluate;
    const struct settings *settings = evaluate->settings;
    const struct model_config *config = &evaluate->model.config;
    uint32_t rows = bench->cells->count < EVALUATE_ROWS ? bench->cells->count : EVALUATE_ROWS;
    rows = settings->show ? 1 : rows;
    uint32_t more = EVALUATE_QUESTION + DECODE_ANSWER;
    uint32_t threads =
        evaluate->session.limits.threads ? evaluate->session.limits.threads : settings->threads;
    threads = threads ? threads : 1;
    struct exact_shape shape = {.layers = config->layers,
                                .q_heads = config->q_heads,
                                .kv_heads = config->kv_heads,
                                .head_dim = config->head_dim,
                                .page_size = settings->page_size,
                                .tokens = bench->length,
                                .rows = rows,
                                .more = more};
    struct pool_options options = {.page_size = settings->page_size,
                                   .text_tokens = bench->length,
                                   .own_tokens = more,
                                   .rows = rows,
                                   .step_tokens = FORWARD_STEP_TOKENS,
                                   .type = evaluate->type,
                                   .spread = (float)settings->spread,
                                   .cells = bench->cells};
    int failed = check_memory(bench, &shape, threads);
    if (!failed)
        failed = pool_open(&bench->pool, &evaluate->session, config, &options);
    if (!failed)
        failed = exact_open(&bench->exact, &shape, threads);
    if (!failed)
        failed = forward_open_layers(&bench->forward, &evaluate->model, threads,
                                     rows > FORWARD_STEP_TOKENS ? rows : FORWARD_STEP_TOKENS,
                                     decode_layer, &bench->decode);
    return failed ? failed
                  : decode_open(&bench->decode, &bench->pool, &bench->exact, &bench->forward);
}

static void close_bench(struct bench *bench)
{
    decode_close(&bench->decode);
    forward_close(&bench->forward);
    exact_close(&bench->exact);
    pool_close(&bench->pool);
}

// The text that the tokens stand for, without blanks before it.
static void decode_answer(const struct evaluate *evaluate, const uint32_t *tokens, uint32_t count,
                          char *text, size_t size)
{
    size_t length = 0;
    for (uint32_t t = 0; t < count; t++) {
        struct token_piece piece = tokenizer_piece(&evaluate->tokenizer, tokens[t]);
        for (size_t i = 0; i < piece.length && length + 1 < size; i++)
            if (length > 0 || piece.text[i] != ' ')
                text[length++] = piece.text[i] ? piece.text[i] : '?';
    }
    text[length] = '\0';
}

static bool is_right(const char *made, const char *answer)
{
    size_t length = strlen(answer);
    return strncmp(made, answer, length) == 0 && !(made[length] >= '0' && made[length] <= '9');
}

static void note_answer(struct bench *bench, struct cell *cell, uint32_t index,
                        const struct cell_counts *before, const struct text_question *asked,
                        const char *made)
{
    bool right = is_right(made, asked->answer);
    cell->counts.questions++;
    cell->counts.right += right;
    cell->right[index] += right;
    if (bench->evaluate->settings->show)
        evaluate_show_answer(bench->evaluate, cell, before, asked, made);
}

// Asks some neighbours among the cells.
static int ask_cells(struct bench *bench, const struct context *context, uint32_t index, uint32_t n,
                     uint32_t first, uint32_t count)
{
    struct evaluate *evaluate = bench->evaluate;
    const struct text_question *asked = &context->text.questions[n];
    struct decode_question question = {.tokens = context->questions[n].tokens,
                                       .token_count = (uint32_t)context->questions[n].count,
                                       .text_tokens = (uint32_t)context->tokens.count,
                                       .hidden = evaluate->settings->mask_needle ? context->hidden
                                                                                 : NULL};
    uint32_t answers[EVALUATE_ROWS][DECODE_ANSWER];
    struct cell *cells = bench->cells->cells + first;
    struct cell_counts before = cells->counts;
    int failed = count_answer(evaluate, asked->answer, &question.answer_tokens);
    if (!failed)
        failed = decode_ask(&bench->decode, cells, count, &question, answers[0]);
    for (uint32_t r = 0; r < count && !failed; r++) {
        char made[64];
        decode_answer(evaluate, answers[r], question.answer_tokens, made, sizeof made);
        note_answer(bench, &cells[r], index, &before, asked, made);
    }
    return failed;
}

// Asks one cell after the other, in the order in which they were asked for.
static int ask_in_turn(struct bench *bench, const struct context *context, uint32_t index,
                       uint32_t n)
{
    const struct cells *cells = bench->cells;
    int failed = EXIT_DONE;
    evaluate_show_question(bench->evaluate, context, n);
    for (uint32_t i = 0; i < cells->asked_count && !failed; i++) {
        uint32_t cell = cells->asked[i].cell;
        // Dense attention was asked for with every budget.
        if (i == 0 || cells->cells[cell].counts.questions <
                          cells->cells[cells->asked[0].cell].counts.questions)
            failed = ask_cells(bench, context, index, n, cell, 1);
    }
    if (!failed)
        evaluate_show_end(bench->evaluate);
    return failed;
}

static int ask(struct bench *bench, struct context *context, uint32_t index, uint32_t n)
{
    const struct settings *settings = bench->evaluate->settings;
    if (context->questions[n].count > EVALUATE_QUESTION)
        return report_failure("a question has %zu tokens in this vocabulary; there is room for %d",
                              context->questions[n].count, EVALUATE_QUESTION);
    if (settings->mask_needle)
        context_hide(context, bench->evaluate, n);
    if (settings->show)
        return ask_in_turn(bench, context, index, n);
    uint32_t cells = bench->cells->count;
    int failed = EXIT_DONE;
    for (uint32_t first = 0; first < cells && !failed; first += EVALUATE_ROWS)
        failed = ask_cells(bench, context, index, n, first,
                           cells - first < EVALUATE_ROWS ? cells - first : EVALUATE_ROWS);
    return failed;
}

// The questions of a context: all but the last have as many.
static uint32_t count_questions(const struct evaluate *evaluate, uint32_t index)
{
    uint32_t rest = evaluate->settings->questions - index * evaluate->per_context;
    return rest < evaluate->per_context ? rest : evaluate->per_context;
}

static int run_context(struct bench *bench, uint32_t index)
{
    struct evaluate *evaluate = bench->evaluate;
    struct text_key key = {.task = (enum text_task)evaluate->settings->task,
                           .seed = evaluate->settings->seed,
                           .length = bench->length,
                           .index = index,
                           .contexts = evaluate->contexts};
    struct context context = {0};
    int failed = context_make(&context, evaluate, &key, bench->length - index * 7 % EVALUATE_SHIFT);
    double start = now();
    if (!failed)
        failed = decode_text(&bench->decode, context.tokens.tokens, (uint32_t)context.tokens.count);
    evaluate->prefill_s = now() - start;
    for (uint32_t n = 0; n < count_questions(evaluate, index) && !failed; n++)
        failed = ask(bench, &context, index, n);
    context_free(&context);
    return failed;
}

static int run_length(struct evaluate *evaluate, uint32_t place)
{
    uint32_t length = evaluate->settings->lengths.values[place];
    struct bench bench = {.evaluate = evaluate, .cells = &evaluate->cells[place], .length = length};
    static char what[48]; // progress keeps it
    snprintf(what, sizeof what, "texts of %u tokens", length);
    int failed = cells_make(bench.cells, evaluate->settings, length, evaluate->contexts);
    if (!failed)
        failed = open_bench(&bench);
    for (uint32_t i = 0; i < evaluate->contexts && !failed; i++) {
        progress_show(what, i, evaluate->contexts);
        failed = run_context(&bench, i);
    }
    progress_clear();
    close_bench(&bench);
    return failed;
}

static int run(struct evaluate *evaluate)
{
    const struct settings *settings = evaluate->settings;
    uint32_t most = evaluate->model.config.max_positions;
    int failed = EXIT_DONE;
    for (uint32_t i = 0; i < settings->lengths.count && !failed; i++) {
        if (most && settings->lengths.values[i] > most)
            report_warning("%u tokens are more than the %u that the model was made for",
                           settings->lengths.values[i], most);
        failed = run_length(evaluate, i);
    }
    return failed;
}

int evaluate_run(const struct settings *settings)
{
    int failed = check_options(settings);
    if (failed)
        return failed;
    struct evaluate *evaluate = calloc(1, sizeof *evaluate);
    if (!evaluate)
        return report_failure("out of memory; free some and try again");
    uint32_t usual = settings->task == TEXT_PASSKEY ? 1 : 4;
    evaluate->settings = settings;
    evaluate->per_context =
        settings->questions_per_context ? settings->questions_per_context : usual;
    evaluate->contexts = (settings->questions + evaluate->per_context - 1) / evaluate->per_context;
    failed = model_open(&evaluate->model, settings->model);
    if (!failed)
        failed = open_tokenizer(evaluate);
    if (!failed)
        failed = session_open(&evaluate->session, settings);
    evaluate->type = settings->kv_type ? (skim_type)settings->kv_type : evaluate->model.type;
    if (!failed)
        failed = run(evaluate);
    if (!failed)
        failed = evaluate_report(evaluate);
    for (uint32_t i = 0; i < settings->lengths.count; i++)
        cells_free(&evaluate->cells[i]);
    session_close(&evaluate->session);
    tokenizer_close(&evaluate->tokenizer);
    model_close(&evaluate->model);
    free(evaluate);
    return failed;
}
