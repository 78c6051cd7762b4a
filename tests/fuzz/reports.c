// What the command's code under test reports is formatted and thrown away.
#include "tools/skim/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void format_only(const char *format, va_list arguments)
{
    char text[1024];
    if (vsnprintf(text, sizeof text, format, arguments) <= 0)
        abort(); // no failure is without a sentence
}

int report_failure(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    format_only(format, arguments);
    va_end(arguments);
    return EXIT_FAILED;
}

void report_warning(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    format_only(format, arguments);
    va_end(arguments);
}

report_text report_format(const char *format, ...)
{
    report_text made;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(made.text, sizeof made.text, format, arguments);
    va_end(arguments);
    return made;
}

report_text report_count(uint32_t count, const char *noun)
{
    return report_format("%u %s", count, noun);
}

report_text report_bytes(double bytes)
{
    return report_format("%.0f", bytes);
}
