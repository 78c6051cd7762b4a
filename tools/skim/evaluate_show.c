// What skim evaluate --show prints of every question.
#include "evaluate.h"

#include <stdio.h>
#include <string.h>

// How far into the text what is asked for is found first.
static double depth(const struct context *context, uint32_t n)
{
    const struct text_span *span = &context->text.questions[n].spans[0];
    return 100.0 * (double)span->first / (double)context->text.length;
}

void evaluate_show_question(struct evaluate *evaluate, const struct context *context, uint32_t n)
{
    static const char *const heading[] = {"mode",     "budget", "answer", "",
                                          "tokens/s", "pages",  "",       "read a token"};
    if (evaluate->settings->json)
        return;
    const struct text_question *question = &context->text.questions[n];
    const struct text_span *span = &question->spans[0];
    progress_clear();
    printf("A text of %zu tokens, read in %.1f s (%.0f tokens/s)\n", context->tokens.count,
           evaluate->prefill_s, (double)context->tokens.count / evaluate->prefill_s);
    printf("It says:  ... %.*s ...  (%s at %.0f %% of the text)\n", (int)(span->end - span->first),
           context->text.bytes + span->first,
           question->span_count > 1 ? "and more; the first" : "once,", depth(context, n));
    printf("Question: %s\n", question->question);
    printf("Right:    %s\n\n", question->answer);
    struct report_table *table = &evaluate->table;
    table_row(table);
    for (size_t i = 0; i < sizeof heading / sizeof *heading; i++)
        table_cell(table, heading[i]);
}

static void add_row(struct evaluate *evaluate, const struct cell *cell,
                    const struct cell_counts *before, const char *answer, bool right)
{
    const struct cell_counts *after = &cell->counts;
    struct report_table *table = &evaluate->table;
    double steps = (double)(after->steps - before->steps);
    double pages = (double)(after->pages_read - before->pages_read);
    double all = (double)(after->pages_total - before->pages_total);
    double bytes = (double)(after->bytes_read - before->bytes_read);
    bool dense = cell->mode == EVALUATE_DENSE;
    table_row(table);
    table_cell(table, evaluate_describe(cell).text);
    table_cell(table, dense ? "all" : report_format("%u", cell->budget).text);
    table_cell(table, answer);
    table_cell(table, right ? "right" : "wrong");
    table_cell(table, report_format("%.0f", steps / (after->seconds - before->seconds)).text);
    table_cell(table, report_format("%.1f %%", 100 * pages / all).text);
    table_cell(table, report_bytes(bytes / steps).text);
}

// What is no printable character of ASCII becomes a question mark.
static void make_printable(const char *text, char *target)
{
    for (; *text; text++)
        *target++ = (unsigned char)*text >= ' ' && (unsigned char)*text < 0x7f ? *text : '?';
    *target = '\0';
}

void evaluate_show_answer(struct evaluate *evaluate, struct cell *cell,
                          const struct cell_counts *before, const struct text_question *question,
                          const char *answer)
{
    char printable[REPORT_WIDTH];
    bool right = cell->counts.right > before->right;
    make_printable(answer, printable);
    if (!evaluate->settings->json) {
        add_row(evaluate, cell, before, printable, right);
        return;
    }
    if (!cell->answers)
        cell->answers = json_array();
    json_array_append_new(cell->answers, json_pack("{s:s, s:s, s:s, s:b}", "question",
                                                   question->question, "answer", question->answer,
                                                   "given", printable, "right", right));
}

void evaluate_show_end(struct evaluate *evaluate)
{
    if (evaluate->settings->json)
        return;
    table_print(&evaluate->table);
    putchar('\n');
    fflush(stdout);
}
