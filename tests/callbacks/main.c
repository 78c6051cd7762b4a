// What the host's callbacks may do, and what they are told: allocator, log, store, progress and
// snapshots'. The same sources are compiled as C11 and as C++17. With arguments, only the cases
// whose names contain one of them run.
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *program, *running;
static unsigned passed;

void check_failed(const char *file, int line, const char *text, long long got, long long wanted)
{
    printf("FAILED  %s\n%s:%d: %s is %lld, not %lld\nrepeat with: %s '%s'\n", running, file, line,
           text, got, wanted, program, running);
    printf("%u passed, 1 failed, 0 skipped\n", passed);
    fflush(stdout);
    exit(1);
}

static bool is_wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strstr(name, argv[i]))
            return true;
    }
    return argc < 2;
}

int main(int argc, char **argv)
{
    static const check_case *const groups[] = {allocator_cases, log_cases, store_cases,
                                               progress_cases, snapshot_cases};
    program = argv[0];
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
        for (const check_case *each = groups[g]; each->name; each++) {
            if (!is_wanted(each->name, argc, argv))
                continue;
            running = each->name;
            each->run();
            printf("ok      %s\n", each->name);
            passed++;
        }
    }
#ifdef __cplusplus
    printf("compiled as C++ %ld\n", (long)__cplusplus);
#else
    printf("compiled as C %ld\n", (long)__STDC_VERSION__);
#endif
    printf("%u passed, 0 failed, 0 skipped\n", passed);
    return passed > 0 ? 0 : 1;
}
