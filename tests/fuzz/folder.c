#include "tests/fuzz/folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FILES = 8, PATH = 128 };

// A file is a link to a memfd, so that writing one costs no disk anything.
static struct {
    const char *name;
    char link[PATH];
    int file;
    int there;
} files[FILES];
static char path[PATH];

static void remove_folder(void)
{
    for (int i = 0; i < FILES && files[i].name; i++)
        unlink(files[i].link);
    rmdir(path);
}

const char *folder_path(void)
{
    if (!*path) {
        const char *parent = getenv("TMPDIR");
        int length =
            snprintf(path, sizeof path, "%s/skim-fuzz-XXXXXX", parent && *parent ? parent : "/tmp");
        if (length >= (int)sizeof path - 64 || !mkdtemp(path) || atexit(remove_folder) != 0)
            abort();
    }
    return path;
}

static int find(const char *name)
{
    int i = 0;
    while (files[i].name && strcmp(files[i].name, name) != 0)
        if (++i == FILES)
            abort();
    if (!files[i].name) {
        files[i].name = name;
        files[i].file = memfd_create(name, MFD_CLOEXEC);
        int length =
            snprintf(files[i].link, sizeof files[i].link, "%.80s/%.40s", folder_path(), name);
        if (files[i].file < 0 || length >= PATH)
            abort();
    }
    return i;
}

void folder_put(const char *name, const void *data, size_t size)
{
    int i = find(name);
    int there = data != NULL;
    char target[64];
    snprintf(target, sizeof target, "/proc/self/fd/%d", files[i].file);
    if (there != files[i].there &&
        (there ? symlink(target, files[i].link) : unlink(files[i].link)) != 0)
        abort();
    files[i].there = there;
    if (there &&
        (ftruncate(files[i].file, 0) != 0 || pwrite(files[i].file, data, size, 0) != (ssize_t)size))
        abort();
}
