// Trace files: recorded queries, keys and values of a model's layers in safetensors
// (docs/trace.md).
#ifndef SKIM_TOOL_TRACE_H
#define SKIM_TOOL_TRACE_H

#include "safetensors.h"

#include <stdbool.h>
#include <stdio.h>

struct trace_tensor {
    const char *name;
    skim_type type;
    uint64_t shape[3];
    const void *data; // aligned to the type
    uint64_t bytes;
};

enum { TRACE_Q, TRACE_K, TRACE_V, TRACE_TENSORS };

// One recorded layer: q [queries][q_heads][head_dim], k and v [tokens][kv_heads][head_dim].
struct trace_layer {
    uint32_t index; // the model's own
    struct trace_tensor tensors[TRACE_TENSORS];
    uint32_t q_heads, kv_heads, head_dim;
};

struct trace {
    struct safetensors file;    // owns the names and the data
    struct trace_layer *layers; // in ascending order of index
    uint32_t layer_count;
    uint32_t tokens, queries; // the same in every layer
    float scale;              // 0: none given
    const char *model, *note; // "" if not given
};

// Opens and checks a trace. Returns an exit status; what is wrong with the file was reported.
int trace_open(struct trace *trace, const char *path);
void trace_close(struct trace *trace);

// Whether path leads to the trace's own file.
bool trace_is_at(const struct trace *trace, const char *path);

// Reports, as warnings, the tensors that hold NaN or infinities.
void trace_warn_unless_finite(const struct trace *trace);

// Writing safetensors: a list of tensors, then their data in one go.
enum trace_out_type { TRACE_OUT_F32, TRACE_OUT_I32, TRACE_OUT_F16, TRACE_OUT_BF16 };
struct trace_out {
    char name[48];
    enum trace_out_type type;
    uint32_t rank;
    uint64_t shape[3];
    const void *data;
};
enum trace_out_type trace_out_type_of(skim_type type);

// A file that appears under its name only when it is complete.
struct trace_writer {
    FILE *file;
    const char *option;     // that named it: "--out"
    char *path, *temporary; // temporary NULL: written in place (a pipe or a device)
};

// All return an exit status; what failed was reported. metadata: an object of strings, or NULL.
int trace_writer_open(struct trace_writer *writer, const char *path, const char *option);
int trace_writer_write(struct trace_writer *writer, const struct trace_out *tensors, size_t count,
                       const json_t *metadata);
void trace_writer_close(struct trace_writer *writer); // removes what was not completed

#endif
