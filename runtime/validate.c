#include "runtime/validate.h"

#include <string.h>

bool skim_take(void *taken, size_t size, const void *given)
{
    if (!given)
        return false;
    size_t size_of;
    memcpy(&size_of, given, sizeof size_of);
    if (size_of < size || size_of > 1u << 16)
        return false;
    for (size_t i = size; i < size_of; i++) {
        if (((const unsigned char *)given)[i] != 0)
            return false;
    }
    memcpy(taken, given, size);
    memcpy(taken, &size, sizeof size);
    return true;
}

bool skim_give(void *given, const void *filled, size_t size)
{
    if (!given)
        return false;
    size_t size_of;
    memcpy(&size_of, given, sizeof size_of);
    if (size_of < sizeof size_of || size_of > 1u << 16)
        return false;
    size_t copied = size_of < size ? size_of : size;
    memcpy(given, filled, copied);
    memset((unsigned char *)given + copied, 0, size_of - copied);
    memcpy(given, &size_of, sizeof size_of);
    return true;
}

bool skim_page_size_valid(uint32_t page_size)
{
    return page_size == 8 || page_size == 16 || page_size == 32 || page_size == 64;
}

static skim_status check_heads(const skim_limits *limits, const skim_shape *shape,
                               skim_error *error)
{
    if (shape->q_heads == 0 || shape->kv_heads == 0 || shape->q_heads % shape->kv_heads != 0)
        return skim_fail(error, SKIM_INVALID,
                         "q_heads (%u) must be a multiple of kv_heads (%u), both above 0",
                         shape->q_heads, shape->kv_heads);
    if (shape->q_heads > limits->heads_max)
        return skim_fail(error, SKIM_UNSUPPORTED, "%u query heads; this device takes at most %u",
                         shape->q_heads, limits->heads_max);
    if (shape->key_dim == 0)
        return skim_fail(error, SKIM_INVALID, "key_dim must not be 0");
    if (shape->value_dim != shape->key_dim)
        return skim_fail(error, SKIM_UNSUPPORTED,
                         "value_dim (%u) other than key_dim (%u) is not implemented",
                         shape->value_dim, shape->key_dim);
    if (shape->key_dim < limits->head_dim_min || shape->key_dim > limits->head_dim_max ||
        shape->key_dim % limits->head_dim_multiple != 0)
        return skim_fail(
            error, SKIM_UNSUPPORTED, "key_dim %u; this device takes multiples of %u from %u to %u",
            shape->key_dim, limits->head_dim_multiple, limits->head_dim_min, limits->head_dim_max);
    return SKIM_OK;
}

static skim_status check_kinds(const skim_limits *limits, const skim_shape *shape,
                               skim_error *error)
{
    if (!skim_page_size_valid(shape->page_size))
        return skim_fail(error, SKIM_INVALID, "page_size %u; use 8, 16, 32 or 64",
                         shape->page_size);
    if (!(limits->page_sizes & shape->page_size))
        return skim_fail(error, SKIM_UNSUPPORTED, "this device does not take page_size %u",
                         shape->page_size);
    if (shape->type != SKIM_F32 && shape->type != SKIM_F16 && shape->type != SKIM_BF16)
        return skim_fail(error, SKIM_INVALID, "keys and values are f32, f16 or bf16, not %s (%d)",
                         skim_type_name(shape->type), (int)shape->type);
    if (!(limits->kv_types & 1u << shape->type))
        return skim_fail(error, SKIM_UNSUPPORTED, "this device does not store %s",
                         skim_type_name(shape->type));
    if (shape->bounds != SKIM_BOUNDS_MINMAX && shape->bounds != SKIM_BOUNDS_MEANSTD)
        return skim_fail(error, SKIM_INVALID, "unknown skim_bounds %d", (int)shape->bounds);
    if (shape->bounds_type != SKIM_BOUNDS_NATIVE && shape->bounds_type != SKIM_BOUNDS_I8)
        return skim_fail(error, SKIM_INVALID, "unknown skim_bounds_type %d",
                         (int)shape->bounds_type);
    if (!(limits->bounds_types & 1u << shape->bounds_type))
        return skim_fail(error, SKIM_UNSUPPORTED, "this device does not store bounds as %s; use %s",
                         shape->bounds_type == SKIM_BOUNDS_I8 ? "i8" : "native",
                         shape->bounds_type == SKIM_BOUNDS_I8 ? "native" : "i8");
    return SKIM_OK;
}

static skim_status check_capacity(const skim_limits *limits, const skim_shape *shape,
                                  skim_error *error)
{
    const struct {
        const char *name;
        uint32_t value;
        uint32_t limit;
    } fields[] = {
        {"slots", shape->slots, limits->slots_max},
        {"max_rows", shape->max_rows, limits->rows_max},
        {"max_tokens", shape->max_tokens, UINT32_MAX / 2},
        {"max_pages", shape->max_pages, limits->pages_max},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (fields[i].value == 0)
            return skim_fail(error, SKIM_INVALID, "%s must not be 0", fields[i].name);
        if (fields[i].value > fields[i].limit)
            return skim_fail(error, SKIM_UNSUPPORTED, "%s %u; this device takes at most %u",
                             fields[i].name, fields[i].value, fields[i].limit);
    }
    if ((uint64_t)shape->max_pages * shape->page_size > UINT32_MAX)
        return skim_fail(error, SKIM_UNSUPPORTED, "a sequence holds at most 2^32 - 1 tokens");
    return SKIM_OK;
}

skim_status skim_shape_check(const skim_device *device, const skim_shape *shape, skim_shape *taken,
                             skim_error *error)
{
    skim_shape copy;
    if (!skim_take(&copy, sizeof copy, shape))
        return skim_fail(error, SKIM_INVALID, "shape is NULL or its size_of is wrong");
    if (copy.value_dim == 0)
        copy.value_dim = copy.key_dim;
    skim_status status = check_heads(&device->limits, &copy, error);
    if (status == SKIM_OK)
        status = check_kinds(&device->limits, &copy, error);
    if (status == SKIM_OK)
        status = check_capacity(&device->limits, &copy, error);
    if (status == SKIM_OK)
        *taken = copy;
    return status;
}

skim_status skim_span_check(const skim_device *device, const char *name, const skim_buffer *buffer,
                            uint64_t offset, uint64_t count, uint64_t width, uint64_t alignment,
                            skim_error *error)
{
    uint64_t bytes, end;
    if (!buffer)
        return skim_fail(error, SKIM_INVALID, "%s: the buffer must not be NULL", name);
    if (buffer->device != device)
        return skim_fail(error, SKIM_INVALID, "%s is a buffer of another device", name);
    if (offset % alignment != 0)
        return skim_fail(error, SKIM_INVALID, "%s: offset %llu is no multiple of %llu", name,
                         (unsigned long long)offset, (unsigned long long)alignment);
    if (!skim_multiply(count, width, &bytes) || !skim_add(offset, bytes, &end) ||
        end > buffer->size)
        return skim_fail(error, SKIM_INVALID,
                         "%s does not fit: %llu elements of %llu bytes at offset %llu in a buffer "
                         "of %llu bytes",
                         name, (unsigned long long)count, (unsigned long long)width,
                         (unsigned long long)offset, (unsigned long long)buffer->size);
    return SKIM_OK;
}

// Elements from the first to one past the last of [tokens][heads][dim] with these strides.
static bool tensor_elements(const skim_tensor *tensor, const skim_extent *extent,
                            uint64_t *elements)
{
    uint64_t over_tokens, over_heads;
    return skim_multiply(extent->tokens - 1, tensor->token_stride, &over_tokens) &&
           skim_multiply(extent->heads - 1, tensor->head_stride, &over_heads) &&
           skim_add(over_tokens, over_heads, elements) &&
           skim_add(*elements, extent->dim, elements);
}

skim_status skim_tensor_check(const skim_device *device, const skim_extent *extent,
                              skim_tensor *tensor, skim_error *error)
{
    const char *name = extent->name;
    if ((unsigned)tensor->type > SKIM_U32 || !(extent->types & 1u << tensor->type))
        return skim_fail(error, SKIM_INVALID, "%s cannot be of type %s (%d)", name,
                         skim_type_name(tensor->type), (int)tensor->type);
    if (tensor->head_stride == 0)
        tensor->head_stride = extent->dim;
    if (tensor->token_stride == 0 &&
        !skim_multiply(tensor->head_stride, extent->heads, &tensor->token_stride))
        return skim_fail(error, SKIM_INVALID, "%s: head_stride overflows", name);
    if (tensor->head_stride < extent->dim || tensor->token_stride < extent->dim)
        return skim_fail(error, SKIM_INVALID, "%s: strides (%llu, %llu) are below its dim %u", name,
                         (unsigned long long)tensor->token_stride,
                         (unsigned long long)tensor->head_stride, extent->dim);
    uint64_t elements, bytes, end;
    size_t width = skim_type_size(tensor->type);
    if (!tensor_elements(tensor, extent, &elements) || !skim_multiply(elements, width, &bytes) ||
        !skim_add(tensor->offset, bytes, &end) || end > PTRDIFF_MAX)
        return skim_fail(error, SKIM_INVALID, "%s: its strides overflow", name);
    if (tensor->buffer)
        return skim_span_check(device, name, tensor->buffer, tensor->offset, elements, width, width,
                               error);
    if (!tensor->data)
        return skim_fail(error, SKIM_INVALID, "%s has neither a buffer nor data", name);
    if (((uintptr_t)tensor->data + tensor->offset) % width != 0)
        return skim_fail(error, SKIM_INVALID, "%s is not aligned to its type", name);
    return SKIM_OK;
}

skim_status skim_paged_check(const skim_device *device, const char *name, const skim_paged *paged,
                             const skim_shape *shape, uint32_t dim, skim_error *error)
{
    const uint64_t strides[] = {paged->page_stride, paged->head_stride, paged->token_stride};
    const uint64_t counts[] = {shape->slots, shape->kv_heads, shape->page_size};
    uint64_t elements = dim;
    for (int i = 0; i < 3; i++) {
        uint64_t reach;
        if (strides[i] % 8 != 0 || (counts[i] > 1 && strides[i] < dim))
            return skim_fail(error, SKIM_INVALID,
                             "%s: strides are multiples of 8 elements, at least the dim %u", name,
                             dim);
        if (!skim_multiply(counts[i] - 1, strides[i], &reach) ||
            !skim_add(elements, reach, &elements))
            return skim_fail(error, SKIM_INVALID, "%s: its strides overflow", name);
    }
    return skim_span_check(device, name, paged->buffer, paged->offset, elements,
                           skim_type_size(shape->type), 16, error);
}

static const char *row_fault(const skim_row *row, const skim_shape *shape, uint32_t token_count,
                             uint32_t table_count, int properties)
{
    uint32_t pages = row->length / shape->page_size + (row->length % shape->page_size != 0);
    if (row->flags & ~(SKIM_ROW_DENSE | SKIM_ROW_CLEAR) || row->reserved[0] || row->reserved[1] ||
        row->reserved[2])
        return "unknown flags or reserved words that are not zero";
    if (row->page_count != pages)
        return "page_count is not ceil(length / page_size)";
    if (pages > shape->max_pages)
        return "more pages than the shape's max_pages";
    if ((properties & SKIM_ROWS_TABLED) &&
        (row->table_start > table_count || pages > table_count - row->table_start))
        return "its pages lie outside the table";
    if (row->query_count > row->length)
        return "query_count exceeds length";
    if ((properties & SKIM_ROWS_QUERIED) &&
        (row->query_start > token_count || row->query_count > token_count - row->query_start))
        return "its queries lie outside token_count";
    if (row->flags & SKIM_ROW_DENSE)
        return NULL;
    if (properties & SKIM_ROWS_ALL_DENSE)
        return "it is not dense, and there are no lists";
    if (row->query_count > 1 && (properties & SKIM_ROWS_SINGLE))
        return "it is not dense, but has more than one query";
    return NULL;
}

// Rows that select reads must force no more pages than they choose.
static const char *forced_fault(const skim_row *row, int properties)
{
    if (!(properties & SKIM_ROWS_SELECTED) || row->flags & SKIM_ROW_DENSE)
        return NULL;
    if (row->query_count > 0 && (row->select_count == 0 || row->forced_last == 0))
        return "select_count or forced_last is 0, but the last page is always read";
    uint64_t forced = (uint64_t)row->forced_first + row->forced_last;
    if (forced > row->page_count)
        forced = row->page_count;
    return row->select_count < forced ? "select_count is below the forced pages" : NULL;
}

skim_status skim_rows_check(const skim_row *rows, uint32_t count, const skim_shape *shape,
                            uint32_t token_count, uint32_t table_count, int properties,
                            skim_error *error)
{
    for (uint32_t i = 0; i < count; i++) {
        const char *fault = row_fault(&rows[i], shape, token_count, table_count, properties);
        if (!fault)
            fault = forced_fault(&rows[i], properties);
        if (fault)
            return skim_fail(error, SKIM_INVALID, "row %u: %s", i, fault);
    }
    return SKIM_OK;
}

skim_status skim_table_check(const uint32_t *table, uint32_t count, const skim_shape *shape,
                             skim_error *error)
{
    for (uint32_t i = 0; i < count; i++) {
        if (table[i] >= shape->slots)
            return skim_fail(error, SKIM_INVALID, "table entry %u is slot %u of %u", i, table[i],
                             shape->slots);
    }
    return SKIM_OK;
}
