#include "report.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void say(const char *prefix, const char *format, va_list arguments)
{
    progress_clear();
    fprintf(stderr, "skim: %s", prefix);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
}

int report_failure(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say("", format, arguments);
    va_end(arguments);
    return EXIT_FAILED;
}

int report_usage(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say("", format, arguments);
    va_end(arguments);
    return EXIT_USAGE;
}

void report_warning(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say("warning: ", format, arguments);
    va_end(arguments);
}

static const struct {
    skim_status status;
    const char *advice;
} advices[] = {
    {SKIM_NO_DEVICE, "'skim devices' lists what there is"},
    {SKIM_NO_MEMORY, "free some memory, or ask for a shorter context or fewer layers"},
    {SKIM_UNSUPPORTED, "'skim devices' tells what each device can"},
    {SKIM_DEVICE_LOST, "start again; if it happens again, look at the driver's log"},
};

int report_status(skim_status status, const char *sentence)
{
    const char *advice = NULL;
    for (size_t i = 0; i < sizeof advices / sizeof *advices; i++)
        if (advices[i].status == status)
            advice = advices[i].advice;
    const char *text = sentence && *sentence ? sentence : skim_status_name(status);
    size_t length = strlen(text);
    while (length > 1 && text[length - 1] == '.')
        length--;
    return report_failure("%.*s%s%s", (int)length, text, advice ? "; " : "", advice ? advice : "");
}

int report_json(json_t *value)
{
    if (!value)
        return report_failure("out of memory while writing JSON; free some and try again");
    bool written = json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) == 0;
    putchar('\n');
    json_decref(value);
    if (!written && !ferror(stdout)) // report_end tells of what cannot be written
        return report_failure("out of memory while writing JSON; free some and try again");
    return EXIT_DONE;
}

int report_end(int status)
{
    bool failed = ferror(stdout);
    errno = 0;
    failed |= fflush(stdout) != 0;
    int reason = errno;
    failed |= fclose(stdout) != 0;
    if (!failed)
        return status;
    reason = reason ? reason : errno;
    return report_failure("cannot write to standard output: %s",
                          reason ? strerror(reason) : "not all of it was taken");
}

json_t *report_real(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

report_text report_format(const char *format, ...)
{
    report_text result;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(result.text, sizeof result.text, format, arguments);
    va_end(arguments);
    return result;
}

report_text report_bytes(double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (bytes >= 1000 && unit + 1 < sizeof units / sizeof *units) {
        bytes /= 1024;
        unit++;
    }
    return report_format(unit == 0 ? "%.0f %s" : "%.3g %s", bytes, units[unit]);
}

report_text report_count(uint32_t count, const char *noun)
{
    return report_format("%u %s%s", count, noun, count == 1 ? "" : "s");
}

report_text report_number(const char *format, double value)
{
    report_text result = {"NaN"};
    if (isfinite(value))
        snprintf(result.text, sizeof result.text, format, value);
    return result;
}

void table_row(struct report_table *table)
{
    if (table->rows == table->room) {
        size_t room = table->room ? 2 * table->room : 16;
        void *cells = realloc(table->cells, room * sizeof *table->cells);
        if (!cells)
            exit(report_failure("out of memory for a table; free some and try again"));
        table->cells = cells;
        table->room = room;
    }
    memset(table->cells[table->rows++], 0, sizeof *table->cells);
    table->filled = 0;
}

void table_cell(struct report_table *table, const char *text)
{
    if (table->filled == REPORT_COLUMNS)
        return;
    char *cell = table->cells[table->rows - 1][table->filled++];
    snprintf(cell, REPORT_WIDTH, "%s", text);
    if (table->columns < table->filled)
        table->columns = table->filled;
}

void table_print(struct report_table *table)
{
    for (size_t row = 0; row < table->rows; row++) {
        for (size_t column = 0; column < table->columns; column++) {
            int width = 0;
            for (size_t i = 0; i < table->rows; i++) {
                int length = (int)strlen(table->cells[i][column]);
                width = length > width ? length : width;
            }
            const char *cell = table->cells[row][column];
            printf(column == 0 ? "%-*s" : "  %*s", width, cell);
        }
        putchar('\n');
    }
    free(table->cells);
    *table = (struct report_table){0};
}
