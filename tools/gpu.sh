#!/usr/bin/env bash
# On a machine with a GPU: builds, and runs all that wants one. Results go to $OUT (default: gpu-results),
# raw JSON and logs; the last lines say what passed. Nothing is installed.
#
#     tools/gpu.sh [build] [conform] [sanitize] [bench] [torch]     (default: all but torch)
#
# Wants gcc, meson, ninja, jansson, popt and cmocka (./dev setup installs them) and, for the CUDA backend, nvcc 13; a driver for each backend that is to run.
# A backend without a driver is a line in summary.txt and no failure.
set -uo pipefail
cd "$(dirname "$0")/.."
out="${OUT:-gpu-results}"
mkdir -p "$out"
out="$(cd "$out" && pwd)"
folder="${BUILD:-build-gpu}"
parts="${*:-build conform sanitize bench}"
summary="$out/summary.txt"
: >"$summary"
failed=0

say() { echo "$*" | tee -a "$summary"; }

# run NAME SECONDS COMMAND...: a log of its own, its last line in the summary.
run() {
    local name="$1" seconds="$2" status=0
    shift 2
    timeout "$seconds" "$@" >"$out/$name.log" 2>&1 || status=$?
    say "$name: status $status: $(grep -v '^$' "$out/$name.log" | tail -1 | cut -c1-160)"
    [ "$status" = 0 ] || [ "$status" = 77 ] || failed=1
}

has() { case " $parts " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

build() {
    local architecture options=()
    # Only for the GPUs that are here: a fraction of the time.
    if [ -z "${ALL_ARCHITECTURES:-}" ]; then
        architecture="$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d '. ' | sort -u |
            sed 's/^90$/90a/' | paste -sd,)"
        [ -z "$architecture" ] || options+=("-Dnvcc_architectures=$architecture")
    fi
    [ -f "$folder/build.ninja" ] || run configure 120 meson setup "$folder" -Dtools=enabled -Dtests=enabled -Dgenerate=disabled "${options[@]}"
    run build 1500 ninja -C "$folder"
    nvidia-smi >"$out/nvidia-smi.txt" 2>&1 || true
    "$folder/tools/skim" devices --json >"$out/devices.json" 2>&1
    "$folder/tools/skim" devices | tee -a "$summary"
}

# Backends that have a device here.
backends() {
    python3 - "$out/devices.json" <<'PYTHON'
import json
import sys
with open(sys.argv[1], encoding="utf-8") as file:
    found = json.load(file)
names = [backend["name"] for backend in found["backends"]
         if any(device.get("type") != "software" for device in backend["devices"])]
print(" ".join(name for name in names if name != "cpu"))
PYTHON
}

conform() {
    local backend
    for backend in $(backends); do
        run "conform-$backend" 1500 "$folder/tools/skim" conform --device "$backend" --json
        run "conform-$backend-general" 900 "$folder/tools/skim" conform --device "$backend" --quick --disable wide,tensor
    done
    if [ -x "$folder/tests/cuda/cuda_interop" ]; then
        run cuda-each 600 "$folder/tests/cuda/cuda_each"
        run cuda-lists 600 "$folder/tests/cuda/cuda_lists"
        run cuda-interop 600 "$folder/tests/cuda/cuda_interop"
    fi
}

# Every tool over a part of the cases: two hundred and more.
sanitize() {
    local tool checker
    checker="$(command -v compute-sanitizer)" || { say "sanitize: no compute-sanitizer here"; return; }
    for tool in memcheck racecheck initcheck synccheck; do
        run "sanitize-$tool" 1500 "$checker" --tool "$tool" --error-exitcode 9 \
            "$folder/tests/conformance/conformance" --device cuda --quick --every 2
    done
}

# The shapes that issue 6 names. Each run measures sparse and dense side by side, and its own ceilings.
bench() {
    local backend heads context stored batch name
    for backend in $(backends); do
        for heads in "32 32" "32 8"; do
            for context in 1024 4096 8192 32768 131072; do
                for stored in native i8; do
                    name="bench-$backend-${heads/ /x}-$context-$stored"
                    run "$name" 300 "$folder/tools/skim" bench --device "$backend" --json --type f16 \
                        --q-heads "${heads% *}" --kv-heads "${heads#* }" --head-dim 128 --context "$context" \
                        --budget 2048 --page-size 16 --bounds-type "$stored"
                done
            done
        done
        batch=8
        run "bench-$backend-32x8-32768-batch$batch" 300 "$folder/tools/skim" bench --device "$backend" --json \
            --type f16 --q-heads 32 --kv-heads 8 --head-dim 128 --context 32768 --budget 2048 --batch "$batch"
    done
}

# PyTorch's flash attention on the same card, where it is installed: dense decode and prefill.
torch() {
    run torch 600 python3 tools/torch_attention.py
}

has build && build
[ -x "$folder/tools/skim" ] || { say "nothing was built"; exit 1; }
[ -f "$out/devices.json" ] || "$folder/tools/skim" devices --json >"$out/devices.json"
for part in conform sanitize bench torch; do
    has "$part" && "$part"
done
say "$([ "$failed" = 0 ] && echo passed || echo FAILED)"
exit "$failed"
