#include "number.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool number_read(const char *text, double *value)
{
    size_t length = strspn(text, "0123456789.eE+-");
    if (length == 0 || text[length] || !strchr("0123456789.", *text))
        return false;
    char *end = NULL;
    *value = strtod(text, &end);
    return end == text + length && isfinite(*value);
}
