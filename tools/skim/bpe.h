// Byte pair encoding: the merges of a vocabulary, applied to one word.
#ifndef SKIM_TOOL_BPE_H
#define SKIM_TOOL_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct token_list {
    uint32_t *tokens;
    size_t count, room;
};

// Appends a token. Returns false when out of memory.
bool token_list_add(struct token_list *list, uint32_t token);
void token_list_free(struct token_list *list);

// Pairs of tokens that may be merged, by rank.
struct bpe {
    struct bpe_merge *table; // open addressing
    size_t mask;             // size of the table - 1
};

bool bpe_open(struct bpe *bpe, size_t merges);
// Adds a merge; of the same pair, the first counts.
void bpe_add(struct bpe *bpe, uint32_t left, uint32_t right, uint32_t rank, uint32_t merged);
void bpe_close(struct bpe *bpe);

// Merges the pair of lowest rank, the leftmost of equals, until none is left, and appends the
// result. count tokens; they are overwritten. Returns false when out of memory. The time is
// count * log(count), so that a long word is no attack.
bool bpe_merge_word(const struct bpe *bpe, uint32_t *tokens, size_t count, struct token_list *list);

#endif
