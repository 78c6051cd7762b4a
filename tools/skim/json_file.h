// JSON files of a model's folder.
#ifndef SKIM_TOOL_JSON_FILE_H
#define SKIM_TOOL_JSON_FILE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

// Returns folder/name, or NULL when out of memory. Freed by the caller.
char *json_file_path(const char *folder, const char *name);

// Reads folder/name, which holds an object. A file that is not there is no failure, *value is then
// NULL. Returns an exit status; what failed was reported.
int json_file_read(const char *folder, const char *name, json_t **value);

// Reads a whole number from least to most. A missing or null field leaves *value as it is.
// Returns an exit status.
int json_file_count(const json_t *object, const char *file, const char *name, uint32_t least,
                    uint32_t most, uint32_t *value);
// Reads a finite number above zero in the same way.
int json_file_positive(const json_t *object, const char *file, const char *name, double *value);
// Reads true or false in the same way.
int json_file_flag(const json_t *object, const char *file, const char *name, bool *value);

#endif
