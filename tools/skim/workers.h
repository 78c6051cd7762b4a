// Threads that start a piece of work together and are timed together.
#ifndef SKIM_TOOL_WORKERS_H
#define SKIM_TOOL_WORKERS_H

#include <stdint.h>

struct workers;

// Starts count - 1 threads; the caller is the first. An idle one watches so many seconds for the
// next run before it sleeps; waking takes some 50 us. NULL if that cannot be done.
struct workers *workers_create(uint32_t count, double watch_s);
void workers_destroy(struct workers *workers);
uint32_t workers_count(const struct workers *workers);

// Runs work(argument, index) for every index < count at once. Returns the seconds from the moment
// all were ready to the moment the last was done.
double workers_run(struct workers *workers, void (*work)(void *argument, uint32_t index),
                   void *argument);

#endif
