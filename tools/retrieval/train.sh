#!/usr/bin/env bash
# Trains the retrieval model from nothing: ./train.sh FOLDER [SEED]. Checkpoints and logs of the phases go to FOLDER, the
# model to FOLDER/retriever. The environment's python3 has torch, numpy and safetensors. Seed 0 is demo/retriever.
set -euo pipefail
seed="${2:-0}"
here="$(cd "$(dirname "$0")" && pwd)"
mkdir -p "$1"
cd "$1"
export OMP_NUM_THREADS=1

phase() { # NUMBER START SEED OPTIONS...
    local number="$1" start="$2" number_seed=$((100 * seed + $3))
    shift 3
    set -- --seed "$number_seed" "$@"
    [ -z "$start" ] || set -- --start "$start" "$@"
    python3 "$here/train.py" --muon --out "phase$number.pt" --log "phase$number.jsonl" "$@"
}

phase 1 "" 1 --workers 1 --tokens 4096 --steps 8000 --stop 800 --layers 5 --report 40 --check 400 \
    --mix-after 100000 --ramp 0 --lengths-early 256:1 \
    --mix '{"dense": 1, "ask": 0.5, "span": 2048, "dilution": 1, "simple": 0.5, "later": 0.5}'
phase 2 phase1.pt 1 --tokens 8192 --steps 3000 --stop 200 --layers 5 --report 20 --check 200 \
    --mix-after 300 --ramp 300 --lengths-early 256:0.5,512:0.5 --mix '{"simple": 0.2, "later": 2}'
phase 3 phase2.pt 2 --tokens 4096 --piece 2048 --steps 6000 --stop 1000 --layers 5 --report 40 --check 200 \
    --mix-after 400 --hide 0.5 --lengths-early 256:1 --lengths 256:0.5,512:0.4,1024:0.1 \
    --mix '{"dense": 1, "sum": 0.5, "simple": 0.5}'
phase 4 phase3.pt 3 --tokens 4096 --piece 2048 --steps 3600 --stop 800 --layers 5 --report 40 --check 200 \
    --hide 0.5 --lengths 256:0.6,512:0.4 --late-part 0.5 --decay-part 0.5 \
    --mix '{"dense": 0.8, "pair": 0.5, "votes": 0.2, "simple": 0.5}'
python3 "$here/insert_layer.py" phase4.pt phase4-six.pt 2
phase 5 phase4-six.pt 4 --tokens 4096 --piece 2048 --steps 3200 --stop 600 --layers 6 --report 40 --check 200 \
    --hide 0.5 --lengths 256:0.6,512:0.4 --late-part 0.5 --decay-part 0.6 \
    --mix '{"dense": 0.8, "pair": 0.5, "votes": 0.2, "simple": 0.5}'
phase 6 phase5.pt 5 --tokens 4096 --piece 2048 --steps 2400 --stop 1200 --layers 6 --report 40 --check 200 \
    --muon-rate 0.012 --rate 0.0015 --warmup 20 --decay-part 0.85 --hide 0.5 --lengths 256:0.6,512:0.4 \
    --lengths-late 256:0.1,512:0.5,1024:0.4 --late-part 0.45 \
    --mix '{"dense": 0.8, "pair": 0.5, "votes": 0.2, "simple": 0.4}'
phase 7 phase6.pt 6 --tokens 4096 --piece 2048 --steps 1500 --layers 6 --report 20 --check 100 \
    --muon-rate 0.008 --rate 0.001 --warmup 20 --decay-part 0.95 --hide 0.5 --hide-part 0.6 \
    --lengths 256:0.1,512:0.5,1024:0.4 --lengths-late 512:0.4,1024:0.5,2048:0.1 --late-part 0.5 \
    --mix '{"dense": 0.6, "pair": 0.5, "votes": 0.2, "dilution": 128, "simple": 0.1, "pair_later": 3, "closing": 1.5}'
python3 "$here/export.py" phase7.pt retriever
