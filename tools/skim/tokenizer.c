#include "tokenizer.h"

#include "json_file.h"
#include "report.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static int out_of_memory(void)
{
    return report_failure("out of memory for the prompt's tokens; use a shorter prompt");
}

// GPT-2's map: printable characters of Latin-1 stand for themselves, the other bytes for the
// characters from 256 on, in order.
static uint32_t byte_code(uint32_t byte)
{
    uint32_t code = 256;
    for (uint32_t b = 0; b <= byte; b++) {
        bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        if (b == byte)
            return printable ? b : code;
        code += !printable;
    }
    return code;
}

size_t tokenizer_byte_character(uint8_t byte, char text[2])
{
    uint32_t code = byte_code(byte);
    if (code < 0x80) {
        text[0] = (char)code;
        return 1;
    }
    text[0] = (char)(0xc0 | code >> 6);
    text[1] = (char)(0x80 | (code & 0x3f));
    return 2;
}

int tokenizer_open(struct tokenizer *tokenizer, const char *folder,
                   const struct model_config *config, bool *there, char reason[256])
{
    *tokenizer = (struct tokenizer){.vocab = config->vocab};
    *there = false;
    int failed = json_file_read(folder, "tokenizer.json", &tokenizer->json);
    if (failed)
        return failed;
    if (tokenizer->json) {
        failed = tokenizer_load(tokenizer, there, reason);
        if (failed)
            tokenizer_close(tokenizer);
        return failed;
    }
    // Byte models have no tokenizer, and few tokens beyond the bytes.
    *there = tokenizer->bytes = config->vocab >= 256 && config->vocab <= 512;
    snprintf(reason, 256, "the model has no tokenizer.json and its %u tokens are no bytes",
             config->vocab);
    return EXIT_DONE;
}

void tokenizer_close(struct tokenizer *tokenizer)
{
    for (uint32_t i = 0; i < tokenizer->split_count; i++) {
        pcre2_code_free(tokenizer->splits[i].pattern);
        pcre2_match_data_free(tokenizer->splits[i].match);
    }
    bpe_close(&tokenizer->bpe);
    free(tokenizer->added);
    free(tokenizer->pieces);
    free(tokenizer->decoded);
    json_decref(tokenizer->json);
    *tokenizer = (struct tokenizer){0};
}

// The token that a whole word is, if ignore_merges lets it.
static bool find_whole(const struct tokenizer *tokenizer, const char *word, size_t length,
                       uint32_t *token)
{
    char *text = malloc(2 * length);
    size_t size = 0;
    for (size_t i = 0; text && i < length; i++)
        size += tokenizer_byte_character((uint8_t)word[i], text + size);
    const json_t *value = text ? json_object_getn(tokenizer->vocabulary, text, size) : NULL;
    free(text);
    if (value)
        *token = (uint32_t)json_integer_value(value);
    return value != NULL;
}

static int encode_word(const struct tokenizer *tokenizer, const char *word, size_t length,
                       struct token_list *list)
{
    uint32_t token = 0;
    if (length == 0)
        return EXIT_DONE;
    if (tokenizer->ignore_merges && find_whole(tokenizer, word, length, &token))
        return token_list_add(list, token) ? EXIT_DONE : out_of_memory();
    uint32_t *tokens = malloc(length * sizeof *tokens);
    for (size_t i = 0; tokens && i < length; i++)
        tokens[i] = tokenizer->byte_tokens[(uint8_t)word[i]];
    bool done = tokens && bpe_merge_word(&tokenizer->bpe, tokens, length, list);
    free(tokens);
    return done ? EXIT_DONE : out_of_memory();
}

// Cuts the text at the matches of one pattern after the other: a match is a piece, and so is what
// lies between two.
static int split_text(const struct tokenizer *tokenizer, uint32_t index, const char *text,
                      size_t length, struct token_list *list)
{
    if (index == tokenizer->split_count)
        return encode_word(tokenizer, text, length, list);
    const struct split *split = &tokenizer->splits[index];
    size_t done = 0;
    size_t from = 0;
    int failed = EXIT_DONE;
    while (from < length && !failed) {
        int matches = pcre2_match(split->pattern, (PCRE2_SPTR)text, length, from,
                                  PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, split->match, NULL);
        if (matches == PCRE2_ERROR_NOMATCH)
            break;
        if (matches < 0)
            return report_failure("the pattern %u of tokenizer.json cannot be applied to the "
                                  "prompt (PCRE2 error %d); pass --token-ids",
                                  index, matches);
        const size_t *range = pcre2_get_ovector_pointer(split->match);
        size_t begin = range[0];
        from = range[1];
        if (begin < done || from <= begin) // \K and the like
            return report_failure("the pattern %u of tokenizer.json matches backwards; pass "
                                  "--token-ids",
                                  index);
        failed = split_text(tokenizer, index + 1, text + done, begin - done, list);
        if (!failed)
            failed = split_text(tokenizer, index + 1, text + begin, from - begin, list);
        done = from;
    }
    return failed ? failed : split_text(tokenizer, index + 1, text + done, length - done, list);
}

// Text without added tokens.
static int encode_section(const struct tokenizer *tokenizer, const char *text, size_t length,
                          struct token_list *list)
{
    if (!tokenizer->compose || length == 0)
        return split_text(tokenizer, 0, text, length, list);
    utf8proc_uint8_t *composed = NULL;
    utf8proc_ssize_t size = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length,
                                         &composed, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    if (size < 0)
        return size == UTF8PROC_ERROR_NOMEM
                   ? out_of_memory()
                   : report_failure("the prompt cannot be normalised: %s", utf8proc_errmsg(size));
    int failed = split_text(tokenizer, 0, (const char *)composed, (size_t)size, list);
    free(composed);
    return failed;
}

// The longest added token that the text begins with.
static const struct added_token *find_added(const struct tokenizer *tokenizer, const char *text,
                                            size_t length)
{
    const struct added_token *best = NULL;
    if (!tokenizer->added_start[(uint8_t)*text])
        return NULL;
    for (size_t i = 0; i < tokenizer->added_count; i++) {
        const struct added_token *token = &tokenizer->added[i];
        if (token->length <= length && memcmp(token->text, text, token->length) == 0 &&
            (!best || token->length > best->length))
            best = token;
    }
    return best;
}

static int encode_text(const struct tokenizer *tokenizer, const char *text, size_t length,
                       struct token_list *list)
{
    size_t done = 0;
    for (size_t i = 0; i < length;) {
        const struct added_token *added = find_added(tokenizer, text + i, length - i);
        if (!added) {
            i++;
            continue;
        }
        int failed = encode_section(tokenizer, text + done, i - done, list);
        if (failed)
            return failed;
        if (!token_list_add(list, added->token))
            return out_of_memory();
        done = i += added->length;
    }
    return encode_section(tokenizer, text + done, length - done, list);
}

// Returns the byte at which the text stops being UTF-8, or length.
static size_t find_invalid(const char *text, size_t length)
{
    size_t i = 0;
    while (i < length) {
        utf8proc_int32_t code;
        utf8proc_ssize_t size = utf8proc_iterate((const utf8proc_uint8_t *)text + i,
                                                 (utf8proc_ssize_t)(length - i), &code);
        if (size <= 0)
            return i;
        i += (size_t)size;
    }
    return length;
}

int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                     struct token_list *list)
{
    if (tokenizer->bytes) {
        for (size_t i = 0; i < length; i++)
            if (!token_list_add(list, (uint8_t)text[i]))
                return out_of_memory();
        return EXIT_DONE;
    }
    size_t invalid = find_invalid(text, length);
    if (invalid < length)
        return report_failure("the prompt is not UTF-8 from byte %zu on; convert it", invalid);
    for (uint32_t i = 0; i < tokenizer->prefix_count; i++)
        if (!token_list_add(list, tokenizer->prefix[i]))
            return out_of_memory();
    int failed = encode_text(tokenizer, text, length, list);
    for (uint32_t i = 0; i < tokenizer->suffix_count && !failed; i++)
        if (!token_list_add(list, tokenizer->suffix[i]))
            return out_of_memory();
    return failed;
}

struct token_piece tokenizer_piece(const struct tokenizer *tokenizer, uint32_t token)
{
    static const char bytes[256] = {
#define ROW(b)                                                                                     \
    (char)(b), (char)((b) + 1), (char)((b) + 2), (char)((b) + 3), (char)((b) + 4),                 \
        (char)((b) + 5), (char)((b) + 6), (char)((b) + 7)
        ROW(0),   ROW(8),   ROW(16),  ROW(24),  ROW(32),  ROW(40),  ROW(48),  ROW(56),
        ROW(64),  ROW(72),  ROW(80),  ROW(88),  ROW(96),  ROW(104), ROW(112), ROW(120),
        ROW(128), ROW(136), ROW(144), ROW(152), ROW(160), ROW(168), ROW(176), ROW(184),
        ROW(192), ROW(200), ROW(208), ROW(216), ROW(224), ROW(232), ROW(240), ROW(248)};
#undef ROW
    if (tokenizer->bytes)
        return token < 256 ? (struct token_piece){bytes + token, 1, false}
                           : (struct token_piece){"", 0, true};
    struct token_piece piece = tokenizer->pieces[token];
    return piece.text && !piece.special ? piece : (struct token_piece){"", 0, piece.special};
}
