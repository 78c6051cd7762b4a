// Policies, checked and resolved into rows.
#ifndef SKIM_POLICY_PRIVATE_H
#define SKIM_POLICY_PRIVATE_H

#include "runtime/error.h"
#include "skim/policy.h"

#include <stdbool.h>

// Copies a policy that is in range; error may be NULL.
skim_status skim_policy_check(const skim_policy *policy, skim_policy *taken, skim_error *error);

bool skim_policy_equal(const skim_policy *a, const skim_policy *b);

// skim_policy_resolve without its checks; dense_layer is its "layer < dense_layers".
void skim_policy_row(const skim_policy *policy, bool dense_layer, uint32_t page_size,
                     skim_row *row);

#endif
