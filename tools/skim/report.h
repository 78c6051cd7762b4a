// What the command says to a person: errors, warnings, tables, quantities and progress.
#ifndef SKIM_TOOL_REPORT_H
#define SKIM_TOOL_REPORT_H

#include "skim/base.h"

#include <jansson.h>
#include <stdbool.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

// Print "skim: ..." on stderr. The sentence says what went wrong and what to do. Return the exit
// status.
int report_failure(const char *format, ...) __attribute__((format(printf, 1, 2)));
int report_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
// Prints the library's sentence and what a status asks for. Returns the exit status.
int report_status(skim_status status, const char *sentence);
void report_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Closes stdout. Returns the status, or, after a sentence, a failure's if not all of the output was
// written.
int report_end(int status);

// Prints the value as JSON on stdout and drops it.
int report_json(json_t *value);
// A JSON number of six significant digits, or null for what is not finite (JSON has no NaN).
json_t *report_real(double value);

// A quantity with a unit that suits it, such as "1.5 MiB".
typedef struct report_text {
    char text[32];
} report_text;
report_text report_bytes(double bytes);
// "1 layer", "2 layers".
report_text report_count(uint32_t count, const char *noun);
// The format has one number; of what is not finite, "NaN".
report_text report_number(const char *format, double value);
report_text report_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

// A table: columns are as wide as their widest cell; all but the first are aligned to the right.
enum { REPORT_COLUMNS = 12, REPORT_WIDTH = 48 };
struct report_table {
    char (*cells)[REPORT_COLUMNS][REPORT_WIDTH];
    size_t rows, room;
    size_t columns;
    size_t filled; // cells of the last row
};
void table_row(struct report_table *table);
void table_cell(struct report_table *table, const char *text);
void table_print(struct report_table *table); // and frees it

// A line on stderr that follows work of more than a second; only on a terminal.
void progress_show(const char *what, uint64_t done, uint64_t of);
void progress_clear(void);

// Seconds on a steady clock.
double now(void);
// Sorts the values and returns the one in the middle; 0 for none.
double median(double *values, size_t count);

#endif
