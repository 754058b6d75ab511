#!/usr/bin/env bash
# The kill test: a small sweep whose processes are killed at random until enough were, and started again until all is done.
# Afterwards every run must have finished once, with the bytes of a sweep that was left alone, and nothing may be left behind.
#
#   scripts/chaos.sh [-k KILLS] [-t SECONDS] [-j JOBS] [-s SIGNALS] [-r SEED] [-b BINARY] [-d FOLDER]
#
#   -k  kills to deal out                                                        [40]
#   -t  seconds after which no more are dealt out                                [120]
#   -j  runs at a time                                                           [2]
#   -s  signals, one of which is drawn for each kill                             [KILL,TERM,INT,HUP]
#   -r  seed of the draws                                                        [1]
#   -b  the program                     [target/debug/mixarena, or that of CARGO_TARGET_DIR]
#   -d  where to work; kept when something is wrong                              [a new folder in TMPDIR]
#
# A kill hits, each with its share: a run; the sweep; the sweep and its runs at one moment, as a service manager does; the sweep or
# a run while it scores test or computes baselines. Every start has --retry, since a run killed by SIGKILL is a failed one.
# Exit code: 0 when lost, doubled, differing and left behind are all 0 and every kill after training was dealt out; 1 otherwise;
# 2 for a wrong command line. Needs bash, coreutils and Linux.
set -u -m # with job control background commands have the signals of a terminal's: without, SIGINT would be ignored

kills=40 limit=120 jobs=2 signals=KILL,TERM,INT,HUP seed=1 folder= binary=${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/debug/mixarena
usage() {
    while IFS= read -r line && [[ $line == '#'* ]]; do [[ $line == '#!'* ]] || echo "${line#\#}"; done < "$0" >&2
    exit 2
}
while getopts k:t:j:s:r:b:d: option; do
    case $option in
    k) kills=$OPTARG ;; t) limit=$OPTARG ;; j) jobs=$OPTARG ;; s) signals=$OPTARG ;; r) seed=$OPTARG ;; b) binary=$OPTARG ;; d) folder=$OPTARG ;;
    *) usage ;;
    esac
done
for number in "$kills" "$limit" "$jobs" "$seed"; do [[ $number =~ ^[0-9]+$ ]] || usage; done
IFS=, read -ra drawn <<< "$signals"
for signal in "${drawn[@]}"; do kill -l "$signal" > /dev/null 2>&1 || usage; done
[[ -x $binary ]] || { echo "chaos: no program at $binary: build it, or name it with -b" >&2; exit 2; }
binary=$(realpath "$binary")
if [[ -z $folder ]]; then folder=$(mktemp -d); else mkdir -p "$folder" && folder=$(realpath "$folder"); fi
cd "$folder" || exit 2
rm -rf whole chaos
RANDOM=$seed
export MIXARENA_KEEP=best OMP_WAIT_POLICY=passive
unset MIXARENA_STORE MIXARENA_DATA

# Dropout, pretraining, a run that starts from a run, and baselines that take some seconds after test.
cat > chaos.yaml <<'YAML'
name: chaos
question: Does every run finish once, whatever is killed?
seeds: 2
model: { d_model: 16, n_layers: 1, dropout: 0.1, embedding_dropout: 0.1 }
budget: { steps: 160, batch_size: 8, eval_every: 20, checkpoint_every: 5 }
tasks:
  - task: { mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false, train_examples: 200, validation_examples: 64, test_examples: 128 } }
    name: first
  - task: { mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false, train_examples: 100, validation_examples: 64, test_examples: 128 } }
    name: second
    start: first
  - task: { icll: { train_examples: 200, validation_examples: 16, test_examples: 300 } }
    name: baselines
    budget: { steps: 12, batch_size: 4, eval_every: 6 }
mixers:
  - attention: { n_heads: 2 }
  - hydra: { d_state: 4, headdim: 8 }
  - gru
YAML

sweep=
# The processes of this sweep: it and its children. Runs are told by their `--events`.
children() {
    local all=() file
    for file in /proc/"$sweep"/task/*/children; do
        [[ -r $file ]] && all+=($(cat "$file" 2> /dev/null))
    done
    printf '%s\n' "${all[@]}"
}
# Every process at work in this folder's store, orphans included.
at_work() {
    local path line
    for path in /proc/[0-9]*; do
        [[ $(readlink "$path/cwd" 2> /dev/null) == "$folder" ]] || continue
        line=$(tr '\0' ' ' < "$path/cmdline" 2> /dev/null)
        [[ $line == *' --events '* ]] && echo "${path#/proc/}"
    done
}
# Runs that have trained and have not ended: their checkpoint says so.
after_training() {
    local file
    for file in chaos/work/*/last.safetensors; do
        [[ -e $file ]] || continue
        [[ $(head -c 20000 "$file" 2> /dev/null | tr -d '\0') == *'trained\":true'* ]] && return 0
    done
    return 1
}
start() {
    "$binary" sweep chaos.yaml -j "$jobs" --store chaos --retry < /dev/null >> chaos.log 2>&1 &
    sweep=$!
    starts=$((starts + 1))
}
count() { # of the records in a store those whose outcome is finished, each with its id
    local file text
    for file in "$1"/records/*.json; do
        [[ -e $file ]] || continue
        text=$(< "$file")
        [[ $text =~ \"kind\":\ \"finished\" ]] && basename "${file%-*}"
    done
}

started=$SECONDS
"$binary" sweep chaos.yaml -j "$jobs" --store whole -q < /dev/null > whole.log 2>&1 || { echo "chaos: the undisturbed sweep failed:" >&2; cat whole.log >&2; exit 1; }
runs=$(count whole | sort -u | wc -l)
undisturbed=$((SECONDS - started))

starts=0 dealt=0 after=0 at_parent=0 at_child=0 at_both=0
declare -A by_signal
: > chaos.log
started=$SECONDS
start
# The shell's own remarks on killed jobs go to a file.
{ while :; do
    if ! kill -0 "$sweep" 2> /dev/null; then
        wait "$sweep" 2> /dev/null
        if [[ $(count chaos | sort -u | wc -l) -ge $runs && -z $(at_work) ]] || ((starts > kills + 20)); then break; fi
        start
    fi
    if ((dealt >= kills || SECONDS - started > limit)); then
        # No more of them: what is left is done undisturbed.
        wait "$sweep" 2> /dev/null
        while [[ -n $(at_work) ]]; do sleep 0.1; done
        [[ $(count chaos | sort -u | wc -l) -ge $runs ]] && { start; wait "$sweep"; break; }
        ((starts > kills + 20)) && break
        start
        continue
    fi
    # A moment of its own, or the first at which a run has trained.
    window=$((RANDOM % 3)) pause=$((RANDOM % 150 + 1)) hit_after=0
    for ((i = 0; i < pause; i++)); do
        sleep 0.01
        if ((window == 0)) && after_training; then hit_after=1; break; fi
        kill -0 "$sweep" 2> /dev/null || break
    done
    kill -0 "$sweep" 2> /dev/null || continue
    ((hit_after)) && sleep "0.$((RANDOM % 9))"
    signal=${drawn[RANDOM % ${#drawn[@]}]}
    mapfile -t own < <(children)
    case $((RANDOM % 5)) in
    0 | 1) victims=("$sweep") kind=at_parent ;;
    2) victims=("$sweep" "${own[@]}") kind=at_both ;;
    *) victims=("${own[RANDOM % (${#own[@]} > 0 ? ${#own[@]} : 1)]:-$sweep}") kind=at_child ;;
    esac
    hit=0
    for pid in "${victims[@]}"; do [[ -n $pid ]] && kill -s "$signal" "$pid" 2> /dev/null && hit=1; done
    if ((hit)); then
        dealt=$((dealt + 1)) after=$((after + hit_after))
        declare -n tally=$kind; tally=$((tally + 1)); unset -n tally
        by_signal[$signal]=$((${by_signal[$signal]:-0} + 1))
    fi
done; } 2> shell.log
disturbed=$((SECONDS - started))

ids=$(count whole | sort -u)
lost=0 doubled=0 differing=0
for id in $ids; do
    finished=$(count chaos | { n=0; while IFS= read -r one; do [[ $one == "$id" ]] && n=$((n + 1)); done; echo $n; })
    ((finished == 0)) && lost=$((lost + 1))
    ((finished > 1)) && doubled=$((doubled + 1))
    # The weights byte by byte, and of the records what must not depend on when a run was killed.
    same=1
    cmp -s "whole/work/$id/best.safetensors" "chaos/work/$id/best.safetensors" || same=0
    for store in whole chaos; do
        for file in $store/records/"$id"-*.json; do
            [[ -e $file && $(< "$file") =~ \"kind\":\ \"finished\" ]] || continue
            # Scores and learning curve: from their key to the line that closes them.
            take=0
            while IFS= read -r line; do
                case $line in '  "scores"'* | '  "curve"'* | '  "details"'* | '  "steps":'* | '  "best_step"'* | '  "parameters"'*) take=1 ;; esac
                ((take)) && echo "$line"
                case $line in '  }'* | '  ]'* | '  "steps":'* | '  "best_step"'* | '  "parameters"'*) take=0 ;; esac
            done < "$file" > "$store.numbers"
        done
    done
    cmp -s whole.numbers chaos.numbers || same=0
    ((same)) || differing=$((differing + 1))
done
# What no process needs any more: half-written files, claims, checkpoints of finished runs to go on from.
left=0
while IFS= read -r path; do
    name=${path##*/}
    case $name in .*.tmp | *.tmp[0-9]* | claim | last.safetensors | .*.png) left=$((left + 1)) && echo "left behind: $path" >&2 ;; esac
done < <(du -a chaos | cut -f 2)
processes=$(at_work | wc -l)

row() { printf '%-52s %s\n' "$1" "$2"; }
row "runs" "$runs"
row "kills" "$dealt"
row "  at the sweep, at a run, at both in one moment" "$at_parent, $at_child, $at_both"
row "  after training, while test or baselines are scored" "$after"
for signal in "${!by_signal[@]}"; do row "  SIG$signal" "${by_signal[$signal]}"; done
row "starts of the sweep" "$starts"
row "seconds, disturbed and undisturbed" "$disturbed, $undisturbed"
row "lost runs" "$lost"
row "runs finished twice" "$doubled"
row "runs that differ from the undisturbed sweep" "$differing"
row "files left behind" "$left"
row "processes left behind" "$processes"
if ((lost + doubled + differing + left + processes > 0)); then
    echo "chaos: something is wrong; see $folder (chaos.log, whole, chaos)" >&2
    exit 1
fi
if ((dealt < kills)) || ((kills >= 20 && after == 0)); then
    echo "chaos: only $dealt of $kills kills were dealt out, $after of them after training: give it more time (-t)" >&2
    exit 1
fi
cd / && rm -rf "$folder"
