// Numbers as people write them.
#ifndef SKIM_TOOL_NUMBER_H
#define SKIM_TOOL_NUMBER_H

#include <stdbool.h>

// Reads decimal digits with at most a point and an exponent, and nothing else: no sign, blanks,
// hexadecimal, NaN or infinity. Returns false if the text is something else or too large.
bool number_read(const char *text, double *value);

#endif
