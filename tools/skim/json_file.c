#include "json_file.h"

#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *json_file_path(const char *folder, const char *name)
{
    size_t size = strlen(folder) + strlen(name) + 2;
    char *path = malloc(size);
    if (path)
        snprintf(path, size, "%s/%s", folder, name);
    return path;
}

// Opens a regular file; a pipe without a writer would block for ever.
static FILE *open_regular(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat state;
    if (file >= 0 && (fstat(file, &state) != 0 || !S_ISREG(state.st_mode))) {
        close(file);
        errno = EINVAL;
        return NULL;
    }
    return file < 0 ? NULL : fdopen(file, "rb");
}

int json_file_read(const char *folder, const char *name, json_t **value)
{
    *value = NULL;
    char *path = json_file_path(folder, name);
    if (!path)
        return report_failure("out of memory; free some and try again");
    FILE *file = open_regular(path);
    int failed = EXIT_DONE;
    json_error_t error;
    if (!file && errno != ENOENT)
        failed = report_failure("cannot read '%s': %s; give the folder of a Hugging Face model",
                                path, errno == EINVAL ? "it is no regular file" : strerror(errno));
    if (file) {
        *value = json_loadf(file, JSON_REJECT_DUPLICATES, &error);
        if (!json_is_object(*value))
            failed = report_failure("'%s' is not a JSON object (%s); copy the model again", path,
                                    *value ? "some other value" : error.text);
        fclose(file);
    }
    if (failed) {
        json_decref(*value);
        *value = NULL;
    }
    free(path);
    return failed;
}

int json_file_count(const json_t *object, const char *file, const char *name, uint32_t least,
                    uint32_t most, uint32_t *value)
{
    const json_t *item = json_object_get(object, name);
    if (!item || json_is_null(item))
        return EXIT_DONE;
    json_int_t number = json_integer_value(item);
    if (!json_is_integer(item) || number < least || number > most)
        return report_failure("%s: %s is not a whole number from %u to %u", file, name, least,
                              most);
    *value = (uint32_t)number;
    return EXIT_DONE;
}

int json_file_positive(const json_t *object, const char *file, const char *name, double *value)
{
    const json_t *item = json_object_get(object, name);
    if (!item || json_is_null(item))
        return EXIT_DONE;
    double number = json_number_value(item);
    if (!json_is_number(item) || !isfinite((float)number) || !((float)number > 0))
        return report_failure("%s: %s is not a number above zero", file, name);
    *value = number;
    return EXIT_DONE;
}

int json_file_flag(const json_t *object, const char *file, const char *name, bool *value)
{
    const json_t *item = json_object_get(object, name);
    if (!item || json_is_null(item))
        return EXIT_DONE;
    if (!json_is_boolean(item))
        return report_failure("%s: %s is neither true nor false", file, name);
    *value = json_is_true(item);
    return EXIT_DONE;
}
