// The case table: names, and the axes that the verbs walk.
#include "suite.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const skim_type all_types[3] = {SKIM_F16, SKIM_BF16, SKIM_F32};
const uint32_t all_pages[4] = {16, 8, 32, 64};
const uint32_t all_dims[16] = {64,  32,  128, 40,  72,  80,  96,  104,
                               120, 136, 48,  168, 192, 216, 248, 256};
const uint32_t all_groups[8] = {4, 1, 2, 3, 5, 7, 8, 16};
const uint32_t all_kv_heads[5] = {2, 1, 3, 5, 8};
const skim_combine all_combines[4] = {SKIM_COMBINE_SOFTMAX_MAX, SKIM_COMBINE_MAX, SKIM_COMBINE_MEAN,
                                      SKIM_COMBINE_SOFTMAX_MEAN};
const data_kind real_data[3] = {DATA_CLUSTER, DATA_DRIFT, DATA_NOISE};

params default_params(void)
{
    return (params){
        .kv = SKIM_F16,
        .q = SKIM_F32,
        .out = SKIM_F32,
        .dim = 64,
        .page = 16,
        .group = 4,
        .kv_heads = 2,
        .length = 257,
        .queries = 1,
        .budget = 64,
        .spread = 1.0f,
        .recent = 1,
        .data = DATA_CLUSTER,
        .lse = true,
    };
}

typedef struct name_text {
    char *text;
    size_t size, length;
} name_text;

static void append(name_text *name, const char *format, ...) PRINTF(2, 3);

static void append(name_text *name, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int more = vsnprintf(name->text + name->length, name->size - name->length, format, arguments);
    va_end(arguments);
    name->length += (size_t)more;
    if (name->length >= name->size) {
        fputs("conformance: a case's name is too long\n", stderr);
        exit(1);
    }
}

static void append_shape(name_text *name, const params *p)
{
    append(name, "/%s", skim_type_name(p->kv));
    if (p->q != SKIM_F32 || p->out != SKIM_F32) {
        append(name, "-%s-%s", skim_type_name(p->q), skim_type_name(p->out));
    }
    append(name, "/d%u/p%u/g%u/h%u/n%u", p->dim, p->page, p->group, p->kv_heads, p->length);
    if (p->queries != 1) {
        append(name, "+%u", p->queries);
    }
    if (p->chunk) {
        append(name, "/c%u", p->chunk);
    }
}

static void append_policy(name_text *name, const params *p)
{
    static const char *const selects[] = {"", "/head", "/group"};
    static const char *const combines[] = {"", "/max", "/mean", "/smax", "/smean"};
    if (p->fraction > 0.0) {
        append(name, "/b%g%%", 100.0 * p->fraction);
    } else {
        append(name, "/b%u", p->budget);
    }
    append(name, "%s", p->bounds == SKIM_BOUNDS_MEANSTD ? "/meanstd" : "");
    append(name, "%s", p->bounds_type == SKIM_BOUNDS_I8 ? "/i8" : "");
    if (p->spread < 1.0f || p->spread > 1.0f) {
        append(name, "/l%g", (double)p->spread);
    }
    append(name, "%s%s", selects[p->select], combines[p->combine]);
    if (p->sinks || p->recent != 1) {
        append(name, "/s%u/r%u", p->sinks, p->recent);
    }
}

static void append_rest(name_text *name, const params *p)
{
    static const char *const data[] = {"/noise",   "/cluster", "/drift",
                                       "/integer", "/uniform", "/needle"};
    static const char *const layouts[] = {"", "/tokens", "/padded", "/mixed"};
    static const char *const places[] = {"", "/strided", "/buffer", "/buffer-strided"};
    static const char *const batches[] = {"", "/decode", "/ragged", "/shared", "/many"};
    append(name, "%s%s%s%s%s", data[p->data], layouts[p->layout], places[p->place],
           batches[p->batch], p->lse ? "" : "/no-lse");
    if (p->scale > 0.0f) {
        append(name, "/x%g", (double)p->scale);
    }
    if (p->variant) {
        append(name, "/v%u", p->variant);
    }
}

// Whether no case has this name yet.
static bool is_new(const case_table *table, const char *name)
{
    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->cases[i].name, name) == 0) {
            return false;
        }
    }
    return true;
}

void add_case(case_table *table, const char *verb, bool quick, case_run *run, const params *p)
{
    test_case it = {.verb = verb, .quick = quick, .run = run, .p = *p};
    name_text name = {it.name, sizeof it.name, 0};
    append(&name, "%s", verb);
    append_shape(&name, p);
    append_policy(&name, p);
    append_rest(&name, p);
    if (!is_new(table, it.name)) {
        return;
    }
    if (table->count == table->capacity) {
        table->capacity = table->capacity ? 2 * table->capacity : 1024;
        table->cases = realloc(table->cases, table->capacity * sizeof *table->cases);
        if (!table->cases) {
            fputs("conformance: out of memory\n", stderr);
            exit(1);
        }
    }
    table->cases[table->count++] = it;
}

void add_i8_twins(case_table *table, size_t first, uint32_t quick_every)
{
    uint32_t quick = 0;
    for (size_t i = first, end = table->count; i < end; i++) {
        const test_case it = table->cases[i];
        params p = it.p;
        p.bounds_type = SKIM_BOUNDS_I8;
        add_case(table, it.verb, it.quick && quick % quick_every == 0, it.run, &p);
        quick += it.quick;
    }
}

void build_table(case_table *table)
{
    add_append_cases(table);
    add_estimate_cases(table);
    add_i8_cases(table);
    add_select_cases(table);
    add_attend_cases(table);
    add_pipeline_cases(table);
    add_step_cases(table);
    add_sequence_cases(table);
    add_scenario_cases(table);
    add_exact_cases(table);
    add_policy_cases(table);
    add_pool_cases(table);
}
