#include "trace.h"

#include "number.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_MAX = 100000000, HEADER_START = 8 };

static const struct {
    const char *name;
    skim_type type;
} types[] = {{"F32", SKIM_F32}, {"F16", SKIM_F16}, {"BF16", SKIM_BF16}};

static const char tensor_letters[TRACE_TENSORS] = {'q', 'k', 'v'};

static int map_file(struct trace *trace, const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a pipe may have no writer
    if (file < 0)
        return report_failure("cannot open '%s': %s; give the path of a trace", path,
                              strerror(errno));
    struct stat state;
    int failed = EXIT_DONE;
    if (fstat(file, &state) != 0 || !S_ISREG(state.st_mode))
        failed = report_failure("'%s' is not a regular file; give the path of a trace", path);
    else if (state.st_size < HEADER_START + 2)
        failed = report_failure("'%s' is too short for a trace (%lld bytes); record it again", path,
                                (long long)state.st_size);
    if (!failed) {
        void *map = mmap(NULL, (size_t)state.st_size, PROT_READ, MAP_PRIVATE, file, 0);
        if (map == MAP_FAILED)
            failed = report_failure("cannot read '%s': %s", path, strerror(errno));
        else
            trace->map = map, trace->size = (size_t)state.st_size;
        trace->device = state.st_dev;
        trace->inode = state.st_ino;
    }
    close(file);
    return failed;
}

static uint64_t read_u64(const uint8_t *bytes)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

// Parses the header and leaves the data's place in *start.
static int read_header(struct trace *trace, const char *path, uint64_t *start)
{
    uint64_t length = read_u64(trace->map);
    if (length > HEADER_MAX || length > trace->size - HEADER_START)
        return report_failure(
            "'%s' is truncated or no safetensors file: its header claims %llu bytes of "
            "%zu; record it again",
            path, (unsigned long long)length, trace->size);
    json_error_t error;
    json_t *header = json_loadb((const char *)trace->map + HEADER_START, (size_t)length,
                                JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(header)) {
        json_decref(header);
        return report_failure(
            "'%s' is no safetensors file: its header is not a JSON object (%s); record "
            "it again",
            path, header ? "some other value" : error.text);
    }
    trace->header = header;
    *start = HEADER_START + length;
    return EXIT_DONE;
}

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

static bool read_shape(const json_t *value, uint64_t shape[3])
{
    if (!json_is_array(value) || json_array_size(value) != 3)
        return false;
    for (size_t i = 0; i < 3; i++) {
        const json_t *item = json_array_get(value, i);
        json_int_t number = json_integer_value(item);
        if (!json_is_integer(item) || number < 1 || number >= UINT32_MAX)
            return false;
        shape[i] = (uint64_t)number;
    }
    return true;
}

static bool read_range(const json_t *value, uint64_t range[2])
{
    if (!json_is_array(value) || json_array_size(value) != 2)
        return false;
    for (size_t i = 0; i < 2; i++) {
        const json_t *item = json_array_get(value, i);
        if (!json_is_integer(item) || json_integer_value(item) < 0)
            return false;
        range[i] = (uint64_t)json_integer_value(item);
    }
    return range[0] <= range[1];
}

// Places the tensor's data; what is not aligned to its type is copied.
static int place_tensor(struct trace_tensor *tensor, const uint8_t *data)
{
    tensor->data = data;
    if ((uintptr_t)data % skim_type_size(tensor->type) == 0)
        return EXIT_DONE;
    tensor->copy = malloc((size_t)tensor->bytes);
    if (!tensor->copy)
        return report_failure("out of memory for tensor %s (%s); free some and try again",
                              tensor->name, report_bytes((double)tensor->bytes).text);
    memcpy(tensor->copy, data, (size_t)tensor->bytes);
    tensor->data = tensor->copy;
    return EXIT_DONE;
}

static int read_tensor(const struct trace *trace, uint64_t start, const char *name,
                       const json_t *entry, struct trace_tensor *tensor)
{
    tensor->name = name;
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    for (size_t i = 0; type && i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, type) == 0)
            tensor->type = types[i].type;
    if (tensor->type == SKIM_TYPE_NONE)
        return report_failure("tensor %s has the type %s; a trace holds F32, F16 or BF16", name,
                              type ? type : "(none)");
    if (!read_shape(json_object_get(entry, "shape"), tensor->shape))
        return report_failure(
            "tensor %s has no shape of three positive numbers: [tokens or queries, heads, "
            "head_dim]; record it again",
            name);
    uint64_t range[2] = {0};
    if (!read_range(json_object_get(entry, "data_offsets"), range))
        return report_failure("tensor %s has no data_offsets [begin, end]; record it again", name);
    uint64_t room = trace->size - start;
    if (range[1] > room)
        return report_failure(
            "tensor %s ends %llu bytes after the file does: truncated, or its offsets lie; "
            "record it again",
            name, (unsigned long long)(range[1] - room));
    uint64_t bytes = skim_type_size(tensor->type);
    for (size_t i = 0; i < 3; i++)
        if (__builtin_mul_overflow(bytes, tensor->shape[i], &bytes))
            bytes = UINT64_MAX;
    if (bytes != range[1] - range[0])
        return report_failure(
            "tensor %s: its shape and type need %llu bytes, its data_offsets give %llu; "
            "record it again",
            name, (unsigned long long)bytes, (unsigned long long)(range[1] - range[0]));
    tensor->begin = range[0];
    tensor->bytes = bytes;
    return place_tensor(tensor, trace->map + start + range[0]);
}

static struct trace_layer *find_layer(struct trace *trace, uint32_t index)
{
    for (uint32_t i = 0; i < trace->layer_count; i++)
        if (trace->layers[i].index == index)
            return &trace->layers[i];
    trace->layers[trace->layer_count].index = index;
    return &trace->layers[trace->layer_count++];
}

static int read_tensors(struct trace *trace, uint64_t start, const char *path)
{
    json_t *header = trace->header;
    trace->layers = calloc(json_object_size(header) + 1, sizeof *trace->layers);
    if (!trace->layers)
        return report_failure("out of memory; free some and try again");
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry)
    {
        uint32_t index = 0;
        int which = 0;
        if (strcmp(name, "__metadata__") == 0)
            continue;
        if (!read_name(name, &index, &which))
            return report_failure(
                "'%s' has a tensor '%.64s'; a trace has layers.{i}.q, layers.{i}.k and "
                "layers.{i}.v, nothing else",
                path, name);
        struct trace_layer *layer = find_layer(trace, index);
        int failed = read_tensor(trace, start, name, entry, &layer->tensors[which]);
        if (failed)
            return failed;
    }
    return trace->layer_count ? EXIT_DONE
                              : report_failure("'%s' has no tensors; a trace has layers.{i}.q, "
                                               "layers.{i}.k and layers.{i}.v",
                                               path);
}

static int compare_places(const void *a, const void *b)
{
    const struct trace_tensor *x = *(struct trace_tensor *const *)a;
    const struct trace_tensor *y = *(struct trace_tensor *const *)b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

// The format's own rule: the tensors cover the data without overlap and without holes.
static int check_cover(const struct trace *trace, uint64_t start)
{
    size_t count = 0;
    const struct trace_tensor **list = calloc(trace->layer_count, TRACE_TENSORS * sizeof *list);
    if (!list)
        return report_failure("out of memory; free some and try again");
    for (uint32_t i = 0; i < trace->layer_count; i++)
        for (int t = 0; t < TRACE_TENSORS; t++)
            list[count++] = &trace->layers[i].tensors[t];
    qsort(list, count, sizeof *list, compare_places);
    uint64_t end = 0;
    int failed = EXIT_DONE;
    for (size_t i = 0; i < count && !failed; i++) {
        if (list[i]->begin != end)
            failed = report_failure(
                "tensor %s begins at byte %llu of the data, but the one before it ends at "
                "%llu: the offsets lie; record it again",
                list[i]->name, (unsigned long long)list[i]->begin, (unsigned long long)end);
        end = list[i]->begin + list[i]->bytes;
    }
    if (!failed && end != trace->size - start)
        failed = report_failure(
            "the file has %llu bytes of data, its tensors need %llu; record it again",
            (unsigned long long)(trace->size - start), (unsigned long long)end);
    free(list);
    return failed;
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
    const json_t *metadata = json_object_get(trace->header, "__metadata__");
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
    uint64_t start = 0;
    int failed = map_file(trace, path);
    if (!failed)
        failed = read_header(trace, path, &start);
    if (!failed)
        failed = read_tensors(trace, start, path);
    if (!failed)
        failed = check_layers(trace);
    if (!failed)
        failed = check_cover(trace, start);
    if (!failed)
        failed = read_metadata(trace);
    if (failed)
        trace_close(trace);
    return failed;
}

bool trace_is_at(const struct trace *trace, const char *path)
{
    struct stat state;
    return stat(path, &state) == 0 && state.st_dev == trace->device && state.st_ino == trace->inode;
}

void trace_close(struct trace *trace)
{
    for (uint32_t i = 0; i < trace->layer_count; i++)
        for (int t = 0; t < TRACE_TENSORS; t++)
            free(trace->layers[i].tensors[t].copy);
    free(trace->layers);
    json_decref(trace->header);
    if (trace->map)
        munmap((void *)(uintptr_t)trace->map, trace->size);
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
