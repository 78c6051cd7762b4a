#include "backends/cpu/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PATH_SIZE = 768 };

// Finds "key value" or "key: value" in a file of such lines.
static bool read_field(const char *path, const char *key, uint64_t *value)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    char line[256];
    size_t length = strlen(key);
    bool found = false;
    while (!found && fgets(line, sizeof line, file)) {
        if (strncmp(line, key, length) == 0 && (line[length] == ':' || line[length] == ' '))
            found = sscanf(line + length + 1, "%" SCNu64, value) == 1;
    }
    fclose(file);
    return found;
}

// Reads a file that holds one number; "max" is no number.
static bool read_number(const char *path, uint64_t *value)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool found = fscanf(file, "%" SCNu64, value) == 1;
    fclose(file);
    return found;
}

// The names that the two versions of control groups have for the same things.
typedef struct group_files {
    const char *root;
    const char *controller; // of the line in /proc/self/cgroup
    const char *limit;
    const char *usage;
    const char *reclaimable; // field of memory.stat
} group_files;

static const group_files group_versions[] = {
    {"/sys/fs/cgroup", "", "memory.max", "memory.current", "inactive_file"},
    {"/sys/fs/cgroup/memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
     "total_inactive_file"},
};

// The group's path below its root, from a line "number:controllers:path".
static bool read_group(const char *controller, char path[PATH_SIZE / 2])
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (!file)
        return false;
    char line[PATH_SIZE / 2];
    bool found = false;
    while (!found && fgets(line, sizeof line, file)) {
        char *first = strchr(line, ':');
        char *second = first ? strchr(first + 1, ':') : NULL;
        if (!second)
            continue;
        *second = '\0';
        if (strcmp(first + 1, controller) != 0)
            continue;
        second[1 + strcspn(second + 1, "\n")] = '\0';
        snprintf(path, PATH_SIZE / 2, "%s", second + 1);
        found = true;
    }
    fclose(file);
    return found;
}

// Lowers total and available to what the group and those above it leave.
static void apply_group_limits(const group_files *files, uint64_t *total, uint64_t *available)
{
    char group[PATH_SIZE / 2];
    if (!read_group(files->controller, group))
        return;
    for (;;) {
        char path[PATH_SIZE];
        uint64_t limit, usage, reclaimable = 0;
        snprintf(path, sizeof path, "%s%s/%s", files->root, group, files->limit);
        bool limited = read_number(path, &limit) && limit < *total;
        snprintf(path, sizeof path, "%s%s/%s", files->root, group, files->usage);
        if (limited && read_number(path, &usage)) {
            snprintf(path, sizeof path, "%s%s/memory.stat", files->root, group);
            read_field(path, files->reclaimable, &reclaimable);
            usage -= usage < reclaimable ? usage : reclaimable;
            uint64_t left = usage < limit ? limit - usage : 0;
            *total = limit;
            *available = left < *available ? left : *available;
        }
        char *slash = strrchr(group, '/');
        if (!slash)
            return;
        *slash = '\0';
    }
}

static void read_memory(uint64_t *total, uint64_t *available)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    long page_size = sysconf(_SC_PAGESIZE);
    *total = pages > 0 && page_size > 0 ? (uint64_t)pages * (uint64_t)page_size : 0;
    if (read_field("/proc/meminfo", "MemAvailable", available))
        *available *= 1024;
    else
        *available = *total;
    for (size_t i = 0; i < sizeof group_versions / sizeof group_versions[0]; i++)
        apply_group_limits(&group_versions[i], total, available);
}

uint64_t skim_cpu_memory_total(void)
{
    uint64_t total, available;
    read_memory(&total, &available);
    return total;
}

uint64_t skim_cpu_memory_available(void)
{
    uint64_t total, available;
    read_memory(&total, &available);
    return available;
}

// ---- buffers

#define HUGE_PAGE ((uint64_t)2 << 20)

static size_t buffer_alignment(uint64_t size)
{
    return size >= 2 * HUGE_PAGE ? (size_t)HUGE_PAGE : 64;
}

skim_status skim_cpu_buffer_create(skim_buffer *buffer)
{
    const skim_device *device = buffer->device;
    skim_error *error = &buffer->device->error;
    // An operating system that overcommits grants what it cannot give and kills later.
    uint64_t available = buffer->size >= 2 * HUGE_PAGE ? skim_cpu_memory_available() : 0;
    bool hopeless = (available > 0 && buffer->size > available) || buffer->size > SIZE_MAX / 2;
    size_t alignment = buffer_alignment(buffer->size);
    void *memory = NULL;
    if (!hopeless)
        memory = skim_allocate_raw(device->host, (size_t)buffer->size, alignment);
    if (!memory)
        return skim_fail(error, SKIM_NO_MEMORY,
                         "out of memory: %" PRIu64 " bytes wanted for a buffer, %" PRIu64
                         " available",
                         buffer->size, available > 0 ? available : skim_cpu_memory_available());
#if defined(MADV_HUGEPAGE)
    // Only whole huge pages of the buffer's own; failure costs speed and nothing else.
    if (alignment == HUGE_PAGE)
        madvise(memory, (size_t)(buffer->size / HUGE_PAGE * HUGE_PAGE), MADV_HUGEPAGE);
#endif
    buffer->host = memory;
    buffer->impl = NULL;
    return SKIM_OK;
}

void skim_cpu_buffer_destroy(skim_buffer *buffer)
{
    memset(buffer->host, 0, (size_t)buffer->wipe);
    skim_release_raw(buffer->device->host, buffer->host, (size_t)buffer->size,
                     buffer_alignment(buffer->size));
    buffer->host = NULL;
}
