// libFuzzer target: tokenizer.json (tools/skim/tokenizer_load.c), and encoding and decoding with it
// (tokenizer.c, bpe.c). Whatever the file holds is refused, or makes a tokenizer whose tokens are
// the model's; unless tokens are ambiguous, they decode to the text that was encoded.
//
// An input is tokenizer.json and, after a zero byte, a text. In the former the first @ stands for
// the members of a vocabulary of all bytes, so that inputs can be short.
#include "tools/skim/tokenizer.h"
#include "tests/fuzz/folder.h"
#include "tools/skim/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 300, JSON_SIZE = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

// "\"a\":97,...", the tokens of the bytes. Returns the size.
static size_t write_bytes(char *text)
{
    size_t size = 0;
    for (int b = 0; b < 256; b++) {
        char character[2];
        size_t length = tokenizer_byte_character((uint8_t)b, character);
        bool escaped = *character == '"' || *character == '\\';
        size += (size_t)sprintf(text + size, "%s\"%s%.*s\":%d", b ? "," : "", escaped ? "\\" : "",
                                (int)length, character, b);
    }
    return size;
}

static void put_json(const uint8_t *data, size_t size)
{
    static char json[JSON_SIZE];
    const uint8_t *at = size ? memchr(data, '@', size) : NULL;
    size_t before = at ? (size_t)(at - data) : size;
    if (size > sizeof json / 2)
        return;
    if (before)
        memcpy(json, data, before);
    size_t made = before;
    if (at) {
        made += write_bytes(json + made);
        memcpy(json + made, at + 1, size - before - 1);
        made += size - before - 1;
    }
    folder_put("tokenizer.json", json, made);
}

// Whether every token stands for one text, so that what is encoded is what comes back.
static bool is_plain(const struct tokenizer *tokenizer)
{
    size_t pieces = 0;
    for (uint32_t i = 0; i < tokenizer->vocab; i++)
        pieces += tokenizer->pieces[i].text != NULL;
    return pieces == json_object_size(tokenizer->vocabulary) && !tokenizer->added_count &&
           !tokenizer->compose;
}

static void check_text(const struct tokenizer *tokenizer, const struct token_list *list,
                       const char *text, size_t length)
{
    bool plain = is_plain(tokenizer);
    size_t frame = tokenizer->prefix_count + tokenizer->suffix_count, done = 0;
    require(list->count >= frame);
    for (size_t i = 0; i < list->count; i++) {
        require(list->tokens[i] < tokenizer->vocab);
        struct token_piece piece = tokenizer_piece(tokenizer, list->tokens[i]);
        if (!plain || i < tokenizer->prefix_count || i >= list->count - tokenizer->suffix_count)
            continue;
        require(piece.length > 0 && piece.length <= length - done);
        require(memcmp(piece.text, text + done, piece.length) == 0);
        done += piece.length;
    }
    require(!plain || done == length);
}

static void encode(const struct tokenizer *tokenizer, const char *text, size_t length)
{
    struct token_list list = {0};
    if (tokenizer_encode(tokenizer, text, length, &list) == EXIT_DONE)
        check_text(tokenizer, &list, text, length);
    token_list_free(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    size_t first = end ? (size_t)(end - data) : size;
    put_json(data, first);
    static const struct model_config config = {.vocab = VOCAB};
    struct tokenizer tokenizer;
    bool there = false;
    char reason[256] = "";
    if (tokenizer_open(&tokenizer, folder_path(), &config, &there, reason) != EXIT_DONE)
        return 0;
    require(there != (*reason != '\0'));
    if (there) {
        for (uint32_t i = 0; i < VOCAB; i++)
            require(!tokenizer_piece(&tokenizer, i).length || tokenizer_piece(&tokenizer, i).text);
        encode(&tokenizer, "It's 1024 caf\xc3\xa9s\n\n  aaaaaaab <s>", 32);
        if (end)
            encode(&tokenizer, (const char *)end + 1, size - first - 1);
    }
    tokenizer_close(&tokenizer);
    return 0;
}
