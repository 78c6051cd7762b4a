// Mutants: wrong versions of single decisions, built in only for the test of the test suite
// (tests/conformance catches each). In every other build SKIM_MUTANT(x) is the constant 0.
#ifndef SKIM_MUTANT_H
#define SKIM_MUTANT_H

#define SKIM_MUTANT_LIST(X)                                                                        \
    X(attend_drops_last_page, "attend skips the last page of its list")                            \
    X(attend_drops_last_token, "attend sees one token too few of the last page")                   \
    X(attend_reads_past_end, "attend reads one token past the end of the last page")               \
    X(attend_wrong_scale, "attend scales by 1 / key_dim")                                          \
    X(attend_wrong_slot, "attend takes the page index for the slot")                               \
    X(attend_not_causal, "prefill sees one token of the future")                                   \
    X(attend_merge_unweighted, "merging split parts ignores their lse")                            \
    X(attend_wrong_kv_head, "attend reads kv head 0 for every group")                              \
    X(estimate_drops_channel, "estimate leaves out the last channels")                             \
    X(estimate_swaps_bounds, "estimate takes the minimum for the maximum")                         \
    X(estimate_no_spread, "estimate ignores spread")                                               \
    X(select_ties_high, "select gives ties to the higher page")                                    \
    X(select_forgets_sinks, "select does not force the first pages")                               \
    X(select_forgets_recent, "select forces only the last page")                                   \
    X(select_softmax_all_pages, "the softmax forms normalise over forced pages too")               \
    X(select_combine_first_head, "group selection looks at the first head only")                   \
    X(append_stale_bounds, "append does not update bounds of a page begun earlier")                \
    X(append_bounds_past_end, "bounds count a slot past the end")                                  \
    X(append_sample_deviation, "meanstd divides by n - 1")                                         \
    X(append_wrong_page, "append stores a token that starts a page in the page before")            \
    X(append_keeps_tail, "append leaves what another sequence had past the end of a new page")     \
    X(append_i8_inward, "minmax in int8 rounds inward")                                            \
    X(append_i8_stale_scale, "append leaves the scales of a page begun earlier")                   \
    X(append_freezes_again, "append moves the centre that bounds were made with")                  \
    X(estimate_i8_no_centre, "estimate forgets the centre of int8 bounds")                         \
    X(core_budget_rounds_up, "K rounds up instead of down")                                        \
    X(core_fork_without_copy, "a fork writes a page of its own without the shared one's tokens")   \
    X(core_length_off_by_one, "rows are one token short at a page boundary")

// Mutants of what sequences do to the page pool, which the random operations catch (tests/random).
#define SKIM_POOL_MUTANT_LIST(X)                                                                   \
    X(pool_fork_takes_no_reference, "a fork does not count as a holder of its slots")              \
    X(pool_truncate_keeps_slots, "truncate gives back no slot")                                    \
    X(pool_truncate_keeps_table, "slots behind a truncated end are not written to the table")      \
    X(pool_cancel_keeps_slots, "cancel does not give back the slots that begin took")              \
    X(pool_cancel_keeps_length, "cancel leaves the step's tokens in its sequences")                \
    X(pool_cancel_keeps_tail, "the append after a cancel clears nothing")                          \
    X(pool_copy_keeps_table, "the slot of a copied page is not written to the table")              \
    X(pool_copy_drops_old_slot, "begin gives back a copied slot before the step ends")             \
    X(pool_stays_with_others, "who shares a page writes in it though not all others copy it")      \
    X(pool_shorter_stays, "of those who share a page any one writes in it, not the longest")

typedef enum skim_mutant_id {
    SKIM_MUTANT_none = 0,
#define SKIM_MUTANT_ENUM(name, text) SKIM_MUTANT_##name,
    SKIM_MUTANT_LIST(SKIM_MUTANT_ENUM) SKIM_POOL_MUTANT_LIST(SKIM_MUTANT_ENUM)
#undef SKIM_MUTANT_ENUM
        SKIM_MUTANT_count
} skim_mutant_id;

#ifdef SKIM_MUTANTS
extern skim_mutant_id skim_mutant; // set by the test program before it opens a device
#define SKIM_MUTANT(name) (skim_mutant == SKIM_MUTANT_##name)
#else
#define SKIM_MUTANT(name) 0
#endif

#endif
