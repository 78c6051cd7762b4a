// libFuzzer target: the command's reader of traces (tools/skim/trace.c, and safetensors.c under
// it). Whatever the file holds is refused with a sentence, or leaves tensors that lie inside it.
#include "tools/skim/trace.h"
#include "tools/skim/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t read_all(const struct trace_tensor *tensor)
{
    const uint8_t *bytes = tensor->data;
    uint32_t sum = 0;
    for (uint64_t i = 0; i < tensor->bytes; i++)
        sum = sum * 31 + bytes[i];
    return sum;
}

static void check(const struct trace *trace)
{
    static volatile uint32_t sink;
    if (trace->layer_count == 0 || trace->tokens == 0 || trace->queries > trace->tokens)
        abort();
    for (uint32_t i = 0; i < trace->layer_count; i++) {
        const struct trace_layer *layer = &trace->layers[i];
        if (layer->q_heads % layer->kv_heads != 0 || layer->head_dim == 0)
            abort();
        for (int t = 0; t < TRACE_TENSORS; t++)
            sink = sink + read_all(&layer->tensors[t]);
    }
    trace_warn_unless_finite(trace);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int file = -1;
    static char path[64];
    if (file < 0) {
        file = memfd_create("trace", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    if (file < 0 || ftruncate(file, (off_t)size) != 0 ||
        pwrite(file, data, size, 0) != (ssize_t)size)
        abort();
    struct trace trace;
    if (trace_open(&trace, path) == EXIT_DONE) {
        check(&trace);
        trace_close(&trace);
    }
    return 0;
}
