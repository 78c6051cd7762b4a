// What skim evaluate prints.
#include "evaluate.h"
#include "report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct interval {
    double low, high;
};

// How many independent questions the questions are worth: the binomial variance over that between
// contexts (Kish's design effect). Between one a context and all; one a context where all answers
// are alike and nothing can be told.
static double count_independent(const struct evaluate *evaluate, const struct cell *cell)
{
    double questions = cell->counts.questions;
    double contexts = evaluate->contexts;
    double share = cell->counts.right / questions;
    double variance = 0;
    for (uint32_t i = 0; i < evaluate->contexts; i++) {
        uint32_t rest = cell->counts.questions - i * evaluate->per_context;
        double asked = rest < evaluate->per_context ? rest : evaluate->per_context;
        double gap = cell->right[i] - share * asked;
        variance += gap * gap;
    }
    if (contexts < 2 || variance == 0)
        return contexts;
    variance *= contexts / (contexts - 1) / (questions * questions);
    double worth = share * (1 - share) / variance;
    return worth < contexts ? contexts : worth > questions ? questions : worth;
}

// Wilson's interval of 95 % for a share seen in so many independent questions.
static struct interval wilson(double share, double count)
{
    const double z = 1.959964;
    double middle = share + z * z / (2 * count);
    double reach = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count));
    double scale = 1 + z * z / count;
    struct interval interval = {(middle - reach) / scale, (middle + reach) / scale};
    interval.low = interval.low < 0 || share == 0 ? 0 : interval.low;
    interval.high = interval.high > 1 || share == 1 ? 1 : interval.high;
    return interval;
}

struct figures {
    double accuracy, mass, recall, pages, bytes, tokens_per_s;
    struct interval interval;
};

static double ratio(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

static struct figures find_figures(const struct evaluate *evaluate, const struct cell *cell)
{
    const struct cell_counts *counts = &cell->counts;
    double share = ratio(counts->right, counts->questions);
    double measured = (double)counts->measured; // 0 where all layers are dense
    return (struct figures){.accuracy = share,
                            .mass = counts->measured ? counts->mass / measured : NAN,
                            .recall = counts->measured ? counts->recall / measured : NAN,
                            .pages = ratio((double)counts->pages_read, (double)counts->pages_total),
                            .bytes = ratio((double)counts->bytes_read, (double)counts->bytes_dense),
                            .tokens_per_s = ratio((double)counts->steps, counts->seconds),
                            .interval = wilson(share, count_independent(evaluate, cell))};
}

static bool chooses_by_bounds(const struct cell *cell)
{
    return cell->mode == EVALUATE_HEAD || cell->mode == EVALUATE_GROUP;
}

static json_t *text_or_null(bool there, const char *text)
{
    return there ? json_string(text) : json_null();
}

static json_t *count_or_null(bool there, uint64_t count)
{
    return there ? json_integer((json_int_t)count) : json_null();
}

static json_t *cell_json(const struct evaluate *evaluate, uint32_t length, uint32_t budget,
                         const struct cell *cell)
{
    const struct settings *settings = evaluate->settings;
    const struct cell_counts *counts = &cell->counts;
    struct figures figures = find_figures(evaluate, cell);
    bool bounds = chooses_by_bounds(cell);
    bool dense = cell->mode == EVALUATE_DENSE;
    json_t *what = json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:b, s:I}", //
        "device", evaluate->session.info.selector,                                //
        "kv_type", skim_type_name(evaluate->type),                                //
        "task", options_task_name(settings->task),                                //
        "length", (json_int_t)length,                                             //
        "budget", (json_int_t)budget,                                             //
        "mode", options_mode_name(cell->mode),                                    //
        "combine",
        text_or_null(cell->mode == EVALUATE_GROUP, options_combine_name(cell->combine)),  //
        "bounds", text_or_null(bounds, options_bounds_name(cell->bounds)),                //
        "bounds_type", text_or_null(bounds, options_bounds_type_name(cell->bounds_type)), //
        "dense_layers", count_or_null(!dense, cell->dense_layers),                        //
        "recent_pages", count_or_null(!dense, cell->policy.recent_pages),                 //
        "page_size", (json_int_t)settings->page_size,                                     //
        "masked", settings->mask_needle, "seed", (json_int_t)settings->seed);
    json_t *found = json_pack(
        "{s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:o}", //
        "questions", (json_int_t)counts->questions,                               //
        "contexts", (json_int_t)evaluate->contexts,                               //
        "right", (json_int_t)counts->right,                                       //
        "accuracy", report_real(figures.accuracy),                                //
        "accuracy_low", report_real(figures.interval.low),                        //
        "accuracy_high", report_real(figures.interval.high),                      //
        "mass_kept", report_real(figures.mass),                                   //
        "top10_recall", report_real(figures.recall),                              //
        "decode_steps", (json_int_t)counts->steps,                                //
        "pages_read", (json_int_t)counts->pages_read,                             //
        "pages_total", (json_int_t)counts->pages_total,                           //
        "bytes_read", (json_int_t)counts->bytes_read,                             //
        "bytes_dense", (json_int_t)counts->bytes_dense,                           //
        "decode_tokens_per_s", settings->show ? report_real(figures.tokens_per_s) : json_null());
    if (json_object_update(what, found) != 0) {
        json_decref(what);
        what = NULL;
    }
    json_decref(found);
    if (what && cell->answers)
        json_object_set(what, "answers", cell->answers);
    return what;
}

static json_t *make_json(const struct evaluate *evaluate)
{
    json_t *result = json_array();
    for (uint32_t l = 0; l < evaluate->settings->lengths.count; l++) {
        const struct cells *cells = &evaluate->cells[l];
        for (uint32_t i = 0; i < cells->asked_count; i++) {
            const struct asked *asked = &cells->asked[i];
            if (json_array_append_new(result,
                                      cell_json(evaluate, evaluate->settings->lengths.values[l],
                                                asked->budget, &cells->cells[asked->cell])) != 0) {
                json_decref(result);
                return NULL;
            }
        }
    }
    return result;
}

report_text evaluate_describe(const struct cell *cell)
{
    const char *const parts[] = {
        options_mode_name(cell->mode),
        cell->mode == EVALUATE_GROUP ? options_combine_name(cell->combine) : "",
        chooses_by_bounds(cell) && cell->bounds == SKIM_BOUNDS_MEANSTD ? "meanstd" : "",
        chooses_by_bounds(cell) && cell->bounds_type == SKIM_BOUNDS_I8 ? "i8" : ""};
    report_text text = {""};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (*parts[i])
            text = report_format("%s%s%s", text.text, *text.text ? " " : "", parts[i]);
    return text;
}

static report_text share_or_none(double share)
{
    return isnan(share) ? (report_text){"none"} : report_format("%.1f %%", 100 * share);
}

static void add_row(struct report_table *table, const struct evaluate *evaluate, uint32_t length,
                    uint32_t budget, const struct cell *cell)
{
    struct figures figures = find_figures(evaluate, cell);
    bool dense = cell->mode == EVALUATE_DENSE;
    table_row(table);
    table_cell(table, evaluate_describe(cell).text);
    table_cell(table, report_format("%u", length).text);
    table_cell(table, dense ? "all" : report_format("%u", budget).text);
    table_cell(table, dense ? "all" : report_format("%u", cell->dense_layers).text);
    table_cell(table, dense ? "" : report_format("%u", cell->policy.recent_pages).text);
    table_cell(table, report_format("%u of %u", cell->counts.right, cell->counts.questions).text);
    table_cell(table, report_format("%.1f %%", 100 * figures.accuracy).text);
    table_cell(table, report_format("%.0f to %.0f %%", 100 * figures.interval.low,
                                    100 * figures.interval.high)
                          .text);
    table_cell(table, share_or_none(figures.mass).text);
    table_cell(table, share_or_none(figures.recall).text);
    table_cell(table, report_format("%.1f %%", 100 * figures.bytes).text);
}

static void print_head(const struct evaluate *evaluate)
{
    const struct settings *settings = evaluate->settings;
    printf("Model: %s, keys and values in %s\n", settings->model, skim_type_name(evaluate->type));
    session_print_device(&evaluate->session);
    printf("Task: %s, %s in %s%s\n\n", options_task_name(settings->task),
           report_count(settings->questions, "question").text,
           report_count(evaluate->contexts, "text").text,
           settings->mask_needle ? "; the pages of what is asked for are out of reach" : "");
}

int evaluate_report(const struct evaluate *evaluate)
{
    static const char *const heading[] = {"mode",      "length", "budget",   "dense layers",
                                          "recent",    "right",  "accuracy", "95 % interval",
                                          "mass kept", "top 10", "bytes"};
    if (evaluate->settings->json)
        return report_json(make_json(evaluate));
    struct report_table table = {0};
    if (evaluate->settings->show && evaluate->settings->questions == 1)
        return EXIT_DONE; // all was told
    print_head(evaluate);
    table_row(&table);
    for (size_t i = 0; i < sizeof heading / sizeof *heading; i++)
        table_cell(&table, heading[i]);
    for (uint32_t l = 0; l < evaluate->settings->lengths.count; l++) {
        const struct cells *cells = &evaluate->cells[l];
        bool dense = false;
        for (uint32_t i = 0; i < cells->asked_count; i++) {
            const struct cell *cell = &cells->cells[cells->asked[i].cell];
            if (cell->mode == EVALUATE_DENSE && dense)
                continue; // once will do here
            dense |= cell->mode == EVALUATE_DENSE;
            add_row(&table, evaluate, evaluate->settings->lengths.values[l], cells->asked[i].budget,
                    cell);
        }
    }
    table_print(&table);
    return EXIT_DONE;
}
