#include "bpe.h"

#include <stdlib.h>

struct bpe_merge {
    uint64_t pair;
    uint32_t rank, merged;
    bool used;
};

bool token_list_add(struct token_list *list, uint32_t token)
{
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 256;
        uint32_t *tokens = realloc(list->tokens, room * sizeof *tokens);
        if (!tokens)
            return false;
        list->tokens = tokens;
        list->room = room;
    }
    list->tokens[list->count++] = token;
    return true;
}

void token_list_free(struct token_list *list)
{
    free(list->tokens);
    *list = (struct token_list){0};
}

bool bpe_open(struct bpe *bpe, size_t merges)
{
    size_t size = 16;
    while (size < 2 * merges)
        size *= 2;
    bpe->table = calloc(size, sizeof *bpe->table);
    bpe->mask = size - 1;
    return bpe->table != NULL;
}

void bpe_close(struct bpe *bpe)
{
    free(bpe->table);
    *bpe = (struct bpe){0};
}

// The place of a pair, or the free one where it would be.
static struct bpe_merge *find(const struct bpe *bpe, uint64_t pair)
{
    uint64_t hash = pair * 0x9e3779b97f4a7c15u;
    size_t place = (size_t)(hash >> 20) & bpe->mask;
    while (bpe->table[place].used && bpe->table[place].pair != pair)
        place = (place + 1) & bpe->mask;
    return &bpe->table[place];
}

static uint64_t make_pair(uint32_t left, uint32_t right)
{
    return (uint64_t)left << 32 | right;
}

void bpe_add(struct bpe *bpe, uint32_t left, uint32_t right, uint32_t rank, uint32_t merged)
{
    uint64_t pair = make_pair(left, right);
    struct bpe_merge *merge = find(bpe, pair);
    if (!merge->used)
        *merge = (struct bpe_merge){pair, rank, merged, true};
}

// A pair that could be merged when it was found: the tokens at `left` and at what followed it then.
struct candidate {
    uint32_t rank;
    size_t left;
    uint64_t pair;
};

// A word while it is merged: a list of tokens linked both ways, and the candidates as a heap.
struct word {
    const struct bpe *bpe;
    uint32_t *tokens;
    size_t *next, *previous; // NONE: no neighbour
    struct candidate *heap;
    size_t heap_count;
};

static const size_t NONE = SIZE_MAX;

static bool comes_first(const struct candidate *a, const struct candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static void push(struct word *word, struct candidate candidate)
{
    size_t place = word->heap_count++;
    while (place > 0 && comes_first(&candidate, &word->heap[(place - 1) / 2])) {
        word->heap[place] = word->heap[(place - 1) / 2];
        place = (place - 1) / 2;
    }
    word->heap[place] = candidate;
}

static struct candidate pop(struct word *word)
{
    struct candidate first = word->heap[0];
    struct candidate last = word->heap[--word->heap_count];
    size_t place = 0;
    for (size_t child; (child = 2 * place + 1) < word->heap_count; place = child) {
        if (child + 1 < word->heap_count && comes_first(&word->heap[child + 1], &word->heap[child]))
            child++;
        if (!comes_first(&word->heap[child], &last))
            break;
        word->heap[place] = word->heap[child];
    }
    word->heap[place] = last;
    return first;
}

static void consider(struct word *word, size_t left)
{
    if (left == NONE || word->next[left] == NONE)
        return;
    uint64_t pair = make_pair(word->tokens[left], word->tokens[word->next[left]]);
    const struct bpe_merge *merge = find(word->bpe, pair);
    if (merge->used)
        push(word, (struct candidate){merge->rank, left, pair});
}

// Removes the token at `place` from the list; a candidate that began there is known by next.
static void unlink_token(struct word *word, size_t place)
{
    size_t next = word->next[place];
    size_t previous = word->previous[place];
    word->next[previous] = next;
    if (next != NONE)
        word->previous[next] = previous;
    word->next[place] = NONE;
}

static void merge_all(struct word *word, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        word->next[i] = i + 1 < count ? i + 1 : NONE;
        word->previous[i] = i > 0 ? i - 1 : NONE;
    }
    for (size_t i = 0; i < count; i++)
        consider(word, i);
    while (word->heap_count) {
        struct candidate best = pop(word);
        size_t right = word->next[best.left];
        // One of the two has been merged since.
        if (right == NONE || make_pair(word->tokens[best.left], word->tokens[right]) != best.pair)
            continue;
        word->tokens[best.left] = find(word->bpe, best.pair)->merged;
        unlink_token(word, right);
        consider(word, word->previous[best.left]);
        consider(word, best.left);
    }
}

bool bpe_merge_word(const struct bpe *bpe, uint32_t *tokens, size_t count, struct token_list *list)
{
    if (count == 0)
        return true;
    struct word word = {.bpe = bpe, .tokens = tokens};
    // Each merge removes a token and adds at most two candidates.
    word.heap = malloc(3 * count * sizeof *word.heap);
    word.next = malloc(2 * count * sizeof *word.next);
    bool done = word.heap && word.next;
    if (done) {
        word.previous = word.next + count;
        merge_all(&word, count);
        for (size_t i = 0; i != NONE && done; i = word.next[i])
            done = token_list_add(list, tokens[i]);
    }
    free(word.heap);
    free(word.next);
    return done;
}
