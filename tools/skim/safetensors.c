#include "safetensors.h"

#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_MAX = 100000000, HEADER_START = 8 };

static const struct {
    const char *name;
    uint32_t bytes;
    skim_type type;
} types[] = {
    {"F32", 4, SKIM_F32},        {"F16", 2, SKIM_F16},           {"BF16", 2, SKIM_BF16},
    {"F64", 8, SKIM_TYPE_NONE},  {"I64", 8, SKIM_TYPE_NONE},     {"U64", 8, SKIM_TYPE_NONE},
    {"I32", 4, SKIM_TYPE_NONE},  {"U32", 4, SKIM_TYPE_NONE},     {"I16", 2, SKIM_TYPE_NONE},
    {"U16", 2, SKIM_TYPE_NONE},  {"I8", 1, SKIM_TYPE_NONE},      {"U8", 1, SKIM_TYPE_NONE},
    {"BOOL", 1, SKIM_TYPE_NONE}, {"F8_E4M3", 1, SKIM_TYPE_NONE}, {"F8_E5M2", 1, SKIM_TYPE_NONE}};

static int map_file(struct safetensors *file, const char *path,
                    const struct safetensors_words *words)
{
    int handle = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a pipe may have no writer
    if (handle < 0)
        return report_failure("cannot open '%s': %s; give the path of a %s", path, strerror(errno),
                              words->noun);
    struct stat state;
    int failed = EXIT_DONE;
    if (fstat(handle, &state) != 0 || !S_ISREG(state.st_mode))
        failed =
            report_failure("'%s' is not a regular file; give the path of a %s", path, words->noun);
    else if (state.st_size < HEADER_START + 2)
        failed = report_failure("'%s' is too short for a %s (%lld bytes); %s", path, words->noun,
                                (long long)state.st_size, words->remedy);
    if (!failed) {
        void *map = mmap(NULL, (size_t)state.st_size, PROT_READ, MAP_PRIVATE, handle, 0);
        if (map == MAP_FAILED)
            failed = report_failure("cannot read '%s': %s", path, strerror(errno));
        else
            file->map = map, file->size = (size_t)state.st_size;
        file->device = state.st_dev;
        file->inode = state.st_ino;
    }
    close(handle);
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
static int read_header(struct safetensors *file, const char *path, uint64_t *start,
                       const struct safetensors_words *words)
{
    uint64_t length = read_u64(file->map);
    if (length > HEADER_MAX || length > file->size - HEADER_START)
        return report_failure(
            "'%s' is truncated or no safetensors file: its header claims %llu bytes of %zu; %s",
            path, (unsigned long long)length, file->size, words->remedy);
    json_error_t error;
    json_t *header = json_loadb((const char *)file->map + HEADER_START, (size_t)length,
                                JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(header)) {
        json_decref(header);
        return report_failure(
            "'%s' is no safetensors file: its header is not a JSON object (%s); %s", path,
            header ? "some other value" : error.text, words->remedy);
    }
    file->header = header;
    *start = HEADER_START + length;
    return EXIT_DONE;
}

static bool read_shape(const json_t *value, struct safetensors_tensor *tensor)
{
    if (!json_is_array(value) || json_array_size(value) > SAFETENSORS_RANK)
        return false;
    tensor->rank = (uint32_t)json_array_size(value);
    for (size_t i = 0; i < tensor->rank; i++) {
        const json_t *item = json_array_get(value, i);
        json_int_t number = json_integer_value(item);
        if (!json_is_integer(item) || number < 0 || number >= UINT32_MAX)
            return false;
        tensor->shape[i] = (uint64_t)number;
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

uint64_t safetensors_elements(const struct safetensors_tensor *tensor)
{
    uint64_t elements = 1;
    for (uint32_t i = 0; i < tensor->rank; i++)
        elements *= tensor->shape[i];
    return elements;
}

// Places the tensor's data; what is not aligned to its type is copied.
static int place_tensor(struct safetensors_tensor *tensor, const uint8_t *data)
{
    tensor->data = data;
    if (!tensor->type || (uintptr_t)data % skim_type_size(tensor->type) == 0)
        return EXIT_DONE;
    tensor->copy = malloc((size_t)tensor->bytes + 1);
    if (!tensor->copy)
        return report_failure("out of memory for tensor %.64s (%s); free some and try again",
                              tensor->name, report_bytes((double)tensor->bytes).text);
    memcpy(tensor->copy, data, (size_t)tensor->bytes);
    tensor->data = tensor->copy;
    return EXIT_DONE;
}

static int read_tensor(const struct safetensors *file, uint64_t start, const json_t *entry,
                       struct safetensors_tensor *tensor, const struct safetensors_words *words)
{
    const char *name = tensor->name;
    uint64_t bytes = 0;
    tensor->dtype = json_string_value(json_object_get(entry, "dtype"));
    for (size_t i = 0; tensor->dtype && i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, tensor->dtype) == 0)
            tensor->type = types[i].type, bytes = types[i].bytes;
    if (!bytes)
        return report_failure("tensor %.64s has the type %.64s, which safetensors do not have; %s",
                              name, tensor->dtype ? tensor->dtype : "(none)", words->remedy);
    if (!read_shape(json_object_get(entry, "shape"), tensor))
        return report_failure("tensor %.64s has no shape of at most %d whole numbers; %s", name,
                              SAFETENSORS_RANK, words->remedy);
    uint64_t range[2] = {0};
    if (!read_range(json_object_get(entry, "data_offsets"), range))
        return report_failure("tensor %.64s has no data_offsets [begin, end]; %s", name,
                              words->remedy);
    uint64_t room = file->size - start;
    if (range[1] > room)
        return report_failure("tensor %.64s ends %llu bytes after the file does: truncated, or its "
                              "offsets lie; %s",
                              name, (unsigned long long)(range[1] - room), words->remedy);
    for (size_t i = 0; i < tensor->rank; i++)
        if (__builtin_mul_overflow(bytes, tensor->shape[i], &bytes))
            bytes = UINT64_MAX;
    if (bytes != range[1] - range[0])
        return report_failure(
            "tensor %.64s: its shape and type need %llu bytes, its data_offsets give %llu; %s",
            name, (unsigned long long)bytes, (unsigned long long)(range[1] - range[0]),
            words->remedy);
    tensor->begin = range[0];
    tensor->bytes = bytes;
    return place_tensor(tensor, file->map + start + range[0]);
}

static int read_tensors(struct safetensors *file, uint64_t start,
                        const struct safetensors_words *words)
{
    file->tensors = calloc(json_object_size(file->header) + 1, sizeof *file->tensors);
    if (!file->tensors)
        return report_failure("out of memory; free some and try again");
    const char *name;
    json_t *entry;
    json_object_foreach(file->header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        struct safetensors_tensor *tensor = &file->tensors[file->count++];
        tensor->name = name;
        int failed = read_tensor(file, start, entry, tensor, words);
        if (failed)
            return failed;
    }
    return EXIT_DONE;
}

static int compare_places(const void *a, const void *b)
{
    const struct safetensors_tensor *x = a;
    const struct safetensors_tensor *y = b;
    if (x->begin != y->begin)
        return x->begin > y->begin ? 1 : -1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); // an empty one comes first
}

static int compare_names(const void *a, const void *b)
{
    const struct safetensors_tensor *x = a;
    const struct safetensors_tensor *y = b;
    return strcmp(x->name, y->name);
}

// The format's own rule: the tensors cover the data without overlap and without holes.
static int check_cover(struct safetensors *file, uint64_t start,
                       const struct safetensors_words *words)
{
    uint64_t end = 0;
    qsort(file->tensors, file->count, sizeof *file->tensors, compare_places);
    for (size_t i = 0; i < file->count; i++) {
        const struct safetensors_tensor *tensor = &file->tensors[i];
        if (tensor->begin != end)
            return report_failure(
                "tensor %.64s begins at byte %llu of the data, but the one before it ends at "
                "%llu: the offsets lie; %s",
                tensor->name, (unsigned long long)tensor->begin, (unsigned long long)end,
                words->remedy);
        end = tensor->begin + tensor->bytes;
    }
    qsort(file->tensors, file->count, sizeof *file->tensors, compare_names);
    if (end == file->size - start)
        return EXIT_DONE;
    return report_failure("the file has %llu bytes of data, its tensors need %llu; %s",
                          (unsigned long long)(file->size - start), (unsigned long long)end,
                          words->remedy);
}

int safetensors_open(struct safetensors *file, const char *path,
                     const struct safetensors_words *words)
{
    *file = (struct safetensors){0};
    uint64_t start = 0;
    int failed = map_file(file, path, words);
    if (!failed)
        failed = read_header(file, path, &start, words);
    if (!failed)
        failed = read_tensors(file, start, words);
    if (!failed)
        failed = check_cover(file, start, words);
    return failed;
}

void safetensors_close(struct safetensors *file)
{
    for (size_t i = 0; i < file->count; i++)
        free(file->tensors[i].copy);
    free(file->tensors);
    json_decref(file->header);
    if (file->map)
        munmap((void *)(uintptr_t)file->map, file->size);
    *file = (struct safetensors){0};
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *file, const char *name)
{
    const struct safetensors_tensor key = {.name = name};
    return file->count ? bsearch(&key, file->tensors, file->count, sizeof key, compare_names)
                       : NULL;
}
