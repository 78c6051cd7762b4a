// Text to tokens and back: the byte-level BPE of tokenizer.json, or plain bytes.
#ifndef SKIM_TOOL_TOKENIZER_H
#define SKIM_TOOL_TOKENIZER_H

#include "bpe.h"
#include "model.h"

enum { TOKENIZER_SPLITS = 8, TOKENIZER_FRAME = 8 };

struct token_piece {
    const char *text; // the bytes that the token stands for
    size_t length;
    bool special; // not part of the text
};

struct added_token {
    const char *text;
    size_t length;
    uint32_t token;
};

struct split {
    void *pattern, *match; // of PCRE2
};

struct tokenizer {
    bool bytes; // token = byte; those from 256 on are special
    uint32_t vocab;
    json_t *json; // owns the texts
    const json_t *vocabulary;
    struct token_piece *pieces; // [vocab]; text NULL: there is no such token
    char *decoded;              // of the pieces
    uint32_t byte_tokens[256];
    struct bpe bpe;
    bool ignore_merges; // a word that is a token stays one
    bool compose;       // Unicode normalisation form C first
    struct split splits[TOKENIZER_SPLITS];
    uint32_t split_count;
    struct added_token *added;
    size_t added_count;
    bool added_start[256];                                     // first bytes of added tokens
    uint32_t prefix[TOKENIZER_FRAME], suffix[TOKENIZER_FRAME]; // around every prompt
    uint32_t prefix_count, suffix_count;
};

// Opens the tokenizer of a folder. *there tells whether it has one that can be used: not having one
// is no failure, and `reason` then says why. Returns an exit status; what was wrong was reported.
int tokenizer_open(struct tokenizer *tokenizer, const char *folder,
                   const struct model_config *config, bool *there, char reason[256]);
void tokenizer_close(struct tokenizer *tokenizer);

// Appends the tokens of a prompt. Returns an exit status.
int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                     struct token_list *list);

// The bytes that a token adds to the text; none for special ones.
struct token_piece tokenizer_piece(const struct tokenizer *tokenizer, uint32_t token);

// For the loader: the character that stands for a byte in a byte-level vocabulary, in UTF-8.
// Returns its length, 1 or 2.
size_t tokenizer_byte_character(uint8_t byte, char text[2]);
// Reads tokenizer.json. Returns an exit status; *there false and a reason: not byte-level BPE.
int tokenizer_load(struct tokenizer *tokenizer, bool *there, char reason[256]);

#endif
