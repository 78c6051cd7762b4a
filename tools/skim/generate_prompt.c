// The prompt of skim generate: a text, a file, or tokens.
#include "generate.h"
#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Tokens are counted by 32 bits, and a prompt of that size has no cache that holds it.
enum { PROMPT_BYTES_MAX = 1 << 30 };

static int cannot_read(const char *path, int reason)
{
    return report_failure("cannot read '%s': %s; give the path of a prompt", path,
                          strerror(reason));
}

// Reads all of a file ("-": standard input). *text is freed by the caller.
static int read_file(const char *path, char **text, size_t *length)
{
    bool standard = strcmp(path, "-") == 0;
    FILE *file = standard ? stdin : fopen(path, "rbe");
    if (!file)
        return cannot_read(path, errno);
    size_t room = 0;
    *length = 0;
    int failed = EXIT_DONE;
    do {
        room = room ? 2 * room : 1 << 16;
        char *larger = room <= 2u * PROMPT_BYTES_MAX ? realloc(*text, room) : NULL;
        if (!larger) {
            failed =
                report_failure("the prompt '%s' does not fit in memory; use a shorter one", path);
            break;
        }
        *text = larger;
        errno = 0;
        *length += fread(*text + *length, 1, room - 1 - *length, file);
    } while (*length == room - 1);
    if (!failed && ferror(file))
        failed = cannot_read(path, errno ? errno : EIO);
    if (!failed)
        (*text)[*length] = '\0';
    if (!standard)
        fclose(file);
    return failed;
}

// Reads whole numbers with commas or blanks between them. path: of the file that they are from, or
// NULL.
static int read_tokens(const char *text, const char *path, uint32_t vocab, struct token_list *list)
{
    static const char blanks[] = ", \t\r\n";
    for (text += strspn(text, blanks); *text; text += strspn(text, blanks)) {
        size_t digits = strspn(text, "0123456789");
        bool valid = digits && memchr(blanks, text[digits], sizeof blanks);
        if (!valid && path)
            return report_failure("'%s' holds '%.32s'; give a file of whole numbers with commas "
                                  "between them",
                                  path, text);
        if (!valid)
            return report_usage("--token-ids takes whole numbers with commas between them, not "
                                "'%.32s'",
                                text);
        uint64_t value = digits < 12 ? strtoull(text, NULL, 10) : UINT64_MAX;
        if (value >= vocab)
            return report_failure("the token %.*s is not below the model's %u tokens",
                                  digits < 32 ? (int)digits : 32, text, vocab);
        if (!token_list_add(list, (uint32_t)value))
            return report_failure("out of memory for the prompt; use a shorter one");
        text += digits;
    }
    return EXIT_DONE;
}

static int read_token_ids(struct generate *generate)
{
    const char *ids = generate->settings->token_ids;
    uint32_t vocab = generate->model.config.vocab;
    if (*ids != '@')
        return read_tokens(ids, NULL, vocab, &generate->prompt);
    char *text = NULL;
    size_t length = 0;
    int failed = read_file(ids + 1, &text, &length);
    if (!failed && strlen(text) != length)
        failed = report_failure("'%s' is no text; give a file of whole numbers", ids + 1);
    if (!failed)
        failed = read_tokens(text, ids + 1, vocab, &generate->prompt);
    free(text);
    return failed;
}

int generate_read_prompt(struct generate *generate)
{
    const struct settings *settings = generate->settings;
    char reason[256] = "";
    int failed = tokenizer_open(&generate->tokenizer, settings->model, &generate->model.config,
                                &generate->has_tokenizer, reason);
    if (failed)
        return failed;
    if (settings->token_ids)
        failed = read_token_ids(generate);
    else if (!generate->has_tokenizer)
        failed =
            report_failure("the model's tokenizer cannot be used: %s; pass --token-ids", reason);
    else if (settings->prompt)
        failed = tokenizer_encode(&generate->tokenizer, settings->prompt, strlen(settings->prompt),
                                  &generate->prompt);
    else {
        char *text = NULL;
        size_t length = 0;
        failed = read_file(settings->prompt_file, &text, &length);
        if (!failed)
            failed = tokenizer_encode(&generate->tokenizer, text, length, &generate->prompt);
        free(text);
    }
    if (!failed && generate->prompt.count == 0)
        failed = report_failure("the prompt is empty; give at least one token");
    if (!failed && generate->prompt.count > UINT32_MAX / 2)
        failed = report_failure("the prompt has %zu tokens, more than can be counted; use a "
                                "shorter one",
                                generate->prompt.count);
    return failed;
}
