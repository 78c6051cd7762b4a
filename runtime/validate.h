// The checks at the front: every public argument passes here once, so that backends only assert.
#ifndef SKIM_VALIDATE_H
#define SKIM_VALIDATE_H

#include "runtime/backend.h"

// Copies a caller's struct that starts with size_of into one of ours. False if it is NULL or too
// small, or if it comes from a newer header and sets fields we do not know.
bool skim_take(void *taken, size_t size, const void *given);

// Copies our struct into the caller's, as much of it as the caller's size_of says, which is kept.
// False if it is NULL or has no room for size_of.
bool skim_give(void *given, const void *filled, size_t size);

// All that can be said of the options without a driver.
skim_status skim_cuda_options_check(const skim_cuda_options *options, skim_error *error);
skim_status skim_vulkan_options_check(const skim_vulkan_options *options, skim_error *error);
skim_status skim_opencl_options_check(const skim_opencl_options *options, skim_error *error);

bool skim_page_size_valid(uint32_t page_size);

// Fills taken with the shape, value_dim resolved.
skim_status skim_shape_check(const skim_device *device, const skim_shape *shape, skim_shape *taken,
                             skim_error *error);

// What a tensor must hold.
typedef struct skim_extent {
    const char *name;
    uint64_t tokens;
    uint32_t heads;
    uint32_t dim;
    uint32_t types; // bit 1 << skim_type for each type it may have
} skim_extent;

// Checks the tensor against the extent and resolves its strides.
skim_status skim_tensor_check(const skim_device *device, const skim_extent *extent,
                              skim_tensor *tensor, skim_error *error);

// Checks that count elements of width bytes from offset lie inside the buffer.
skim_status skim_span_check(const skim_device *device, const char *name, const skim_buffer *buffer,
                            uint64_t offset, uint64_t count, uint64_t width, uint64_t alignment,
                            skim_error *error);

skim_status skim_paged_check(const skim_device *device, const char *name, const skim_paged *paged,
                             const skim_shape *shape, uint32_t dim, skim_error *error);

// Which properties of rows a verb relies on beyond the common ones.
enum {
    SKIM_ROWS_TABLED = 1,    // pages are looked up in the table
    SKIM_ROWS_QUERIED = 2,   // queries or new tokens are read
    SKIM_ROWS_SELECTED = 4,  // K and the forced pages are read
    SKIM_ROWS_SINGLE = 8,    // a row that is not dense has at most one query
    SKIM_ROWS_ALL_DENSE = 16 // there are no lists
};

// Checks rows in host memory.
skim_status skim_rows_check(const skim_row *rows, uint32_t count, const skim_shape *shape,
                            uint32_t token_count, uint32_t table_count, int properties,
                            skim_error *error);

// Checks a page table in host memory.
skim_status skim_table_check(const uint32_t *table, uint32_t count, const skim_shape *shape,
                             skim_error *error);

#endif
