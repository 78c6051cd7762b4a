#include "backends/gpu/launch.h"

#include "runtime/mutant.h"

#include <assert.h>
#include <stddef.h>

#define HAS_ADDRESSES(verb, VERB, next)                                                            \
    _Static_assert(offsetof(skim_gpu_##verb##_push, next) ==                                       \
                       SKIM_GPU_##VERB##_OPERANDS * sizeof(uint64_t),                              \
                   "addresses first");                                                             \
    _Static_assert(sizeof(skim_gpu_##verb##_push) <= 128, "Vulkan's push constants")
HAS_ADDRESSES(append, APPEND, key_page);
HAS_ADDRESSES(estimate, ESTIMATE, q_token);
HAS_ADDRESSES(select, SELECT, score_stride);
HAS_ADDRESSES(attend, ATTEND, key_page);

// A stride of keys or values, in units.
static uint32_t units(uint64_t elements, skim_type type)
{
    return (uint32_t)(elements * skim_type_size(type) / 16);
}

static skim_gpu_operand of_tensor(const char *name, const skim_tensor *tensor, uint64_t bytes)
{
    return (skim_gpu_operand){
        .name = name, .buffer = tensor->buffer, .offset = tensor->offset, .bytes = bytes};
}

static skim_gpu_operand of_rows(const skim_tensor *rows, uint32_t count)
{
    return of_tensor("rows", rows, (uint64_t)count * sizeof(skim_row));
}

static skim_gpu_operand of_table(const skim_tensor *table, uint32_t count)
{
    return of_tensor("table", table, (uint64_t)count * sizeof(uint32_t));
}

static skim_gpu_operand of_centre(const skim_shape *shape, const skim_buffer *centre,
                                  uint64_t offset)
{
    return (skim_gpu_operand){
        .name = "centre",
        .buffer = centre,
        .offset = offset,
        .bytes = centre ? (uint64_t)shape->kv_heads * shape->key_dim * sizeof(float) : 0,
    };
}

static skim_gpu_operand of_units(const char *name, const skim_buffer *buffer, uint64_t offset)
{
    assert(offset % 16 == 0);
    return (skim_gpu_operand){.name = name, .buffer = buffer, .offset = offset, .units = true};
}

// count vectors of words, stride words apart.
static skim_status describe_words(const char *name, const skim_buffer *buffer, uint64_t offset,
                                  uint64_t stride, uint32_t count, skim_error *error,
                                  skim_gpu_operand *operand)
{
    if (stride > UINT32_MAX)
        return skim_fail(error, SKIM_UNSUPPORTED, "the stride of %s is 2^32 elements or more",
                         name);
    *operand = (skim_gpu_operand){.name = name,
                                  .buffer = buffer,
                                  .offset = offset,
                                  .bytes = buffer ? count * stride * sizeof(uint32_t) : 0};
    return SKIM_OK;
}

skim_status skim_gpu_describe_tensor(const char *name, const skim_tensor *tensor, uint32_t tokens,
                                     uint32_t heads, uint32_t dim, skim_error *error,
                                     skim_gpu_operand *operand, uint32_t *token_stride,
                                     uint32_t *head_stride)
{
    *operand = (skim_gpu_operand){.name = name};
    *token_stride = *head_stride = 0;
    if (tensor->type == SKIM_TYPE_NONE)
        return SKIM_OK;
    assert(tensor->buffer);
    // A stride over nothing may be anything.
    uint64_t of_token = tokens > 1 ? tensor->token_stride : 0;
    uint64_t of_head = heads > 1 ? tensor->head_stride : 0;
    if (of_token > SKIM_STRIDE_MASK || of_head > SKIM_STRIDE_MASK)
        return skim_fail(error, SKIM_UNSUPPORTED,
                         "%s: strides of 2^30 elements and more are not supported", name);
    *token_stride = (uint32_t)of_token;
    *head_stride = (uint32_t)of_head | (uint32_t)tensor->type << SKIM_TYPE_SHIFT;
    uint64_t elements = (tokens - 1) * of_token + (heads - 1) * of_head + dim;
    *operand = of_tensor(name, tensor, elements * skim_type_size(tensor->type));
    return SKIM_OK;
}

bool skim_gpu_is_of_units(uint64_t address, const skim_tensor *tensor)
{
    uint64_t size = skim_type_size(tensor->type);
    return address % 16 == 0 && tensor->token_stride * size % 16 == 0 &&
           tensor->head_stride * size % 16 == 0;
}

bool skim_gpu_freezes(const skim_append_args *args)
{
    return args->freeze || (SKIM_MUTANT(append_freezes_again) && args->centre);
}

// ---- the verbs

skim_status skim_gpu_describe_append(const skim_append_args *args, skim_error *error,
                                     skim_gpu_append_push *push, skim_gpu_operand *operands)
{
    const skim_shape *shape = args->shape;
    *push = (skim_gpu_append_push){
        .key_page = units(args->keys.page_stride, shape->type),
        .key_head = units(args->keys.head_stride, shape->type),
        .key_token = units(args->keys.token_stride, shape->type),
        .value_page = units(args->values.page_stride, shape->type),
        .value_head = units(args->values.head_stride, shape->type),
        .value_token = units(args->values.token_stride, shape->type),
        .slots = shape->slots,
        .shape = skim_gpu_shape_word(shape),
    };
    operands[0] = of_rows(&args->rows, args->row_count);
    operands[1] = of_table(&args->table, args->table_count);
    skim_status status =
        skim_gpu_describe_tensor("k", &args->k, args->token_count, shape->kv_heads, shape->key_dim,
                                 error, &operands[2], &push->k_token, &push->k_head);
    if (status == SKIM_OK)
        status = skim_gpu_describe_tensor("v", &args->v, args->token_count, shape->kv_heads,
                                          shape->value_dim, error, &operands[3], &push->v_token,
                                          &push->v_head);
    operands[4] = of_units("keys", args->keys.buffer, args->keys.offset);
    operands[5] = of_units("values", args->values.buffer, args->values.offset);
    operands[6] = of_units("bounds", args->bounds, args->bounds_offset);
    operands[7] = of_centre(shape, args->centre, args->centre_offset);
    return status;
}

skim_status skim_gpu_describe_estimate(const skim_estimate_args *args, skim_error *error,
                                       skim_gpu_estimate_push *push, skim_gpu_operand *operands)
{
    const skim_shape *shape = args->shape;
    *push = (skim_gpu_estimate_push){
        .slots = shape->slots,
        .shape = skim_gpu_shape_word(shape),
        .score_stride = (uint32_t)args->score_stride,
        .spread = SKIM_MUTANT(estimate_no_spread) ? 1.0f : args->spread,
    };
    operands[0] = of_rows(&args->rows, args->row_count);
    operands[1] = of_table(&args->table, args->table_count);
    skim_status status =
        skim_gpu_describe_tensor("q", &args->q, args->token_count, shape->q_heads, shape->key_dim,
                                 error, &operands[2], &push->q_token, &push->q_head);
    operands[3] = of_units("bounds", args->bounds, args->bounds_offset);
    operands[4] = of_centre(shape, args->centre, args->centre_offset);
    if (status == SKIM_OK)
        status = describe_words("scores", args->scores, args->scores_offset, args->score_stride,
                                args->row_count * shape->q_heads, error, &operands[5]);
    return status;
}

skim_status skim_gpu_describe_select(const skim_select_args *args, skim_error *error,
                                     skim_gpu_select_push *push, skim_gpu_operand *operands)
{
    const skim_shape *shape = args->shape;
    const bool of_heads = skim_gpu_has_head_lists(shape, args->select);
    *push = (skim_gpu_select_push){
        .score_stride = (uint32_t)args->score_stride,
        .list_stride = (uint32_t)args->list_stride,
        .key_stride = shape->max_pages,
        .combine = args->combine,
        .shape = skim_gpu_shape_word(shape),
        .scale = args->scale,
    };
    operands[0] = of_rows(&args->rows, args->row_count);
    skim_status status =
        describe_words("scores", args->scores, args->scores_offset, args->score_stride,
                       args->row_count * shape->q_heads, error, &operands[1]);
    if (status == SKIM_OK)
        status = describe_words("lists", args->lists, args->lists_offset, args->list_stride,
                                args->row_count * (of_heads ? shape->q_heads : shape->kv_heads),
                                error, &operands[2]);
    operands[3] = (skim_gpu_operand){.name = "scratch"};
    return status;
}

skim_status skim_gpu_describe_attend(const skim_attend_args *args, skim_error *error,
                                     skim_gpu_attend_push *push, skim_gpu_operand *operands)
{
    const skim_shape *shape = args->shape;
    const bool of_heads = args->lists && skim_gpu_has_head_lists(shape, args->select);
    *push = (skim_gpu_attend_push){
        .key_page = units(args->keys.page_stride, shape->type),
        .key_head = units(args->keys.head_stride, shape->type),
        .key_token = units(args->keys.token_stride, shape->type),
        .value_page = units(args->values.page_stride, shape->type),
        .value_head = units(args->values.head_stride, shape->type),
        .value_token = units(args->values.token_stride, shape->type),
        .list_stride = (uint32_t)args->list_stride,
        .scale = SKIM_MUTANT(attend_wrong_scale) ? 1.0f / (float)shape->key_dim : args->scale,
    };
    operands[0] = of_rows(&args->rows, args->row_count);
    operands[1] = of_table(&args->table, args->table_count);
    skim_status status =
        skim_gpu_describe_tensor("q", &args->q, args->token_count, shape->q_heads, shape->key_dim,
                                 error, &operands[2], &push->q_token, &push->q_head);
    operands[3] = of_units("keys", args->keys.buffer, args->keys.offset);
    operands[4] = of_units("values", args->values.buffer, args->values.offset);
    if (status == SKIM_OK)
        status = describe_words(
            "lists", args->lists, args->lists_offset, args->lists ? args->list_stride : 0,
            args->row_count * (of_heads ? shape->q_heads : shape->kv_heads), error, &operands[5]);
    if (status == SKIM_OK)
        status = skim_gpu_describe_tensor("out", &args->out, args->token_count, shape->q_heads,
                                          shape->value_dim, error, &operands[6], &push->out_token,
                                          &push->out_head);
    if (status == SKIM_OK)
        status = skim_gpu_describe_tensor("lse", &args->lse, args->token_count, shape->q_heads, 1,
                                          error, &operands[7], &push->lse_token, &push->lse_head);
    operands[8] = (skim_gpu_operand){.name = "scratch"};
    return status;
}
