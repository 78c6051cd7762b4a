// The skim command: finds the subcommand, reads its options, runs it.
#include "commands.h"
#include "report.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct command commands[] = {
    {"devices", "list every backend and device", NULL,
     "Lists every backend and device with its limits and, for an absent one, the reason.",
     OPTIONS_COMMON, devices_run},
    {"replay", "run recorded queries, keys and values through a cache", "TRACE",
     "Runs the recorded Q, K and V of a trace (safetensors, docs/trace.md) through a cache: the\n"
     "prompt first, then each recorded query. Reports what was read, the share of the dense\n"
     "attention on it, the difference from the dense result, and the times.",
     OPTIONS_COMMON | OPTIONS_DEVICE | OPTIONS_POLICY | OPTIONS_PAGES | OPTIONS_LAYERS |
         OPTIONS_REPLAY,
     replay_run},
    {"bench", "time the verbs on synthetic data of a given shape", NULL,
     "Times each verb of one layer's decode, the sparse and the dense attention as a whole, and\n"
     "the machine's own ceilings, interleaved in one run, on data that is not in the last-level\n"
     "cache. With --model: whole decode steps of a model, over a cache filled with synthetic keys.",
     OPTIONS_COMMON | OPTIONS_DEVICE | OPTIONS_POLICY | OPTIONS_PAGES | OPTIONS_LAYERS |
         OPTIONS_MODEL | OPTIONS_SHAPE | OPTIONS_BENCH,
     bench_run},
    {"conform", "run the conformance suite on a device", NULL,
     "Runs the conformance suite on a device and ends with 'N passed, N failed, N skipped'.",
     OPTIONS_COMMON | OPTIONS_DEVICE | OPTIONS_CONFORM, conform_run},
    {"generate", "continue a text with a model", NULL,
     "Runs a Llama-family model from a Hugging Face folder and continues the prompt, each time with\n"
     "the likeliest token. The text goes to standard output as it comes; what was read, and how\n"
     "fast, to standard error.",
     OPTIONS_COMMON | OPTIONS_DEVICE | OPTIONS_POLICY | OPTIONS_PAGES | OPTIONS_LAYERS |
         OPTIONS_MODEL | OPTIONS_GENERATE,
     generate_run},
    {"evaluate", "measure a model's accuracy against the budget", NULL,
     "Hides facts in long texts and asks a Llama-family model for them, with each way of choosing\n"
     "pages: how many answers are right, which share of the attention the pages read hold, and what\n"
     "was read. A text is read once, densely; every question then goes through the cell's policy,\n"
     "token by token.",
     OPTIONS_COMMON | OPTIONS_DEVICE | OPTIONS_PAGES | OPTIONS_MODEL | OPTIONS_EVALUATE,
     evaluate_run},
};

enum { COMMANDS = sizeof commands / sizeof *commands };

// What asks for the help, or the version, without a command.
static const char *const help_words[] = {"--help", "-h", "-?", "help", NULL};
static const char *const version_words[] = {"--version", NULL};

static bool is_one_of(const char *const *words, const char *text)
{
    while (*words && strcmp(*words, text) != 0)
        words++;
    return *words != NULL;
}

static int print_help(void)
{
    puts("Skim reads the few pages that the query needs.\n\n"
         "Usage: skim COMMAND [options]\n");
    for (size_t i = 0; i < COMMANDS; i++)
        printf("  %-9s %s\n", commands[i].name, commands[i].summary);
    puts("\n'skim COMMAND --help' lists the options of a command; 'skim --version' the version.");
    return EXIT_DONE;
}

// A stream that was closed stays one that cannot be written: no file that is opened later gets its
// number.
static void keep_closed_streams_closed(void)
{
    int file;
    while ((file = open("/dev/null", O_RDONLY)) >= 0 && file <= STDERR_FILENO)
        continue;
    if (file >= 0)
        close(file);
}

static int run(int argc, char **argv)
{
    if (argc < 2)
        return report_usage("no command given; 'skim --help' lists them");
    if (is_one_of(help_words, argv[1]))
        return print_help();
    if (is_one_of(version_words, argv[1])) {
        printf("skim %s\n", skim_version());
        return EXIT_DONE;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, argv[1]) != 0)
            continue;
        struct settings settings;
        int status = EXIT_DONE;
        if (options_read(&commands[i], argc - 1, (const char **)argv + 1, &settings, &status))
            status = commands[i].run(&settings);
        options_free(&settings);
        return status;
    }
    return report_usage("there is no command '%s'; 'skim --help' lists them", argv[1]);
}

int main(int argc, char **argv)
{
    keep_closed_streams_closed();
    signal(SIGXFSZ, SIG_IGN); // a file over the limit is a write that fails
    return report_end(run(argc, argv));
}
