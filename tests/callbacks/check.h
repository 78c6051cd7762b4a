// Checks for programs that are compiled as C and as C++. A check that fails says where, counts, and
// ends the program.
#ifndef CALLBACKS_CHECK_H
#define CALLBACKS_CHECK_H

#include "skim/skim.h"

#include <stdbool.h>

typedef struct check_case {
    const char *name; // what must hold
    void (*run)(void);
} check_case;

// Ends with a case whose name is NULL.
extern const check_case allocator_cases[], log_cases[], store_cases[], progress_cases[],
    snapshot_cases[];

void check_failed(const char *file, int line, const char *text, long long got, long long wanted);

#define CHECK(condition)                                                                           \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition, 0, 1))
#define CHECK_EQUAL(got, wanted)                                                                   \
    ((long long)(got) == (long long)(wanted)                                                       \
         ? (void)0                                                                                 \
         : check_failed(__FILE__, __LINE__, #got, (long long)(got), (long long)(wanted)))
#define CHECK_OK(call) CHECK_EQUAL(call, SKIM_OK)

#endif
