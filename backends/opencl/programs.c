#include "backends/opencl/opencl.h"

#include "runtime/checksum.h"
#include "runtime/mutant.h"
#include "runtime/store.h"

#include <stdio.h>
#include <string.h>

// shaders/opencl, each file with what it includes, made by embed.py.
#define TEXT(name) #name
#ifdef SKIM_MUTANTS
#define SOURCE_FILE(name) TEXT(name##_mutants.cl.inc)
#else
#define SOURCE_FILE(name) TEXT(name.cl.inc)
#endif
#define SOURCE(name) SOURCE_FILE(name)
static const char append_source[] = {
#include SOURCE(append)
};
static const char centre_source[] = {
#include SOURCE(centre)
};
static const char estimate_source[] = {
#include SOURCE(estimate)
};
static const char select_source[] = {
#include SOURCE(select)
};
static const char attend_source[] = {
#include SOURCE(attend)
};

// A kernel, and the program that it is part of.
static const struct {
    const char *name, *function, *source;
    skim_opencl_kernel program;
} kernels[SKIM_OPENCL_KERNELS] = {
    [SKIM_OPENCL_APPEND] = {"append", "append", append_source, SKIM_OPENCL_APPEND},
    [SKIM_OPENCL_CENTRE] = {"centre", "centre", centre_source, SKIM_OPENCL_CENTRE},
    [SKIM_OPENCL_ESTIMATE] = {"estimate", "estimate", estimate_source, SKIM_OPENCL_ESTIMATE},
    [SKIM_OPENCL_SELECT] = {"select", "select_", select_source, SKIM_OPENCL_SELECT},
    [SKIM_OPENCL_ATTEND] = {"attend", "attend", attend_source, SKIM_OPENCL_ATTEND},
    [SKIM_OPENCL_MERGE] = {"merge", "merge", attend_source, SKIM_OPENCL_ATTEND},
    [SKIM_OPENCL_PREFILL] = {"prefill", "prefill", attend_source, SKIM_OPENCL_PREFILL},
};

const char *skim_opencl_kernel_name(skim_opencl_kernel kernel)
{
    return kernels[kernel].function;
}

// ---- constants

// Query heads of a kv head that a group serves at once: a power of two, few of them in general
// kernels.
static uint32_t heads_of(const skim_shape *shape, bool wide)
{
    const uint32_t group = shape->q_heads / shape->kv_heads, most = 8;
    if (group == 1)
        return 1;
    uint32_t heads = wide ? 2 : 4;
    while (wide && heads < group && heads < most)
        heads *= 2;
    return heads;
}

skim_opencl_constants skim_opencl_constants_of(const skim_opencl_device *device,
                                               const skim_shape *shape, skim_opencl_kernel kernel,
                                               skim_select_mode select)
{
    const bool wide = device->base->limits.features & SKIM_FEATURE_WIDE;
    const bool common = shape->key_dim == 64 || shape->key_dim == 128 || shape->key_dim == 256;
    skim_opencl_constants constants = {0};
    if (kernel == SKIM_OPENCL_SELECT) {
        constants.keys = shape->max_pages <= SKIM_OPENCL_NEAR_KEYS ? SKIM_OPENCL_NEAR_KEYS : 1;
        return constants;
    }
    constants.type = shape->type;
    constants.dim = wide && common && kernel != SKIM_OPENCL_CENTRE ? shape->key_dim : 0;
    switch (kernel) {
    case SKIM_OPENCL_ESTIMATE:
        constants.heads = heads_of(shape, wide);
        // fall through
    case SKIM_OPENCL_APPEND:
        // One more than the number, so that 0 stands for nothing.
        constants.bounds = 1 + shape->bounds;
        constants.bounds_type = 1 + shape->bounds_type;
        break;
    case SKIM_OPENCL_ATTEND:
    case SKIM_OPENCL_MERGE:
        constants.heads = skim_gpu_has_head_lists(shape, select) ? 1 : heads_of(shape, wide);
        break;
    case SKIM_OPENCL_PREFILL:
        constants.heads = SKIM_OPENCL_PREFILL_QUERIES;
        break;
    default:
        break;
    }
    return constants;
}

static void write_options(const skim_opencl_device *device, skim_opencl_kernel kernel,
                          const skim_opencl_constants *constants, char *text, size_t size)
{
    const struct {
        const char *name;
        uint32_t value;
        bool given;
    } options[] = {
        {"THREADS", device->threads, true},
        {"TYPE", constants->type, constants->type > 0},
        {"DIM_GIVEN", constants->dim, constants->dim > 0},
        {"BOUNDS", constants->bounds - 1, constants->bounds > 0},
        {"BOUNDS_TYPE", constants->bounds_type - 1, constants->bounds_type > 0},
        {"HEADS", constants->heads, constants->heads > 0},
        {"KEYS", constants->keys, constants->keys > 0},
        {"CHUNK_SHIFT", constants->chunk_shift, constants->chunk_shift > 0},
        {"PREFILL", 1, kernel == SKIM_OPENCL_PREFILL},
        {"FP16", 1, (device->base->limits.features & SKIM_FEATURE_FP16) != 0},
#ifdef SKIM_MUTANTS
        {"MUTANT", skim_mutant, true},
#endif
    };
    int used = snprintf(text, size, "-cl-std=CL1.2");
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (options[i].given && used >= 0 && (size_t)used < size)
            used += snprintf(text + used, size - (size_t)used, " -D%s=%u", options[i].name,
                             options[i].value);
}

// ---- what is kept between runs

// All that a binary depends on besides what the store looks at itself.
static void write_name(skim_opencl_kernel kernel, const char *options, char *name, size_t size)
{
    const char *source = kernels[kernel].source;
    skim_checksum sum;
    skim_checksum_begin(&sum, 0);
    skim_checksum_add(&sum, source, strlen(source));
    skim_checksum_add(&sum, options, strlen(options));
    snprintf(name, size, "%s-%016llx", kernels[kernel].name,
             (unsigned long long)skim_checksum_value(&sum));
}

static cl_program load_binary(skim_opencl_device *device, const char *name, const char *options)
{
    const skim_opencl_functions *cl = &device->cl;
    size_t size = 0;
    unsigned char *data = skim_store_load(device->base, name, &size);
    if (!data)
        return NULL;
    const unsigned char *binary = data;
    cl_int status = CL_SUCCESS, result = CL_SUCCESS;
    cl_program program = cl->CreateProgramWithBinary(device->context, 1, &device->handle, &size,
                                                     &binary, &status, &result);
    if (result != CL_SUCCESS)
        program = NULL; // a call that failed may have returned anything
    bool built = program && status == CL_SUCCESS &&
                 cl->BuildProgram(program, 1, &device->handle, options, NULL, NULL) == CL_SUCCESS;
    if (program && !built) {
        cl->ReleaseProgram(program);
        program = NULL;
    }
    if (!program)
        skim_log_write(device->base->host, SKIM_LOG_WARNING,
                       "the driver refuses its own binary of %s; it is built again", name);
    skim_release(device->base->host, data, size);
    return program;
}

static void save_binary(skim_opencl_device *device, const skim_opencl_program *item)
{
    const skim_opencl_functions *cl = &device->cl;
    const skim_host *host = device->base->host;
    char options[256], name[64];
    write_options(device, item->kernel, &item->constants, options, sizeof options);
    write_name(item->kernel, options, name, sizeof name);
    size_t size = 0;
    if (cl->GetProgramInfo(item->handle, CL_PROGRAM_BINARY_SIZES, sizeof size, &size, NULL) !=
            CL_SUCCESS ||
        size == 0 || size > SKIM_STORE_VALUE_MAX)
        return;
    unsigned char *data = skim_allocate(host, size);
    if (data && cl->GetProgramInfo(item->handle, CL_PROGRAM_BINARIES, sizeof data, &data, NULL) ==
                    CL_SUCCESS)
        skim_store_save(device->base, name, data, size);
    skim_release(host, data, size);
}

void skim_opencl_programs_save(skim_opencl_device *device)
{
    skim_opencl_programs *programs = &device->programs;
    if (!device->base->host->store.save)
        return;
    // The host is called without the lock; programs live as long as the device.
    for (uint32_t i = 0;; i++) {
        skim_opencl_program item = {.saved = true};
        skim_mutex_lock(&programs->mutex);
        const bool there = i < programs->count;
        if (there) {
            item = programs->items[i];
            programs->items[i].saved = true;
        }
        skim_mutex_unlock(&programs->mutex);
        if (!there)
            return;
        if (!item.saved)
            save_binary(device, &item);
    }
}

// ---- building

// The compiler's words go to the log line by line, the first of them to the error.
static skim_status report_build(skim_opencl_device *device, cl_program program,
                                skim_opencl_kernel kernel, skim_error *error)
{
    const skim_host *host = device->base->host;
    const char *name = kernels[kernel].name;
    size_t size = 0;
    char *log = NULL;
    cl_int result = device->cl.GetProgramBuildInfo(program, device->handle, CL_PROGRAM_BUILD_LOG, 0,
                                                   NULL, &size);
    if (result == CL_SUCCESS && size > 0 && size < SKIM_STORE_VALUE_MAX)
        log = skim_allocate(host, size + 1);
    if (log)
        result = device->cl.GetProgramBuildInfo(program, device->handle, CL_PROGRAM_BUILD_LOG, size,
                                                log, NULL);
    const bool read = log && result == CL_SUCCESS;
    for (const char *line = log; read && *line;) {
        int length = (int)strcspn(line, "\n");
        if (length > 0)
            skim_log_write(host, SKIM_LOG_ERROR, "building %s: %.*s", name,
                           length < 400 ? length : 400, line);
        line += length;
        line += *line == '\n';
    }
    const int first = read ? (int)strcspn(log, "\n") : 0;
    skim_status status =
        skim_fail(error, SKIM_FAILED, "the driver's compiler cannot build the kernel %s%s%.*s",
                  name, first > 0 ? ": " : "", first < 300 ? first : 300, read ? log : "");
    skim_release(host, log, size + 1);
    return status;
}

static skim_status build_source(skim_opencl_device *device, skim_opencl_kernel kernel,
                                const char *options, skim_error *error, cl_program *program)
{
    const skim_opencl_functions *cl = &device->cl;
    const char *source = kernels[kernel].source;
    cl_int result = CL_SUCCESS;
    *program = cl->CreateProgramWithSource(device->context, 1, &source, NULL, &result);
    if (result != CL_SUCCESS) {
        *program = NULL;
        return skim_opencl_fail(device->base, error, result, "clCreateProgramWithSource");
    }
    result = cl->BuildProgram(*program, 1, &device->handle, options, NULL, NULL);
    if (result == CL_SUCCESS)
        return SKIM_OK;
    skim_status status = result == CL_BUILD_PROGRAM_FAILURE
                             ? report_build(device, *program, kernel, error)
                             : skim_opencl_fail(device->base, error, result, "clBuildProgram");
    cl->ReleaseProgram(*program);
    *program = NULL;
    return status;
}

static const skim_opencl_program *find(const skim_opencl_programs *programs,
                                       skim_opencl_kernel kernel,
                                       const skim_opencl_constants *constants)
{
    for (uint32_t i = 0; i < programs->count; i++) {
        const skim_opencl_program *item = &programs->items[i];
        if (item->kernel == kernel && memcmp(&item->constants, constants, sizeof *constants) == 0)
            return item;
    }
    return NULL;
}

// Adds a program to those there are, unless another thread made the same meanwhile: then that one
// is taken.
static bool keep(skim_opencl_device *device, skim_opencl_program *made)
{
    skim_opencl_programs *programs = &device->programs;
    cl_program surplus = made->handle;
    skim_mutex_lock(&programs->mutex);
    const skim_opencl_program *found = find(programs, made->kernel, &made->constants);
    skim_opencl_program *items = NULL;
    if (found)
        made->handle = found->handle;
    else
        items = skim_gpu_grow(device->base->host, programs->items, programs->count,
                              &programs->capacity, sizeof *items);
    if (items) {
        programs->items = items;
        items[programs->count++] = *made;
        surplus = NULL;
    }
    skim_mutex_unlock(&programs->mutex);
    if (surplus)
        device->cl.ReleaseProgram(surplus);
    return found || items;
}

skim_status skim_opencl_program_get(skim_opencl_device *device, skim_opencl_kernel kernel,
                                    const skim_opencl_constants *constants, skim_error *error,
                                    cl_program *program)
{
    skim_opencl_programs *programs = &device->programs;
    kernel = kernels[kernel].program;
    skim_mutex_lock(&programs->mutex);
    const skim_opencl_program *found = find(programs, kernel, constants);
    if (found)
        *program = found->handle;
    skim_mutex_unlock(&programs->mutex);
    if (found)
        return SKIM_OK;

    // Without the lock: a step on another queue must not wait for a compiler.
    char options[256], name[64];
    skim_opencl_program made = {.kernel = kernel, .constants = *constants};
    write_options(device, kernel, constants, options, sizeof options);
    write_name(kernel, options, name, sizeof name);
    made.handle = load_binary(device, name, options);
    made.saved = made.handle;
    if (!made.handle) {
        skim_status status = build_source(device, kernel, options, error, &made.handle);
        if (status != SKIM_OK)
            return status;
    }
    if (!keep(device, &made))
        return skim_fail(error, SKIM_NO_MEMORY, "no host memory for a kernel");
    *program = made.handle;
    return SKIM_OK;
}

void skim_opencl_programs_deinit(skim_opencl_device *device)
{
    skim_opencl_programs *programs = &device->programs;
    for (uint32_t i = 0; i < programs->count; i++)
        device->cl.ReleaseProgram(programs->items[i].handle);
    skim_release(device->base->host, programs->items, programs->capacity * sizeof *programs->items);
    programs->items = NULL;
    programs->count = programs->capacity = 0;
}
