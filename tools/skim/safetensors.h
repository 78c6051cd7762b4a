// Reading safetensors: eight bytes with the length of a JSON header, the header, the tensors' data.
#ifndef SKIM_TOOL_SAFETENSORS_H
#define SKIM_TOOL_SAFETENSORS_H

#include "skim/base.h"

#include <jansson.h>
#include <stdbool.h>

enum { SAFETENSORS_RANK = 8 };

struct safetensors_tensor {
    const char *name, *dtype; // owned by the header
    skim_type type;           // SKIM_TYPE_NONE: the dtype is none of F32, F16, BF16
    uint32_t rank;
    uint64_t shape[SAFETENSORS_RANK];
    const void *data;      // aligned to its type
    uint64_t begin, bytes; // place in the file's data
    void *copy;            // data, where the file has it at an odd place
};

// What sentences call the file and what they advise: "trace", "record it again".
struct safetensors_words {
    const char *noun, *remedy;
};

// A file that is mapped, not read.
struct safetensors {
    const uint8_t *map;
    size_t size;
    uint64_t device, inode; // of the file
    json_t *header;
    struct safetensors_tensor *tensors; // in the order of their names
    size_t count;
};

// Opens a file and checks all of it but the numbers: the tensors cover the data without overlap and
// without holes, and shapes, types and places agree. Returns an exit status; what is wrong was
// reported, and the file must be closed in either case.
int safetensors_open(struct safetensors *file, const char *path,
                     const struct safetensors_words *words);
void safetensors_close(struct safetensors *file);

// NULL: the file has no such tensor.
const struct safetensors_tensor *safetensors_find(const struct safetensors *file, const char *name);

// Elements of the tensor.
uint64_t safetensors_elements(const struct safetensors_tensor *tensor);

#endif
