// Progress on a terminal, and the clock.
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static struct {
    double started, shown;
    bool visible;
    const char *what;
} progress;

void progress_show(const char *what, uint64_t done, uint64_t of)
{
    double time = now();
    if (progress.what != what) {
        progress_clear();
        progress.what = what;
        progress.started = time;
    }
    if (time - progress.started < 1 || time - progress.shown < 0.1 || !isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "\r\033[K%s: %.0f %%", what, of ? 100.0 * (double)done / (double)of : 0.0);
    fflush(stderr);
    progress.shown = time;
    progress.visible = true;
}

void progress_clear(void)
{
    if (progress.visible)
        fputs("\r\033[K", stderr);
    progress.visible = false;
    progress.what = NULL;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

double median(double *values, size_t count)
{
    if (count == 0)
        return 0;
    qsort(values, count, sizeof *values, compare);
    return count % 2 ? values[count / 2] : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}
