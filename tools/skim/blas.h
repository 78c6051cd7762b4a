// Linear layers on another device: through CLBlast (OpenCL) or cuBLAS (CUDA), opened at run time
// from where the system has them.
#ifndef SKIM_TOOL_BLAS_H
#define SKIM_TOOL_BLAS_H

#include "model.h"
#include "options.h"

struct blas_product {
    uint64_t weights; // memory of the device: [rows][columns]
    uint32_t rows, columns, tokens;
    const float *x; // of the host: [tokens][columns]
    float *y;       // of the host: [tokens][rows]
};

struct blas;

// What a library does with a device. Memory is a number that is not 0. What returns a bool says
// with blas_fail what went wrong.
struct blas_driver {
    const char *name; // as --linear has it
    // Opens the library and a device, LINEAR_ANY: the one that suits best. What it fills in of blas
    // stays for close, which is called after a failure too.
    bool (*open)(struct blas *blas, uint32_t device);
    void (*close)(struct blas *blas);
    bool (*allocate)(struct blas *blas, uint64_t bytes, uint64_t *memory);
    void (*release)(struct blas *blas, uint64_t memory);
    // Returns when the data may change.
    bool (*write)(struct blas *blas, uint64_t memory, uint64_t offset, const void *data,
                  size_t bytes);
    // y[t] = W x[t]. Returns when y is there.
    bool (*multiply)(struct blas *blas, const struct blas_product *product);
};

struct blas {
    const struct blas_driver *driver;
    void *state;     // the driver's
    uint32_t device; // LINEAR_ANY: none yet
    char device_name[128];
    uint64_t memory_bytes; // that the device has free, or has
    uint64_t piece_bytes;  // most of one allocation
    uint64_t *matrices;    // memory, by the matrix's index
    uint32_t count;
    uint64_t x, y; // memory of one call's vectors
    size_t x_elements, y_elements;
    char error[384];
    bool no_memory; // is what the error is about
};

// Opens the device that the settings ask for and copies a model's matrices to it, in f32, with room
// for products of so many tokens. Panel is room for panel_elements floats, no fewer than a row has.
// Returns an exit status; blas is NULL on failure.
int blas_open(struct blas **blas, const struct settings *settings, const struct model *model,
              uint32_t tokens, float *panel, size_t panel_elements);
void blas_close(struct blas *blas); // NULL: nothing

// y[t] = W x[t] for each of tokens vectors. Returns an exit status.
int blas_multiply(struct blas *blas, const struct matrix *matrix, const float *x, uint32_t tokens,
                  float *y);

// For drivers. Sets the error, unless there is one: the first is what matters. Returns false.
bool blas_fail(struct blas *blas, bool no_memory, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Opens the first of the names (NULL ends them) that there is, and finds `count` symbols in it. It
// stays open to the end of the program: drivers have threads, and things to do at exit.
typedef void (*blas_function)(void);
bool blas_library(struct blas *blas, const char *const *names, const char *package,
                  const char *const *symbols, blas_function *functions, size_t count);

extern const struct blas_driver blas_clblast, blas_cublas;

#endif
