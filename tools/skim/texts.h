// Texts in which something was hidden, and the questions that ask for it: docs/accuracy.md has the
// definition. Pseudo-English of syllables, so that no model knows any of it.
#ifndef SKIM_TOOL_TEXTS_H
#define SKIM_TOOL_TEXTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum text_task { TEXT_PASSKEY, TEXT_FACTS, TEXT_PAIR, TEXT_VOTES };

enum {
    TEXT_QUESTIONS = 8, // most of one text
    TEXT_SPANS = 16     // most places that hold one question's answer
};

struct text_span {
    size_t first, end; // bytes
};

struct text_question {
    char question[24], answer[8];
    struct text_span spans[TEXT_SPANS];
    uint32_t span_count;
};

struct text {
    char *bytes; // without a question; not terminated
    size_t length;
    struct text_question questions[TEXT_QUESTIONS];
    uint32_t question_count; // how many can be asked
};

// Which text: equal keys make equal texts, on every machine.
struct text_key {
    enum text_task task;
    uint64_t seed;
    uint32_t length;          // as the user asked for it; only sets texts apart
    uint32_t index, contexts; // this text among those of one measurement
};

// How many different questions a text of the task has, and the bytes of one.
uint32_t text_questions(enum text_task task);
size_t text_question_bytes(enum text_task task);
// The fewest bytes a text can have.
size_t text_least(enum text_task task);

// Makes a text of exactly `bytes` bytes, at least text_least. Returns false when out of memory.
bool text_make(struct text *text, const struct text_key *key, size_t bytes);
void text_free(struct text *text);

#endif
