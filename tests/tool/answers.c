// What a cache of tier 1 answers: answers --model DIR --prompt-file TEXT --prompt QUESTION --tokens
// N [policy]. The text is run densely, the question's bytes and the answer token by token under the
// policy; prints the answer's tokens. skim evaluate must give the same.
#include "forward.h"
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1 << 20 };

static int answer(const struct settings *settings, struct forward *forward, float *logits)
{
    static unsigned char text[MOST];
    FILE *file = fopen(settings->prompt_file, "rb");
    size_t length = file ? fread(text, 1, sizeof text, file) : 0;
    if (!file || fclose(file) != 0)
        return EXIT_FAILED;
    int failed = EXIT_DONE;
    for (size_t first = 0; first < length && !failed; first += FORWARD_STEP_TOKENS) {
        uint32_t tokens[FORWARD_STEP_TOKENS];
        uint32_t count = 0;
        for (; count < FORWARD_STEP_TOKENS && first + count < length; count++)
            tokens[count] = text[first + count];
        failed = forward_run(forward, tokens, count, true, FORWARD_NONE, logits);
    }
    size_t asked = strlen(settings->prompt);
    uint32_t token = 0;
    for (size_t step = 0; step + 1 < asked + settings->tokens && !failed; step++) {
        if (step < asked)
            token = (unsigned char)settings->prompt[step];
        failed = forward_run(forward, &token, 1, settings->dense, FORWARD_LAST, logits);
        if (step + 1 < asked)
            continue;
        token = 0;
        for (uint32_t i = 0; i < forward->model->config.vocab; i++)
            if (logits[i] > logits[token])
                token = i;
        printf("%s%u", step + 1 == asked ? "" : ",", token);
    }
    putchar('\n');
    return failed;
}

static int run(const struct settings *settings)
{
    struct model model;
    struct session session = {0};
    struct forward forward = {0};
    float *logits = NULL;
    int failed = model_open(&model, settings->model);
    if (!failed)
        failed = session_open(&session, settings);
    if (!failed)
        failed = forward_open(&forward, &model, &session, settings, MOST / 16);
    if (!failed && !(logits = malloc(model.config.vocab * sizeof *logits)))
        failed = EXIT_FAILED;
    if (!failed)
        failed = answer(settings, &forward, logits);
    free(logits);
    forward_close(&forward);
    session_close(&session);
    model_close(&model);
    return failed;
}

int main(int argc, char **argv)
{
    const struct command command = {.name = "answers",
                                    .groups = OPTIONS_COMMON | OPTIONS_DEVICE | OPTIONS_POLICY |
                                              OPTIONS_PAGES | OPTIONS_LAYERS | OPTIONS_MODEL |
                                              OPTIONS_GENERATE,
                                    .run = run};
    struct settings settings;
    int status = EXIT_DONE;
    if (options_read(&command, argc, (const char **)argv, &settings, &status))
        status = run(&settings);
    options_free(&settings);
    return report_end(status);
}
