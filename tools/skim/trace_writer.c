// Writing safetensors.
#include "report.h"
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *name;
    uint32_t size;
} types[] = {[TRACE_OUT_F32] = {"F32", 4},
             [TRACE_OUT_I32] = {"I32", 4},
             [TRACE_OUT_F16] = {"F16", 2},
             [TRACE_OUT_BF16] = {"BF16", 2}};

enum trace_out_type trace_out_type_of(skim_type type)
{
    return type == SKIM_F16 ? TRACE_OUT_F16 : type == SKIM_BF16 ? TRACE_OUT_BF16 : TRACE_OUT_F32;
}

static int cannot_write(const struct trace_writer *writer, const char *path, int reason)
{
    return report_failure("cannot write '%s': %s; choose another place for %s", path,
                          strerror(reason), writer->option);
}

static int out_of_memory(void)
{
    return report_failure("out of memory; free some and try again");
}

// Makes an empty file beside the path. It has the permissions of the one it is to replace or, with
// mode 0, of a new file.
static int open_temporary(struct trace_writer *writer, mode_t mode)
{
    static const char name[] = ".skim-XXXXXX";
    const char *slash = strrchr(writer->path, '/');
    int folder = slash ? (int)(slash + 1 - writer->path) : 0;
    size_t size = (size_t)folder + sizeof name;
    char *temporary = malloc(size);
    if (!temporary)
        return out_of_memory();
    snprintf(temporary, size, "%.*s%s", folder, writer->path, name);
    int file = mkostemp(temporary, O_CLOEXEC);
    if (file < 0) {
        int reason = errno;
        free(temporary);
        return cannot_write(writer, writer->path, reason);
    }
    writer->temporary = temporary;
    if (!mode) {
        mode_t mask = umask(0);
        umask(mask);
        mode = 0666 & ~mask;
    }
    fchmod(file, mode);
    writer->file = fdopen(file, "wb");
    if (!writer->file)
        close(file);
    return writer->file ? EXIT_DONE : out_of_memory();
}

static bool is_standard_output(const struct stat *state)
{
    struct stat output;
    return fstat(STDOUT_FILENO, &output) == 0 && output.st_dev == state->st_dev &&
           output.st_ino == state->st_ino;
}

// A pipe or a device is written in place, a file is replaced when the new one is complete.
static int open_existing(struct trace_writer *writer, const char *path, const struct stat *state)
{
    if (S_ISREG(state->st_mode)) {
        if (is_standard_output(state))
            return report_failure("%s is the standard output's file; give another path",
                                  writer->option);
        writer->path = realpath(path, NULL);
        return writer->path ? open_temporary(writer, state->st_mode & 0777)
                            : cannot_write(writer, path, errno);
    }
    writer->path = strdup(path);
    if (!writer->path)
        return out_of_memory();
    writer->file = fopen(path, "wbe");
    return writer->file ? EXIT_DONE : cannot_write(writer, path, errno);
}

int trace_writer_open(struct trace_writer *writer, const char *path, const char *option)
{
    *writer = (struct trace_writer){.option = option};
    struct stat state;
    if (stat(path, &state) == 0)
        return open_existing(writer, path, &state);
    if (errno != ENOENT || !*path)
        return cannot_write(writer, path, errno);
    if (lstat(path, &state) == 0)
        return report_failure("cannot write '%s': it is a link to nothing; choose another place "
                              "for %s",
                              path, option);
    writer->path = strdup(path);
    return writer->path ? open_temporary(writer, 0) : out_of_memory();
}

static uint64_t tensor_bytes(const struct trace_out *tensor)
{
    uint64_t bytes = types[tensor->type].size;
    for (uint32_t i = 0; i < tensor->rank; i++)
        bytes *= tensor->shape[i];
    return bytes;
}

static char *make_header(const struct trace_out *tensors, size_t count, const json_t *metadata)
{
    json_t *header = json_object();
    if (metadata)
        json_object_set_new(header, "__metadata__", json_deep_copy(metadata));
    uint64_t offset = 0;
    for (size_t i = 0; i < count; i++) {
        json_t *shape = json_array();
        for (uint32_t d = 0; d < tensors[i].rank; d++)
            json_array_append_new(shape, json_integer((json_int_t)tensors[i].shape[d]));
        uint64_t end = offset + tensor_bytes(&tensors[i]);
        json_object_set_new(header, tensors[i].name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", types[tensors[i].type].name,
                                      "shape", shape, "data_offsets", (json_int_t)offset,
                                      (json_int_t)end));
        offset = end;
    }
    char *text = json_dumps(header, JSON_COMPACT);
    json_decref(header);
    return text;
}

// The length of the header, then the header padded with spaces to a multiple of 8.
static bool write_header(FILE *file, const char *text)
{
    size_t length = strlen(text);
    size_t padded = (length + 7) / 8 * 8;
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)((uint64_t)padded >> 8 * i);
    return fwrite(bytes, 1, 8, file) == 8 && fwrite(text, 1, length, file) == length &&
           fwrite("       ", 1, padded - length, file) == padded - length;
}

int trace_writer_write(struct trace_writer *writer, const struct trace_out *tensors, size_t count,
                       const json_t *metadata)
{
    char *header = make_header(tensors, count, metadata);
    if (!header)
        return out_of_memory();
    bool written = write_header(writer->file, header);
    for (size_t i = 0; i < count && written; i++) {
        size_t bytes = (size_t)tensor_bytes(&tensors[i]);
        written = bytes == 0 || fwrite(tensors[i].data, 1, bytes, writer->file) == bytes;
    }
    int reason = written ? 0 : errno;
    free(header);
    if (fclose(writer->file) != 0 && !reason)
        reason = errno;
    writer->file = NULL;
    if (!reason && writer->temporary && rename(writer->temporary, writer->path) != 0)
        reason = errno;
    if (reason)
        return cannot_write(writer, writer->path, reason);
    free(writer->temporary);
    writer->temporary = NULL;
    return EXIT_DONE;
}

void trace_writer_close(struct trace_writer *writer)
{
    if (writer->file)
        fclose(writer->file);
    if (writer->temporary)
        unlink(writer->temporary);
    free(writer->temporary);
    free(writer->path);
    *writer = (struct trace_writer){0};
}
