#include "trace.h"

#include "number.h"
#include "report.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const struct safetensors_words trace_words = {"trace", "record it again"};

static const char tensor_letters[TRACE_TENSORS] = {'q', 'k', 'v'};

// Reads "layers.{i}.{q,k,v}"; the index has no leading zeros.
static bool read_name(const char *name, uint32_t *index, int *which)
{
    static const char prefix[] = "layers.";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        return false;
    const char *digits = name + sizeof prefix - 1;
    if (*digits < '0' || *digits > '9' || (*digits == '0' && digits[1] != '.'))
        return false;
    char *end = NULL;
    errno = 0;
    unsigned long value = strtoul(digits, &end, 10);
    if (errno || value >= UINT32_MAX || end[0] != '.' || end[1] == '\0' || end[2] != '\0')
        return false;
    *index = (uint32_t)value;
    for (*which = 0; *which < TRACE_TENSORS; ++*which)
        if (end[1] == tensor_letters[*which])
            return true;
    return false;
}

static int read_tensor(const struct safetensors_tensor *source, struct trace_tensor *tensor)
{
    tensor->name = source->name;
    tensor->type = source->type;
    tensor->data = source->data;
    tensor->bytes = source->bytes;
    if (tensor->type == SKIM_TYPE_NONE)
        return report_failure("tensor %s has the type %s; a trace holds F32, F16 or BF16",
                              source->name, source->dtype);
    if (source->rank != 3 || safetensors_elements(source) == 0)
        return report_failure(
            "tensor %s has no shape of three positive numbers: [tokens or queries, heads, "
            "head_dim]; record it again",
            source->name);
    memcpy(tensor->shape, source->shape, sizeof tensor->shape);
    return EXIT_DONE;
}

static struct trace_layer *find_layer(struct trace *trace, uint32_t index)
{
    for (uint32_t i = 0; i < trace->layer_count; i++)
        if (trace->layers[i].index == index)
            return &trace->layers[i];
    trace->layers[trace->layer_count].index = index;
    return &trace->layers[trace->layer_count++];
}

static int read_tensors(struct trace *trace, const char *path)
{
    const struct safetensors *file = &trace->file;
    trace->layers = calloc(file->count + 1, sizeof *trace->layers);
    if (!trace->layers)
        return report_failure("out of memory; free some and try again");
    for (size_t i = 0; i < file->count; i++) {
        uint32_t index = 0;
        int which = 0;
        if (!read_name(file->tensors[i].name, &index, &which))
            return report_failure(
                "'%s' has a tensor '%.64s'; a trace has layers.{i}.q, layers.{i}.k and "
                "layers.{i}.v, nothing else",
                path, file->tensors[i].name);
        struct trace_layer *layer = find_layer(trace, index);
        int failed = read_tensor(&file->tensors[i], &layer->tensors[which]);
        if (failed)
            return failed;
    }
    return trace->layer_count ? EXIT_DONE
                              : report_failure("'%s' has no tensors; a trace has layers.{i}.q, "
                                               "layers.{i}.k and layers.{i}.v",
                                               path);
}

static int disagree(const struct trace_tensor *a, const struct trace_tensor *b, const char *rule)
{
    return report_failure(
        "the shapes of %s [%llu, %llu, %llu] and %s [%llu, %llu, %llu] disagree: %s", a->name,
        (unsigned long long)a->shape[0], (unsigned long long)a->shape[1],
        (unsigned long long)a->shape[2], b->name, (unsigned long long)b->shape[0],
        (unsigned long long)b->shape[1], (unsigned long long)b->shape[2], rule);
}

static int check_layer(const struct trace_layer *layer)
{
    const struct trace_tensor *q = &layer->tensors[TRACE_Q];
    const struct trace_tensor *k = &layer->tensors[TRACE_K];
    const struct trace_tensor *v = &layer->tensors[TRACE_V];
    for (int t = 0; t < TRACE_TENSORS; t++)
        if (!layer->tensors[t].name)
            return report_failure("layers.%u.%c is missing; a recorded layer has q, k and v",
                                  layer->index, tensor_letters[t]);
    if (memcmp(k->shape, v->shape, sizeof k->shape) != 0)
        return disagree(k, v, "keys and values have one shape");
    if (k->type != v->type)
        return report_failure("%s is %s and %s is %s; record keys and values in one type", k->name,
                              skim_type_name(k->type), v->name, skim_type_name(v->type));
    if (q->shape[2] != k->shape[2])
        return disagree(q, k, "queries and keys have one head_dim");
    if (q->shape[1] % k->shape[1] != 0)
        return disagree(q, k, "the query heads must be a multiple of the kv heads");
    if (q->shape[0] > k->shape[0])
        return disagree(q, k,
                        "each query belongs to one of the last tokens, so there cannot be more");
    return EXIT_DONE;
}

static int compare_layers(const void *a, const void *b)
{
    const struct trace_layer *x = a;
    const struct trace_layer *y = b;
    return (x->index > y->index) - (x->index < y->index);
}

static int check_layers(struct trace *trace)
{
    qsort(trace->layers, trace->layer_count, sizeof *trace->layers, compare_layers);
    const struct trace_layer *first = &trace->layers[0];
    for (uint32_t i = 0; i < trace->layer_count; i++) {
        struct trace_layer *layer = &trace->layers[i];
        int failed = check_layer(layer);
        if (failed)
            return failed;
        for (int t = 0; t < TRACE_TENSORS; t++)
            if (layer->tensors[t].shape[0] != first->tensors[t].shape[0])
                return disagree(&first->tensors[t], &layer->tensors[t],
                                "every layer of a run has the same tokens and queries");
        layer->q_heads = (uint32_t)layer->tensors[TRACE_Q].shape[1];
        layer->kv_heads = (uint32_t)layer->tensors[TRACE_K].shape[1];
        layer->head_dim = (uint32_t)layer->tensors[TRACE_K].shape[2];
    }
    trace->tokens = (uint32_t)first->tensors[TRACE_K].shape[0];
    trace->queries = (uint32_t)first->tensors[TRACE_Q].shape[0];
    return EXIT_DONE;
}

static int wrong_scale(const json_t *scale)
{
    char *text = json_dumps(scale, JSON_ENCODE_ANY | JSON_COMPACT);
    int failed = report_failure("the metadata's scale is %.60s; it must be a string that holds a "
                                "positive decimal number, such as \"0.125\"",
                                text ? text : "unreadable");
    free(text);
    return failed;
}

static int read_metadata(struct trace *trace)
{
    const json_t *metadata = json_object_get(trace->file.header, "__metadata__");
    if (metadata && !json_is_object(metadata))
        return report_failure("__metadata__ is not a JSON object; record the trace again");
    const char *model = json_string_value(json_object_get(metadata, "model"));
    const char *note = json_string_value(json_object_get(metadata, "note"));
    trace->model = model ? model : "";
    trace->note = note ? note : "";
    const json_t *scale = json_object_get(metadata, "scale");
    if (!scale)
        return EXIT_DONE;
    double value = 0;
    if (!json_is_string(scale) || !number_read(json_string_value(scale), &value))
        return wrong_scale(scale);
    trace->scale = (float)value;
    return isfinite(trace->scale) && trace->scale > 0 ? EXIT_DONE : wrong_scale(scale);
}

int trace_open(struct trace *trace, const char *path)
{
    *trace = (struct trace){0};
    int failed = safetensors_open(&trace->file, path, &trace_words);
    if (!failed)
        failed = read_tensors(trace, path);
    if (!failed)
        failed = check_layers(trace);
    if (!failed)
        failed = read_metadata(trace);
    if (failed)
        trace_close(trace);
    return failed;
}

bool trace_is_at(const struct trace *trace, const char *path)
{
    struct stat state;
    return stat(path, &state) == 0 && state.st_dev == trace->file.device &&
           state.st_ino == trace->file.inode;
}

void trace_close(struct trace *trace)
{
    free(trace->layers);
    safetensors_close(&trace->file);
    *trace = (struct trace){0};
}

// Every bit of the exponent set means NaN or infinity, in all three types.
static bool is_finite(const struct trace_tensor *tensor)
{
    const uint32_t *words = tensor->data;
    const uint16_t *halves = tensor->data;
    size_t count = (size_t)(tensor->bytes / skim_type_size(tensor->type));
    uint32_t exponent = tensor->type == SKIM_F32   ? 0x7f800000u
                        : tensor->type == SKIM_F16 ? 0x7c00u
                                                   : 0x7f80u;
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = tensor->type == SKIM_F32 ? words[i] : halves[i];
        found |= (bits & exponent) == exponent;
    }
    return !found;
}

void trace_warn_unless_finite(const struct trace *trace)
{
    for (uint32_t i = 0; i < trace->layer_count; i++)
        for (int t = 0; t < TRACE_TENSORS; t++)
            if (!is_finite(&trace->layers[i].tensors[t]))
                report_warning(
                    "%s holds NaN or infinities; the results of the heads that read them mean "
                    "nothing",
                    trace->layers[i].tensors[t].name);
}
