#!/usr/bin/env bash
# Processor time of an optimizer step of small models, every mixer in turn: a table a size, with the ratio to attention.
#
#   scripts/small_steps.sh [-r ROUNDS] [-s STEPS] [-m MIXERS] [-b BINARY]
#
#   -r  turns of each mixer                                            [5]
#   -s  steps of a turn                                                [10]
#   -m  mixers, separated by commas                                    [every one]
#   -b  the program            [target/debug/mixarena, or that of CARGO_TARGET_DIR]
#
# Two layers in the block of each mixer's paper, one thread. Each table is one `mixarena bench steps`: its turns are interleaved, and
# it prints medians and quartiles. `scripts/small_steps_torch.py` steps the same models in eager PyTorch.
set -eu

rounds=5 steps=10 mixers= binary=${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/debug/mixarena
while getopts r:s:m:b: option; do
    case $option in
    r) rounds=$OPTARG ;; s) steps=$OPTARG ;; m) mixers=$OPTARG ;; b) binary=$OPTARG ;;
    *) while IFS= read -r line && [[ $line == '#'* ]]; do [[ $line == '#!'* ]] || echo "${line#\#}"; done < "$0" >&2; exit 2 ;;
    esac
done
[[ -x $binary ]] || { echo "small_steps: no program at $binary: build it, or name it with -b" >&2; exit 2; }

# Width, length, batch.
for size in "32 32 32" "64 32 64" "64 64 64" "64 256 64"; do
    read -r d_model length batch <<< "$size"
    echo "width $d_model, length $length, batch $batch"
    "$binary" bench steps --d-model "$d_model" --length "$length" --batch "$batch" --rounds "$rounds" --steps "$steps" ${mixers:+--mixers "$mixers"}
    echo
done
