// skim generate where its libraries were not found.
#include "commands.h"
#include "report.h"

int generate_run(const struct settings *settings)
{
    (void)settings;
    return report_failure(
        "this skim was built without a BLAS; install OpenBLAS, PCRE2 and utf8proc "
        "with their headers, and build it with -Dgenerate=enabled");
}
