// A runtime, a device and a queue, opened as the options say.
#ifndef SKIM_TOOL_SESSION_H
#define SKIM_TOOL_SESSION_H

#include "options.h"

struct session {
    skim_runtime *runtime;
    skim_device *device;
    skim_queue *queue;
    skim_device_info info;
    skim_limits limits;
};

// Creates the runtime only. Returns an exit status; what failed was reported.
int session_start(struct session *session, const struct settings *settings);
// Creates the runtime, opens the device and makes a queue. Returns an exit status.
int session_open(struct session *session, const struct settings *settings);
void session_close(struct session *session);

// Report a failed call with the sentence of the object it was made on. Return an exit status.
int session_queue_failure(const struct session *session, skim_status status);
int session_cache_failure(const skim_cache *cache, skim_status status);

// Prints the device as one line: "Device: cpu, Xeon, AVX-512".
void session_print_device(const struct session *session);

#endif
