// What runs models, where its libraries were not found.
#include "bench_model.h"
#include "commands.h"
#include "report.h"

static int absent(void)
{
    return report_failure(
        "this skim was built without a BLAS; install OpenBLAS, PCRE2 and utf8proc "
        "with their headers, and build it with -Dgenerate=enabled");
}

int generate_run(const struct settings *settings)
{
    (void)settings;
    return absent();
}

int bench_model(const struct settings *settings, double load)
{
    (void)settings;
    (void)load;
    return absent();
}

int evaluate_run(const struct settings *settings)
{
    (void)settings;
    return absent();
}
