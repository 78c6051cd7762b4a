#include "bench_model.h"

#include "bench.h"
#include "ceilings.h"
#include "forward.h"
#include "report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Of a step: all of it, its layers, and the attention in them.
enum part { STEP, LAYERS, ATTENTION, PARTS };
enum kind { DENSE, SPARSE, KINDS };
// A ceiling from less than READ_MIN would be that of the caches.
enum { WARM_UP = 2, READ_MAX = 256 << 20, READ_MIN = 8 << 20 };

static const char *const kind_names[KINDS] = {"dense", "sparse"};

struct bench_model {
    const struct settings *settings; // of the cache: every layer alike
    struct session *session;
    const struct model *model;
    struct workers *workers; // for the ceiling
    struct forward forward;
    float *logits;
    double *seconds[KINDS][PARTS]; // [repeat]
    double *read;                  // [repeat]: bytes a second
    bool sparse;                   // the policy leaves pages out
};

// What a step of a model takes, in seconds: fixed + layers * (linear + attention).
struct costs {
    double step[KINDS], attention[KINDS]; // of all of the folder's layers; of one layer
    double linear;                        // all of a layer but its attention
    double fixed;                         // embedding, last norm, output matrix, begin and end
    double read;                          // bytes a second
};

static int out_of_memory(uint64_t context)
{
    return report_failure("no memory for synthetic keys of %llu tokens; choose a shorter --context",
                          (unsigned long long)context);
}

static int make_room(struct bench_model *bench)
{
    uint32_t repeat = bench->settings->repeat;
    bool made = (bench->logits = malloc(bench->model->config.vocab * sizeof(float))) != NULL;
    made &= (bench->read = calloc(repeat, sizeof(double))) != NULL;
    for (int i = 0; i < KINDS * PARTS; i++)
        made &= (bench->seconds[i / PARTS][i % PARTS] = calloc(repeat, sizeof(double))) != NULL;
    return made ? EXIT_DONE : report_failure("out of memory; choose a smaller --repeat");
}

// Fills the cache with keys and values that are the same in every layer.
static int fill(struct bench_model *bench, uint32_t context)
{
    const struct model_config *config = &bench->model->config;
    struct attention *attention = &bench->forward.attention;
    size_t row = (size_t)config->kv_heads * config->head_dim * skim_type_size(attention->type);
    skim_cache_usage usage = {.size_of = sizeof usage};
    skim_cache_get_usage(attention->cache, &usage);
    uint64_t available = bench->session->info.memory_available;
    struct synthetic data = {0};
    if ((available && usage.device_bytes + 2 * (uint64_t)row * context > available) ||
        !synthetic_create(&data, attention->type, context, config->q_heads, config->kv_heads,
                          config->head_dim, 1))
        return out_of_memory(context);
    int failed = EXIT_DONE;
    for (uint32_t first = 0; first < context && !failed; first += FORWARD_STEP_TOKENS) {
        uint32_t rest = context - first;
        progress_show("filling", first, context);
        failed = forward_fill(
            &bench->forward, rest < FORWARD_STEP_TOKENS ? rest : FORWARD_STEP_TOKENS,
            (const char *)data.keys + first * row, (const char *)data.values + first * row);
    }
    progress_clear();
    synthetic_destroy(&data);
    return failed;
}

static int time_step(struct bench_model *bench, enum kind kind, uint32_t round)
{
    struct forward *forward = &bench->forward;
    uint32_t token = (uint32_t)((uint64_t)round * 7919 % bench->model->config.vocab);
    attention_reset(&forward->attention);
    double start = now();
    int failed = forward_run(forward, &token, 1, kind == DENSE, FORWARD_LAST, bench->logits);
    double seconds = now() - start;
    bench->sparse |= forward->attention.counts.sparse;
    if (failed || round < WARM_UP)
        return failed;
    bench->seconds[kind][STEP][round - WARM_UP] = seconds;
    bench->seconds[kind][LAYERS][round - WARM_UP] = forward->layers_s;
    double attention = 0; // without the step's begin and end
    for (uint32_t i = 0; i < forward->attention.layers; i++)
        attention += forward->attention.layer_counts[i].counts.seconds;
    bench->seconds[kind][ATTENTION][round - WARM_UP] = attention;
    return EXIT_DONE;
}

static size_t matrix_bytes(const struct matrix *matrix)
{
    return (size_t)matrix->rows * matrix->columns * skim_type_size(matrix->type);
}

// What plain loops read a second of a layer's weights.
static void time_read(struct bench_model *bench, uint32_t round)
{
    const struct matrix *matrix = &bench->model->layers[round % bench->model->config.layers].gate;
    size_t size = matrix_bytes(matrix) < READ_MAX ? matrix_bytes(matrix) : READ_MAX;
    double seconds = ceiling_read(bench->workers, matrix->data, size);
    if (round >= WARM_UP)
        bench->read[round - WARM_UP] = (double)size / seconds;
}

static int measure(struct bench_model *bench)
{
    uint32_t rounds = bench->settings->repeat + WARM_UP;
    int failed = EXIT_DONE;
    for (uint32_t round = 0; round < rounds && !failed; round++) {
        progress_show("measuring", round, rounds);
        failed = time_step(bench, DENSE, round);
        if (!failed)
            failed = time_step(bench, SPARSE, round);
        if (bench->workers && matrix_bytes(&bench->model->layers[0].gate) >= READ_MIN)
            time_read(bench, round);
    }
    progress_clear();
    return failed;
}

// The median over rounds of one part less another.
static double difference(const struct bench_model *bench, enum kind kind, enum part whole,
                         enum part part)
{
    uint32_t repeat = bench->settings->repeat;
    double *values = malloc(repeat * sizeof *values);
    for (uint32_t i = 0; values && i < repeat; i++)
        values[i] = bench->seconds[kind][whole][i] - bench->seconds[kind][part][i];
    double result = values ? median(values, repeat) : 0;
    free(values);
    return result;
}

static struct costs find_costs(const struct bench_model *bench)
{
    uint32_t repeat = bench->settings->repeat;
    double layers = bench->model->config.layers;
    struct costs costs = {.read = median(bench->read, repeat)};
    for (enum kind kind = 0; kind < KINDS; kind++) {
        // These first: a median sorts.
        costs.fixed += difference(bench, kind, STEP, LAYERS) / KINDS;
        costs.linear += difference(bench, kind, LAYERS, ATTENTION) / layers / KINDS;
        costs.step[kind] = median(bench->seconds[kind][STEP], repeat);
        costs.attention[kind] = median(bench->seconds[kind][ATTENTION], repeat) / layers;
    }
    return costs;
}

static void set(json_t *object, const char *key, double value)
{
    json_object_set_new(object, key, report_real(value));
}

static void set_kind(json_t *object, enum kind kind, const char *key, double value)
{
    set(object, report_format("%s_%s", kind_names[kind], key).text, value);
}

static double layer_weights(const struct model *model)
{
    const struct model_layer *layer = &model->layers[0];
    const struct matrix *const matrices[] = {&layer->q,    &layer->k,  &layer->v,   &layer->out,
                                             &layer->gate, &layer->up, &layer->down};
    double bytes = 0;
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
        bytes += (double)matrix_bytes(matrices[i]);
    return bytes;
}

static json_t *describe(const struct bench_model *bench, uint32_t context)
{
    const struct settings *settings = bench->settings;
    const struct model_config *config = &bench->model->config;
    const struct session *session = bench->session;
    json_t *result = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b}", "device", session->info.selector,
        "backend", session->info.backend, "name", session->info.name, "driver",
        session->info.driver, "architecture", config->architecture, "weight_type",
        skim_type_name(bench->model->type), "type", skim_type_name(bench->forward.attention.type),
        "bounds", options_bounds_name(settings->bounds), "bounds_type",
        options_bounds_type_name(settings->bounds_type), "sparse", bench->sparse);
    const struct {
        const char *key;
        uint64_t value;
    } counts[] = {
        {"q_heads", config->q_heads},       {"kv_heads", config->kv_heads},
        {"head_dim", config->head_dim},     {"context", context},
        {"page_size", settings->page_size}, {"threads", session->limits.threads},
        {"layers", config->layers},         {"repeat", settings->repeat},
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        json_object_set_new(result, counts[i].key, json_integer((json_int_t)counts[i].value));
    double budget =
        settings->budget_fraction > 0 ? settings->budget_fraction * context : settings->budget;
    json_object_set_new(result, "budget", json_integer((json_int_t)budget));
    return result;
}

// A token of a model of so many layers, of which some stay dense in the sparse case.
static void set_token(json_t *result, const struct costs *costs, uint32_t layers, uint32_t dense)
{
    dense = dense < layers ? dense : layers;
    double token[KINDS];
    for (enum kind kind = 0; kind < KINDS; kind++) {
        uint32_t own = kind == SPARSE ? layers - dense : 0;
        double attention =
            own * costs->attention[SPARSE] + (layers - own) * costs->attention[DENSE];
        token[kind] = costs->fixed + layers * costs->linear + attention;
        set_kind(result, kind, "token_ms", 1e3 * token[kind]);
        set_kind(result, kind, "tokens_per_s", 1 / token[kind]);
        set_kind(result, kind, "attention_share", attention / token[kind]);
    }
    json_object_set_new(result, "model_layers", json_integer(layers));
    json_object_set_new(result, "dense_layers", json_integer(dense));
    set(result, "speedup", token[DENSE] / token[SPARSE]);
}

static json_t *evaluate(const struct bench_model *bench, const struct settings *given,
                        uint32_t context)
{
    const struct model *model = bench->model;
    struct costs costs = find_costs(bench);
    double weights = layer_weights(model);
    double output = (double)matrix_bytes(&model->output);
    double read = costs.read > 0 ? costs.read : NAN;
    json_t *result = describe(bench, context);
    set(result, "fixed_ms", 1e3 * costs.fixed);
    set(result, "layer_linear_ms", 1e3 * costs.linear);
    for (enum kind kind = 0; kind < KINDS; kind++) {
        set_kind(result, kind, "step_ms", 1e3 * costs.step[kind]);
        set_kind(result, kind, "layer_attention_ms", 1e3 * costs.attention[kind]);
    }
    set(result, "attention_speedup", costs.attention[DENSE] / costs.attention[SPARSE]);
    json_object_set_new(result, "layer_weight_bytes", json_integer((json_int_t)weights));
    set(result, "linear_gbps", 1e-9 * weights / costs.linear);
    set(result, "output_gbps", 1e-9 * output / costs.fixed);
    set(result, "read_gbps", 1e-9 * read);
    set(result, "linear_of_limit", weights / costs.linear / read);
    set_token(result, &costs, given->model_layers ? given->model_layers : model->config.layers,
              given->dense_layers);
    return result;
}

static void bench_free(struct bench_model *bench)
{
    forward_close(&bench->forward);
    for (int i = 0; i < KINDS * PARTS; i++)
        free(bench->seconds[i / PARTS][i % PARTS]);
    free(bench->logits);
    free(bench->read);
}

static int bench_context(const struct settings *settings, struct session *session,
                         const struct model *model, struct workers *workers, uint32_t context,
                         json_t **result)
{
    // Dense steps are asked for one by one; in the others every layer is sparse.
    struct settings own = *settings;
    own.dense_layers = 0;
    struct bench_model bench = {
        .settings = &own, .session = session, .model = model, .workers = workers};
    uint64_t capacity = (uint64_t)context + KINDS * ((uint64_t)settings->repeat + WARM_UP);
    int failed = make_room(&bench);
    if (!failed)
        failed = forward_open(&bench.forward, model, session, &own, capacity);
    if (!failed)
        failed = fill(&bench, context);
    if (!failed)
        failed = measure(&bench);
    if (!failed && !bench.sparse)
        report_warning("nothing runs sparse at a context of %u: --budget or --dense-below cover "
                       "all of it",
                       context);
    if (!failed)
        *result = evaluate(&bench, settings, context);
    bench_free(&bench);
    return failed;
}

static double value(const json_t *object, const char *key)
{
    const json_t *number = json_object_get(object, key);
    return json_is_number(number) ? json_number_value(number) : NAN;
}

static void print_result(const json_t *one)
{
    static const struct {
        const char *name, *dense, *sparse, *format;
    } rows[] = {
        {"attention of a layer, ms", "dense_layer_attention_ms", "sparse_layer_attention_ms",
         "%.3f"},
        {"the rest of a layer, ms", "layer_linear_ms", "layer_linear_ms", "%.3f"},
        {"output matrix and embedding, ms", "fixed_ms", "fixed_ms", "%.3f"},
        {"a token, ms", "dense_token_ms", "sparse_token_ms", "%.1f"},
        {"tokens per second", "dense_tokens_per_s", "sparse_tokens_per_s", "%.2f"},
        {"share of the attention", "dense_attention_share", "sparse_attention_share", "%.3f"},
    };
    printf("\n%s, %.0f query and %.0f kv heads of %.0f, %s; budget %.0f, pages of %.0f; ",
           report_count((uint32_t)value(one, "context"), "token").text, value(one, "q_heads"),
           value(one, "kv_heads"), value(one, "head_dim"),
           json_string_value(json_object_get(one, "type")), value(one, "budget"),
           value(one, "page_size"));
    printf("%.0f layers, %.0f of them always dense, from the times of %.0f\n\n",
           value(one, "model_layers"), value(one, "dense_layers"), value(one, "layers"));
    struct report_table table = {0};
    table_row(&table);
    table_cell(&table, "");
    for (enum kind kind = 0; kind < KINDS; kind++)
        table_cell(&table, kind_names[kind]);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        table_row(&table);
        table_cell(&table, rows[i].name);
        table_cell(&table, report_number(rows[i].format, value(one, rows[i].dense)).text);
        table_cell(&table, report_number(rows[i].format, value(one, rows[i].sparse)).text);
    }
    table_print(&table);
    printf("\nSparse is %.2f times as fast as dense, and %.1f times in the attention. Weights are "
           "read at %.1f GB/s",
           value(one, "speedup"), value(one, "attention_speedup"), value(one, "linear_gbps"));
    if (value(one, "read_gbps") > 0)
        printf("; this machine reads them at %.1f", value(one, "read_gbps"));
    puts(".");
}

static int print_all(const struct settings *settings, const struct session *session,
                     json_t *results, double load)
{
    size_t i;
    json_t *one;
    json_array_foreach(results, i, one) set(one, "load", load);
    if (settings->json)
        return report_json(
            json_incref(settings->contexts.count > 1 ? results : json_array_get(results, 0)));
    session_print_device(session);
    json_array_foreach(results, i, one) print_result(one);
    return EXIT_DONE;
}

int bench_model(const struct settings *settings, double load)
{
    struct session session = {0};
    struct model model;
    int failed = model_open(&model, settings->model);
    if (failed)
        return failed;
    failed = session_open(&session, settings);
    struct workers *workers =
        failed || !session.limits.threads ? NULL : workers_create(session.limits.threads, 0);
    json_t *results = json_array();
    for (uint32_t i = 0; i < settings->contexts.count && !failed; i++) {
        json_t *one = NULL;
        failed =
            bench_context(settings, &session, &model, workers, settings->contexts.values[i], &one);
        if (!failed)
            json_array_append_new(results, one);
    }
    if (!failed)
        failed = print_all(settings, &session, results, load);
    json_decref(results);
    workers_destroy(workers);
    session_close(&session);
    model_close(&model);
    return failed;
}
