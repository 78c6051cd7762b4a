// Two devices at once: cases run on each in a thread of its own, in one process, by turns: PoCL 3.1
// aborts now and then (pocl_release_dlhandle_cache) when kernels of two of its devices run in the
// same moment. POCL_DEVICES makes it have two.
#include "conformance.h"
#include "skim/skim.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEVICES = 2 };

typedef struct run {
    const char *device;
    int number;
    conformance_status status;
    conformance_totals totals;
    char error[300];
} run;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int turn;            // whose it is
static bool ended[DEVICES]; // they take no more

static void pass_turn(int number)
{
    for (int i = 1; i <= DEVICES; i++) {
        turn = (number + i) % DEVICES;
        if (!ended[turn])
            break;
    }
    pthread_cond_broadcast(&changed);
}

static void await_turn(int number)
{
    while (turn != number)
        pthread_cond_wait(&changed, &mutex);
}

// After each case: the others have one first.
static void end_case(void *user, const conformance_result *result)
{
    const run *own = user;
    if (result->outcome == CONFORMANCE_FAILED)
        printf("%s: %s: %s\n", own->device, result->name, result->detail);
    pass_turn(own->number);
    await_turn(own->number);
}

static void *run_cases(void *user)
{
    run *own = user;
    const conformance_options options = {.device = own->device,
                                         .disable = SKIM_FEATURE_WIDE,
                                         .quick = true,
                                         .every = 30,
                                         .report = end_case,
                                         .user = own};
    pthread_mutex_lock(&mutex); // which waiting for a turn lets go
    await_turn(own->number);
    own->status = conformance_run(&options, &own->totals, own->error, sizeof own->error);
    ended[own->number] = true;
    pass_turn(own->number);
    pthread_mutex_unlock(&mutex);
    return NULL;
}

static uint32_t count_devices(char *reason, size_t size)
{
    skim_runtime *runtime = NULL;
    uint32_t count = 0;
    if (skim_runtime_create(NULL, &runtime) != SKIM_OK)
        return 0;
    for (uint32_t i = 0; i < skim_runtime_backend_count(runtime); i++) {
        skim_backend_info info = {.size_of = sizeof info};
        skim_runtime_backend_info(runtime, i, &info);
        if (strcmp(info.name, "opencl") != 0)
            continue;
        count = info.device_count;
        snprintf(reason, size, "%s", info.reason);
    }
    skim_runtime_destroy(runtime);
    return count;
}

int main(void)
{
    static run runs[DEVICES] = {{.device = "opencl:0", .number = 0},
                                {.device = "opencl:1", .number = 1}};
    pthread_t threads[DEVICES];
    char reason[300] = "";
    const uint32_t found = count_devices(reason, sizeof reason);
    if (found < DEVICES) {
        const char *required = getenv("SKIM_REQUIRE");
        printf("%u OpenCL devices: %s\n", found, reason);
        return required && strstr(required, "opencl") ? 1 : 77;
    }
    uint32_t passed = 0, failed = 0;
    for (int i = 0; i < DEVICES; i++)
        if (pthread_create(&threads[i], NULL, run_cases, &runs[i]) != 0)
            return 1;
    for (int i = 0; i < DEVICES; i++) {
        pthread_join(threads[i], NULL);
        const run *own = &runs[i];
        printf("%s: %u passed, %u failed %s\n", own->device, own->totals.passed, own->totals.failed,
               own->error);
        passed += own->status == CONFORMANCE_OK && own->totals.passed > 0;
        failed += own->status != CONFORMANCE_OK || own->totals.passed == 0;
    }
    printf("%u passed, %u failed, 0 skipped\n", passed, failed);
    return failed > 0;
}
