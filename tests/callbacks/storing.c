// The CPU backend with a prepare that keeps things, as a GPU's keeps compiled kernels.
#include "rig.h"

#include "runtime/runtime.h"
#include "runtime/store.h"

#include <stdio.h>
#include <string.h>

static atomic_uint compiled;

uint32_t storing_compiled(void)
{
    return atomic_exchange(&compiled, 0);
}

// The "kernel": bytes that its name decides, of a length that varies.
static size_t compile(const char *name, unsigned char kernel[512])
{
    size_t size = 300 + strlen(name) * 7 % 100;
    uint32_t state = 1;
    for (size_t i = 0; i < size; i++) {
        state = state * 69069u + (unsigned char)name[i % strlen(name)];
        kernel[i] = (unsigned char)(state >> 16);
    }
    return size;
}

static skim_status storing_prepare(skim_backend_queue *queue, const skim_shape *shape)
{
    const skim_device *device = queue->device;
    char name[128];
    snprintf(name, sizeof name, "attend for %u/%u Heads of %u, in %s", shape->q_heads,
             shape->kv_heads, shape->key_dim, skim_type_name(shape->type));
    unsigned char kernel[512];
    size_t right = compile(name, kernel), size = 0;
    void *kept = skim_store_load(device, name, &size);
    bool same = kept && size == right && memcmp(kept, kernel, size) == 0;
    skim_release(device->host, kept, size);
    if (kept && !same)
        return skim_fail(&queue->error, SKIM_FAILED, "%s came back as another kernel", name);
    if (!kept) {
        atomic_fetch_add(&compiled, 1);
        skim_store_save(device, name, kernel, right);
    }
    return skim_backend_cpu.prepare(queue, shape);
}

skim_status storing_runtime_create(const skim_runtime_options *options, skim_runtime **runtime)
{
    // One for the whole program, since its devices keep pointing at it.
    static skim_backend backend;
    backend = skim_backend_cpu;
    backend.prepare = storing_prepare;
    const skim_registration registration = {"cpu", &backend};
    return skim_runtime_create_with(options, &registration, 1, runtime);
}
