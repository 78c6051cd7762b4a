#!/usr/bin/env bash
# validated.sh PROGRAM ARGUMENTS...: runs a program under Vulkan's validation layer, with checks of
# synchronisation, and fails if the layer says anything, or was not there to say it.
set -uo pipefail
export VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation
export VK_LAYER_ENABLES=VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT
export VK_LOADER_DEBUG=layer
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
"$@" >"$log" 2>&1
status=$?
grep -vE '^(LAYER|INFO|DEBUG| |$)' "$log"
if ! grep -q 'Insert.* layer "VK_LAYER_KHRONOS_validation"' "$log"; then
    echo "the validation layer is not installed"
    [[ "${SKIM_REQUIRE:-}" == *vulkan* ]] && exit 1
    exit 77
fi
if grep -qE 'VUID-|SYNC-HAZARD|Validation (Error|Warning|Performance)|UNASSIGNED-' "$log"; then
    echo "the validation layer found faults"
    exit 1
fi
exit "$status"
