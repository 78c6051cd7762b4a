// Texts as a model's tokens.
#include "evaluate.h"
#include "report.h"

#include <stdlib.h>
#include <string.h>

void context_free(struct context *context)
{
    text_free(&context->text);
    token_list_free(&context->tokens);
    for (uint32_t i = 0; i < TEXT_QUESTIONS; i++)
        token_list_free(&context->questions[i]);
    free(context->hidden);
    *context = (struct context){0};
}

// Tokens of the text and a question (NULL: none).
static int encode(const struct evaluate *evaluate, const struct text *text, const char *question,
                  struct token_list *list)
{
    size_t more = question ? strlen(question) : 0;
    char *bytes = malloc(text->length + more + 1);
    if (!bytes)
        return report_failure("out of memory for a text; use shorter ones");
    memcpy(bytes, text->bytes, text->length);
    memcpy(bytes + text->length, question ? question : "", more + 1);
    int failed = tokenizer_encode(&evaluate->tokenizer, bytes, text->length + more, list);
    free(bytes);
    return failed;
}

static size_t count_common(const struct token_list *a, const struct token_list *b)
{
    size_t least = a->count < b->count ? a->count : b->count;
    size_t common = 0;
    while (common < least && a->tokens[common] == b->tokens[common])
        common++;
    return common;
}

// Keeps the tokens from `first` on.
static void drop_tokens(struct token_list *list, size_t first)
{
    memmove(list->tokens, list->tokens + first, (list->count - first) * sizeof *list->tokens);
    list->count -= first;
}

// The tokens that all questions begin with are the text's; a vocabulary that merges across the end
// of the text leaves the last ones to the questions. *most is the length of the longest.
static int encode_all(struct context *context, const struct evaluate *evaluate, size_t *most)
{
    int failed = encode(evaluate, &context->text, NULL, &context->tokens);
    uint32_t count = context->text.question_count;
    *most = 0;
    for (uint32_t i = 0; i < count && !failed; i++) {
        failed = encode(evaluate, &context->text, context->text.questions[i].question,
                        &context->questions[i]);
        size_t common = count_common(&context->tokens, &context->questions[i]);
        context->tokens.count = common;
        *most = context->questions[i].count > *most ? context->questions[i].count : *most;
    }
    for (uint32_t i = 0; i < count && !failed; i++)
        drop_tokens(&context->questions[i], context->tokens.count);
    return failed;
}

static int make(struct context *context, const struct evaluate *evaluate,
                const struct text_key *key, size_t bytes, size_t *most)
{
    context_free(context);
    if (!text_make(&context->text, key, bytes))
        return report_failure("out of memory for a text; use shorter ones");
    return encode_all(context, evaluate, most);
}

static int make_room(struct context *context, const struct evaluate *evaluate)
{
    size_t pages = context->tokens.count / evaluate->settings->page_size + 1;
    context->hidden = calloc(pages, sizeof *context->hidden);
    return context->hidden ? EXIT_DONE
                           : report_failure("out of memory for a text; use shorter ones");
}

// Finds the most bytes whose tokens fit, by bisection: more bytes are hardly ever fewer tokens.
static int bisect(struct context *context, const struct evaluate *evaluate,
                  const struct text_key *key, uint32_t length, size_t *tokens)
{
    size_t low = text_least(key->task);
    size_t high = 8 * (size_t)length + low;
    while (low + 1 < high) {
        size_t middle = low + (high - low) / 2;
        int failed = make(context, evaluate, key, middle, tokens);
        if (failed)
            return failed;
        if (*tokens <= length)
            low = middle;
        else
            high = middle;
    }
    return make(context, evaluate, key, low, tokens);
}

int context_make(struct context *context, const struct evaluate *evaluate,
                 const struct text_key *key, uint32_t length)
{
    size_t tokens = 0;
    // Where a byte is a token, this is it.
    int failed = make(context, evaluate, key, length - text_question_bytes(key->task), &tokens);
    if (!failed && tokens != length)
        failed = bisect(context, evaluate, key, length, &tokens);
    if (!failed && tokens > length)
        failed = report_usage("a text of %u tokens has no room for what is to be found; ask for a "
                              "longer one with --length",
                              length);
    return failed ? failed : make_room(context, evaluate);
}

void context_hide(struct context *context, const struct evaluate *evaluate, uint32_t n)
{
    const struct text_question *question = &context->text.questions[n];
    uint32_t page_size = evaluate->settings->page_size;
    size_t pages = context->tokens.count / page_size + 1;
    size_t byte = 0; // of the text; special tokens have none
    memset(context->hidden, 0, pages * sizeof *context->hidden);
    for (size_t t = 0; t < context->tokens.count; t++) {
        size_t end = byte + tokenizer_piece(&evaluate->tokenizer, context->tokens.tokens[t]).length;
        for (uint32_t i = 0; i < question->span_count; i++)
            if (byte < question->spans[i].end && end > question->spans[i].first)
                context->hidden[t / page_size] = true;
        byte = end;
    }
}
