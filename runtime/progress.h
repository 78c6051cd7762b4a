// Telling the host how a long call gets on.
#ifndef SKIM_PROGRESS_H
#define SKIM_PROGRESS_H

#include "runtime/error.h"

// SKIM_OK to go on; SKIM_CANCELLED, with a sentence. progress and its callback may be NULL.
static inline skim_status skim_progress_report(const skim_progress *progress, uint64_t done,
                                               uint64_t total, skim_error *error)
{
    if (!progress || !progress->report || progress->report(progress->user, done, total) == 0)
        return SKIM_OK;
    return skim_fail(error, SKIM_CANCELLED,
                     "the progress callback asked to stop after %llu of %llu",
                     (unsigned long long)done, (unsigned long long)total);
}

#endif
