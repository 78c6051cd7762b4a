// What backends keep between runs of the program, in the host's store: compiled kernels and the
// like. A value comes back as it was saved by the same version of the library for the same device
// and driver, or not at all; whatever else the store returns is noted in the log and made again.
// It is a guard against damage, not against a store that wants to harm: its values become code.
//
// Nothing here holds a lock while the host is called.
#ifndef SKIM_STORE_PRIVATE_H
#define SKIM_STORE_PRIVATE_H

#include "runtime/backend.h"

enum { SKIM_STORE_KEY_SIZE = 128 };

// Larger values are neither saved nor believed.
#define SKIM_STORE_VALUE_MAX ((size_t)1 << 28)

// The value kept under name, which says everything that its bytes depend on besides version, device
// and driver (the kernel, its constants, a hash of its source): any text. To be released with
// skim_release(device->host, value, *size). NULL if there is none, or no memory for it.
// device->info must be filled.
void *skim_store_load(const skim_device *device, const char *name, size_t *size);

// Keeps size > 0 bytes under name; a failure costs the next run the time to make them.
void skim_store_save(const skim_device *device, const char *name, const void *value, size_t size);

// The key of a name: lower-case letters, digits, '-', '_' and '.'. Different names may share one;
// what is kept under it says which of them it is for.
void skim_store_key(const skim_device *device, const char *name, char key[SKIM_STORE_KEY_SIZE]);

#endif
