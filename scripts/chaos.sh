#!/usr/bin/env bash
# The kill test: a small sweep whose processes are killed at random, and which is started again until all is done. Then every run
# must have finished once, with the bytes of a sweep that was left alone, and nothing may be left behind. A round that is done
# before enough kills were dealt out is followed by another, in a new store.
#
#   scripts/chaos.sh [-k KILLS] [-t SECONDS] [-g SECONDS] [-j JOBS] [-s SIGNALS] [-r SEED] [-b BINARY] [-d FOLDER]
#
#   -k  kills to deal out                                                        [40]
#   -t  seconds after which no more are dealt out                                [120]
#   -g  seconds after these in which all must be done; then it stops everything and fails    [600]
#   -j  runs at a time                                                           [2]
#   -s  signals, one of which is drawn for each kill                             [KILL,TERM,INT,HUP]
#   -r  seed of the draws                                                        [1]
#   -b  the program                     [target/debug/mixarena, or that of CARGO_TARGET_DIR]
#   -d  where to make the folder to work in, which is kept when something is wrong           [TMPDIR]
#
# A kill hits, each with its share: a run; the sweep; the sweep and its runs at one moment, as a service manager does; the sweep or
# a run while it scores test or computes baselines. Every start has --retry, since a run killed by SIGKILL is a failed one.
# Exit code: 0 when lost, doubled, differing and left behind are all 0, and of twenty kills or more at least one came after
# training; 1 otherwise; 2 for a wrong command line. Needs bash, coreutils and Linux.
set -u -m # with job control background commands have the signals of a terminal's: without, SIGINT would be ignored

kills=40 limit=120 grace=600 jobs=2 signals=KILL,TERM,INT,HUP seed=1 folder= binary=${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/debug/mixarena
usage() {
    while IFS= read -r line && [[ $line == '#'* ]]; do [[ $line == '#!'* ]] || echo "${line#\#}"; done < "$0" >&2
    exit 2
}
while getopts k:t:g:j:s:r:b:d: option; do
    case $option in
    k) kills=$OPTARG ;; t) limit=$OPTARG ;; g) grace=$OPTARG ;; j) jobs=$OPTARG ;; s) signals=$OPTARG ;; r) seed=$OPTARG ;; b) binary=$OPTARG ;; d) folder=$OPTARG ;;
    *) usage ;;
    esac
done
for number in "$kills" "$limit" "$grace" "$jobs" "$seed"; do [[ $number =~ ^[0-9]+$ ]] || usage; done
IFS=, read -ra drawn <<< "$signals"
for signal in "${drawn[@]}"; do kill -l "$signal" > /dev/null 2>&1 || usage; done
[[ -x $binary ]] || { echo "chaos: no program at $binary: build it, or name it with -b" >&2; exit 2; }
binary=$(realpath "$binary")
[[ -z $folder ]] || mkdir -p "$folder" || exit 2
# A folder of its own, whatever lies beside it: nothing else is ever removed.
folder=$(mktemp -d "$(realpath "${folder:-${TMPDIR:-/tmp}}")/chaos.XXXXXX") && cd "$folder" || exit 2
RANDOM=$seed
export MIXARENA_KEEP=best OMP_WAIT_POLICY=passive
unset MIXARENA_STORE MIXARENA_DATA

# Dropout, pretraining, a run that starts from a run, and baselines that take some seconds after test.
cat > chaos.yaml <<'YAML'
name: chaos
question: Does every run finish once, whatever is killed?
seeds: 1
model: { d_model: 16, n_layers: 1, dropout: 0.1, embedding_dropout: 0.1 }
budget: { steps: 160, batch_size: 8, eval_every: 20, checkpoint_every: 5 }
tasks:
  - task: { icll: { train_examples: 200, validation_examples: 16, test_examples: 150 } }
    name: baselines
    budget: { steps: 12, batch_size: 4, eval_every: 6 }
  - task: { mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false, train_examples: 200, validation_examples: 64, test_examples: 128 } }
    name: first
  - task: { mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false, train_examples: 100, validation_examples: 64, test_examples: 128 } }
    name: second
    start: first
mixers:
  - attention: { n_heads: 2 }
  - linear_attention: { n_heads: 2 }
  - gru
YAML

sweep=
# The processes of this sweep: it and its children, among them the one that forks runs. Runs are told by their name.
children() {
    local all=() file
    for file in /proc/"$sweep"/task/*/children; do
        [[ -r $file ]] && all+=($(cat "$file" 2> /dev/null))
    done
    printf '%s\n' "${all[@]}"
}
# Every process at work in this folder's store, orphans included.
at_work() {
    local path
    for path in /proc/[0-9]*; do
        [[ $(readlink "$path/cwd" 2> /dev/null) == "$folder" ]] || continue
        [[ $(cat "$path/comm" 2> /dev/null) == mixarena-run ]] && echo "${path#/proc/}"
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
# Ends whatever still works for this script, however it ends.
stop_all() {
    local pid
    for pid in $(jobs -pr); do kill -s KILL -- "-$pid" 2> /dev/null; done
    for pid in $(at_work); do kill -s KILL "$pid" 2> /dev/null; done
}
trap stop_all EXIT
trap 'exit 1' HUP INT TERM
in_time() { # fails once the deadline has passed
    ((SECONDS <= deadline)) && return
    echo "chaos: $1 after $((limit + grace)) seconds; see $folder" >&3
    exit 1
}
# Waits for the sweep, and gives its exit code.
wait_for_sweep() {
    while kill -0 "$sweep" 2> /dev/null; do
        in_time "the sweep has not ended"
        sleep 0.1
    done
    wait "$sweep" 2> /dev/null
}
start() {
    "$binary" sweep chaos.yaml -j "$jobs" --store chaos --retry < /dev/null >> chaos.log 2>&1 3>&- &
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

exec 3>&2 # the shell's own remarks go elsewhere
started=$SECONDS deadline=$((SECONDS + limit + grace))
"$binary" sweep chaos.yaml -j "$jobs" --store whole -q < /dev/null > whole.log 2>&1 3>&- &
sweep=$!
wait_for_sweep || { echo "chaos: the undisturbed sweep failed:" >&2; cat whole.log >&2; exit 1; }
runs=$(count whole | sort -u | wc -l)
undisturbed=$((SECONDS - started))

starts=0 dealt=0 after=0 at_parent=0 at_child=0 at_both=0 rounds=0
lost=0 doubled=0 differing=0 left=0 processes=0
declare -A by_signal
: > chaos.log

# One sweep in a new store, killed and started again until it is done.
round() {
    local begun=$starts
    start
    while :; do
        in_time "not every run was done"
        if ! kill -0 "$sweep" 2> /dev/null; then
            wait "$sweep" 2> /dev/null
            ((starts - begun > kills + 20)) && break
            if [[ $(count chaos | sort -u | wc -l) -ge $runs && -z $(at_work) ]]; then
                # Once more, undisturbed: the next sweep clears what killed ones left.
                start
                wait_for_sweep
                break
            fi
            start
        fi
        if ((dealt >= kills || SECONDS - started > limit)); then
            wait_for_sweep
            while [[ -n $(at_work) ]]; do in_time "runs are still at work"; sleep 0.1; done
            continue
        fi
        # At a moment of its own, or at the first at which a run has trained.
        window=$((RANDOM % 2)) pause=$((RANDOM % 40 + 1)) hit_after=0
        ((window == 0)) && pause=250
        for ((i = 0; i < pause; i++)); do
            sleep 0.04
            if ((window == 0)) && after_training; then hit_after=1; break; fi
            kill -0 "$sweep" 2> /dev/null || break
        done
        kill -0 "$sweep" 2> /dev/null || continue
        ((hit_after)) && sleep "0.$((RANDOM % 5))" && { after_training || hit_after=0; }
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
    done
}

# The lines of a run's finished record that must not depend on when it was killed.
numbers() {
    local file line take=0
    for file in "$1"/records/"$2"-*.json; do
        [[ -e $file && $(< "$file") =~ \"kind\":\ \"finished\" ]] || continue
        while IFS= read -r line; do
            case $line in '  "scores"'* | '  "curve"'* | '  "details"'* | '  "steps":'* | '  "best_step"'* | '  "parameters"'*) take=1 ;; esac
            ((take)) && echo "$line"
            case $line in '  }'* | '  ]'* | '  "steps":'* | '  "best_step"'* | '  "parameters"'*) take=0 ;; esac
        done < "$file"
        return
    done
}

# What became of a round.
judge() {
    local id finished path wrong=$((lost + doubled + differing + left + processes))
    for id in $(count whole | sort -u); do
        finished=0
        while IFS= read -r one; do [[ $one == "$id" ]] && finished=$((finished + 1)); done < <(count chaos)
        ((finished == 0)) && lost=$((lost + 1))
        ((finished > 1)) && doubled=$((doubled + 1))
        if ! cmp -s "whole/work/$id/best.safetensors" "chaos/work/$id/best.safetensors" || [[ $(numbers whole "$id") != "$(numbers chaos "$id")" ]]; then
            differing=$((differing + 1))
        fi
    done
    # What no process needs any more: half-written files, claims, checkpoints of finished runs to go on from.
    while IFS= read -r path; do
        case ${path##*/} in .*.tmp | *.tmp[0-9]* | claim | last.safetensors | .*.png) left=$((left + 1)) && echo "left behind: $path" >&2 ;; esac
    done < <(du -a chaos | cut -f 2)
    processes=$((processes + $(at_work | wc -l)))
    rounds=$((rounds + 1))
    ((lost + doubled + differing + left + processes == wrong))
}

started=$SECONDS deadline=$((SECONDS + limit + grace))
# The shell's own remarks on killed jobs go to a file.
while round 2> shell.log; judge && ((dealt < kills && SECONDS - started <= limit)); do
    rm -rf chaos
done
disturbed=$((SECONDS - started))

row() { printf '%-52s %s\n' "$1" "$2"; }
row "runs, rounds" "$runs, $rounds"
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
if ((dealt == 0 || kills >= 20 && after == 0)); then
    echo "chaos: $dealt of $kills kills were dealt out, $after of them after training: give it more time (-t)" >&2
    exit 1
fi
cd / && rm -rf "$folder"
