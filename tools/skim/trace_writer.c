// Writing safetensors.
#include "report.h"
#include "trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int trace_writer_open(struct trace_writer *writer, const char *path)
{
    *writer = (struct trace_writer){0};
    struct stat state;
    bool in_place = stat(path, &state) == 0 && !S_ISREG(state.st_mode);
    size_t size = strlen(path) + sizeof ".part";
    writer->path = strdup(path);
    writer->temporary = in_place ? NULL : malloc(size);
    if (!writer->path || (!in_place && !writer->temporary))
        return report_failure("out of memory; free some and try again");
    if (!in_place)
        snprintf(writer->temporary, size, "%s.part", path);
    writer->file = fopen(in_place ? path : writer->temporary, "wb");
    if (writer->file)
        return EXIT_DONE;
    int failed = report_failure("cannot write '%s': %s; choose another place for --out", path,
                                strerror(errno));
    free(writer->temporary);
    writer->temporary = NULL;
    return failed;
}

static uint64_t tensor_bytes(const struct trace_out *tensor)
{
    uint64_t bytes = 4;
    for (uint32_t i = 0; i < tensor->rank; i++)
        bytes *= tensor->shape[i];
    return bytes;
}

static char *make_header(const struct trace_out *tensors, size_t count)
{
    json_t *header = json_object();
    uint64_t offset = 0;
    for (size_t i = 0; i < count; i++) {
        json_t *shape = json_array();
        for (uint32_t d = 0; d < tensors[i].rank; d++)
            json_array_append_new(shape, json_integer((json_int_t)tensors[i].shape[d]));
        uint64_t end = offset + tensor_bytes(&tensors[i]);
        json_object_set_new(header, tensors[i].name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype",
                                      tensors[i].type == TRACE_OUT_F32 ? "F32" : "I32", "shape",
                                      shape, "data_offsets", (json_int_t)offset, (json_int_t)end));
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

int trace_writer_write(struct trace_writer *writer, const struct trace_out *tensors, size_t count)
{
    char *header = make_header(tensors, count);
    if (!header)
        return report_failure("out of memory; free some and try again");
    bool written = write_header(writer->file, header);
    free(header);
    for (size_t i = 0; i < count && written; i++) {
        size_t bytes = (size_t)tensor_bytes(&tensors[i]);
        written = bytes == 0 || fwrite(tensors[i].data, 1, bytes, writer->file) == bytes;
    }
    written = fclose(writer->file) == 0 && written;
    writer->file = NULL;
    if (written && writer->temporary)
        written = rename(writer->temporary, writer->path) == 0;
    if (!written)
        return report_failure("cannot write '%s': %s; choose another place for --out", writer->path,
                              strerror(errno));
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
