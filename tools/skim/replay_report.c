// What a replay found, as JSON and as a table.
#include "replay.h"
#include "report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

// How the pages of a layer's queries are chosen, where the policy leaves that to the layer.
static uint32_t select_of(const struct settings *settings, const struct trace_layer *layer)
{
    if (settings->select != SKIM_SELECT_AUTO)
        return settings->select;
    return layer->q_heads > layer->kv_heads ? SKIM_SELECT_GROUP : SKIM_SELECT_HEAD;
}

static json_t *layer_json(const struct settings *settings, const struct replay_layer *layer)
{
    return json_pack("{s:I, s:b, s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o}",         //
                     "layer", (json_int_t)layer->trace->index, "sparse", layer->sparse, //
                     "select", options_select_name(select_of(settings, layer->trace)),  //
                     "pages_read", (json_int_t)layer->pages_read,                       //
                     "pages_total", (json_int_t)layer->pages_total,                     //
                     "bytes_read", (json_int_t)layer->bytes_read,                       //
                     "bytes_dense", (json_int_t)layer->bytes_dense,                     //
                     "mass_kept", report_real(layer->mass_kept),                        //
                     "relative_error", report_real(layer->relative_error),              //
                     "sparse_ms", report_real(layer->sparse_ms),                        //
                     "dense_ms", report_real(layer->dense_ms));
}

json_t *replay_json(const struct replay *replay)
{
    const struct trace *trace = &replay->trace;
    const struct settings *settings = replay->settings;
    json_t *layers = json_array();
    for (uint32_t i = 0; i < trace->layer_count; i++)
        json_array_append_new(layers, layer_json(settings, &replay->layers[i]));
    return json_pack("{s:s, s:o?, s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:o}", //
                     "device", replay->session.info.selector,                              //
                     "trace", json_string(settings->trace),                                //
                     "model", trace->model, "note", trace->note,                           //
                     "tokens", (json_int_t)trace->tokens,                                  //
                     "queries", (json_int_t)trace->queries,                                //
                     "budget", (json_int_t)settings->budget,                               //
                     "page_size", (json_int_t)settings->page_size,                         //
                     "bounds", options_bounds_name(settings->bounds),                      //
                     "bounds_type", options_bounds_type_name(settings->bounds_type),       //
                     "select", options_select_name(settings->select),                      //
                     "combine", options_combine_name(settings->combine), "layers", layers);
}

struct sums {
    double pages_read, pages_total, bytes_read, bytes_dense, mass, error, sparse_ms, dense_ms;
    uint32_t layers;
};

static void add(struct sums *sums, const struct replay_layer *layer)
{
    sums->pages_read += (double)layer->pages_read;
    sums->pages_total += (double)layer->pages_total;
    sums->bytes_read += (double)layer->bytes_read;
    sums->bytes_dense += (double)layer->bytes_dense;
    sums->mass += layer->mass_kept;
    sums->error += layer->relative_error;
    sums->sparse_ms += layer->sparse_ms;
    sums->dense_ms += layer->dense_ms;
    sums->layers++;
}

// One row; heads and queries are what the sums of pages are averaged over.
static void add_row(struct report_table *table, const char *name, const char *ran, double heads,
                    double queries, const struct sums *sums)
{
    table_row(table);
    table_cell(table, name);
    table_cell(table, ran);
    table_cell(table, report_format("%.1f", sums->pages_read / (heads * queries)).text);
    table_cell(table, report_format("of %.1f", sums->pages_total / (heads * queries)).text);
    table_cell(table, report_bytes(sums->bytes_read / queries).text);
    table_cell(table, report_format("of %s", report_bytes(sums->bytes_dense / queries).text).text);
    table_cell(table, report_format("%.1f %%", 100 * sums->bytes_read / sums->bytes_dense).text);
    table_cell(table, report_number("%.1f %%", 100 * sums->mass / sums->layers).text);
    table_cell(table, report_number("%.4f", sums->error / sums->layers).text);
    table_cell(table, report_format("%.3f", sums->sparse_ms).text);
    table_cell(table, report_format("%.3f", sums->dense_ms).text);
}

static void print_head(const struct replay *replay)
{
    const struct trace *trace = &replay->trace;
    const struct settings *settings = replay->settings;
    printf("Trace: %s, %s, %s, the last %u as queries\n", settings->trace,
           report_count(trace->layer_count, "layer").text,
           report_count(trace->tokens, "token").text, trace->queries);
    if (*trace->model)
        printf("Model: %s\n", trace->model);
    if (*trace->note)
        printf("Note:  %s\n", trace->note);
    session_print_device(&replay->session);
    if (settings->budget_fraction > 0)
        printf("Policy: budget %g of the length", settings->budget_fraction);
    else
        printf("Policy: budget %s", report_count(settings->budget, "token").text);
    printf(", pages of %u, %s bounds%s, the model's first %s dense\n\n", settings->page_size,
           options_bounds_name(settings->bounds),
           settings->bounds_type == SKIM_BOUNDS_I8 ? " in i8" : "",
           report_count(settings->dense_layers, "layer").text);
}

static void print_meaning(const struct sums *sparse)
{
    putchar('\n');
    if (sparse->layers == 0) {
        puts("Nothing ran sparse: all layers are dense (--dense-layers, --dense-below) or all "
             "pages fit the budget.");
        return;
    }
    printf("It means: in the %s that ran sparse, a query read %.0f %% of the pages ",
           report_count(sparse->layers, "layer").text,
           100 * sparse->pages_read / sparse->pages_total);
    printf("(with their bounds %.0f %% of the bytes)",
           100 * sparse->bytes_read / sparse->bytes_dense);
    if (!isfinite(sparse->mass) || !isfinite(sparse->error)) {
        puts(".\nThe trace, or attention on it, holds NaN or infinities: how much was kept and how "
             "far the result is\nfrom dense attention are no numbers.");
        return;
    }
    printf(", kept %.0f %% of the attention, ", 100 * sparse->mass / sparse->layers);
    printf("and its result differs from dense attention by %.0f %%.\n",
           100 * sparse->error / sparse->layers);
}

int replay_print(const struct replay *replay)
{
    static const char *const heading[] = {"layer",         "ran",       "pages",   "",
                                          "bytes a query", "",          "share",   "mass kept",
                                          "error",         "sparse ms", "dense ms"};
    const struct trace *trace = &replay->trace;
    struct report_table table = {0};
    table_row(&table);
    for (size_t i = 0; i < sizeof heading / sizeof *heading; i++)
        table_cell(&table, heading[i]);
    struct sums all = {0};
    struct sums sparse = {0};
    double heads = 0;
    print_head(replay);
    for (uint32_t i = 0; i < trace->layer_count; i++) {
        const struct replay_layer *layer = &replay->layers[i];
        struct sums one = {0};
        add(&one, layer);
        add(&all, layer);
        if (layer->sparse)
            add(&sparse, layer);
        heads += layer->trace->kv_heads;
        add_row(&table, report_format("%u", layer->trace->index).text,
                layer->sparse ? "sparse" : "dense", layer->trace->kv_heads, trace->queries, &one);
    }
    if (trace->layer_count > 1)
        add_row(&table, "all", "", heads, trace->queries, &all);
    table_print(&table);
    print_meaning(&sparse);
    return EXIT_DONE;
}
