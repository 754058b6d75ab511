#!/usr/bin/env bash
# What a machine with a GPU can say about this build, in one JSON file and under ten minutes. It needs no Rust and no network: the
# program is carried along, libtorch is that of the machine's PyTorch 2.11.
#
#   scripts/gpu_check.sh [-d DEVICE] [-b PROGRAM] [-o FILE] [-g DUMPS] [-l LENGTHS] [-s SECONDS]
#
#   -d  cpu or cuda                                            [cuda]
#   -b  the program; one that ends in .gz is unpacked first    [mixarena.gz]
#   -o  where the JSON goes                                    [gpu_check.json]
#   -g  folder of reference dumps                              [mixers/fixtures/goldens]
#   -l  lengths of the benchmark                               [2048,4096,8192,16384,32768,65536]
#   -s  seconds for all of it; each part gets a share          [540]
#
# Before, where there is Rust:   cargo build --locked && strip -o mixarena target/debug/mixarena && gzip mixarena
#
# Parts: dumps replayed on the device (`verify`); a sweep of every mixer, 20 steps each; `bench` of every mixer by length; the same layers
# in PyTorch, and in fla's kernels where that package is installed. A part that fails or runs out of time says so in the JSON, with what it
# had by then, and the others are still run. Exit code 1 where one failed, 3 where the program does not start.
set -u

device=cuda program=mixarena.gz out=gpu_check.json dumps=$(dirname "$0")/../mixers/fixtures/goldens
lengths=2048,4096,8192,16384,32768,65536 seconds=540
while getopts d:b:o:g:l:s: option; do
    case $option in
    d) device=$OPTARG ;; b) program=$OPTARG ;; o) out=$OPTARG ;; g) dumps=$OPTARG ;; l) lengths=$OPTARG ;; s) seconds=$OPTARG ;;
    *) while IFS= read -r line && [[ $line == '#'* ]]; do [[ $line == '#!'* ]] || echo "${line#\#}"; done < "$0" >&2; exit 2 ;;
    esac
done
[[ $device == cpu || $device == cuda ]] || { echo "gpu_check: -d $device: it is cpu or cuda" >&2; exit 2; }
[[ -f $program ]] || { echo "gpu_check: no program at $program: build it as the head of this script says, or name it with -b" >&2; exit 2; }
[[ -d $dumps ]] || { echo "gpu_check: no folder $dumps" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
scripts=$(cd "$(dirname "$0")" && pwd)
dumps=$(cd "$dumps" && pwd)
if [[ $program == *.gz ]]; then gzip -dc "$program" > "$work/mixarena"; else cp "$program" "$work/mixarena"; fi
chmod +x "$work/mixarena"
# Without PyTorch the loader must find libtorch by itself; the part that needs PyTorch then fails and says so.
if torch=$(python3 -c 'import os, torch; print(os.path.join(os.path.dirname(torch.__file__), "lib"))' 2> "$work/no_torch"); then
    export LD_LIBRARY_PATH=$torch${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
"$work/mixarena" --version > "$work/version" || exit 3
[[ $device == cpu ]] || nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader > "$work/gpu" 2>&1

# part NAME SHARE COMMAND…: runs it in its share of a hundred of all seconds; keeps what it printed, how long it took, how it ended.
part() {
    local name=$1 limit=$((seconds * $2 / 100)) begun code=0
    begun=$(date +%s.%N)
    shift 2
    echo "gpu_check: $name, at most $limit s" >&2
    (cd "$work" && timeout -s INT -k 15 "$limit" "$@") > "$work/$name.out" 2> "$work/$name.err" || code=$?
    echo "$code $begun $(date +%s.%N)" > "$work/$name.end"
}

"$work/mixarena" list mixers --json > "$work/mixers.json"
python3 - "$work/mixers.json" "$work/all.yaml" << 'END'
import json, sys

with open(sys.argv[1]) as listed, open(sys.argv[2], "w") as config:
    listed = json.load(listed)
    mixers = listed["mixers"] if isinstance(listed, dict) else listed
    task = "{ vocab_size: 128, seq_len: 64, kv_pairs: 4, causal: false, train_examples: 2000, validation_examples: 64, test_examples: 64 }"
    config.write(f"name: all\nseeds: 1\ntasks:\n  - mqar: {task}\nmodel: {{ d_model: 64, n_layers: 2 }}\n")
    config.write("budget: { steps: 20, batch_size: 16, eval_every: 20 }\nmixers:\n")
    config.writelines(f"  - {mixer['name']}: {{}}\n" for mixer in mixers)
END

part goldens 15 ./mixarena verify "$dumps" --skip-unsupported --json --device "$device"
part sweep 25 ./mixarena sweep all.yaml --json --device "$device" --jobs 1 --store runs --data data
part bench 35 ./mixarena bench --json --device "$device" --lengths "$lengths" --batch 1 --repeats 3 --time-cap 2
part torch 25 python3 "$scripts/gpu_check_torch.py" --device "$device" --lengths "$lengths" --seconds $((seconds / 5))

python3 - "$work" "$out" "$device" << 'END'
import json, pathlib, sys

work, out, device = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]


def text(name):
    return (work / name).read_text(errors="replace") if (work / name).exists() else ""


def documents(said):
    """JSON documents one after another, as far as they are that."""
    found, reader, said = [], json.JSONDecoder(), said.strip()
    while said:
        try:
            document, end = reader.raw_decode(said)
        except ValueError:
            return found + said.splitlines()[-40:]
        found.append(document)
        said = said[end:].strip()
    return found


found = {"device": device, "version": text("version").strip(), "gpu": text("gpu").strip() or None, "parts": {}}
for name in ("goldens", "sweep", "bench", "torch"):
    code, begun, ended = text(f"{name}.end").split()
    found["parts"][name] = {
        "exit": int(code),
        "seconds": round(float(ended) - float(begun), 1),
        "said": documents(text(f"{name}.out")),
        "errors": text(f"{name}.err").splitlines()[-20:],
    }
kept = ("id", "outcome", "scores", "curve", "steps_per_second", "device", "notes")
records = [json.loads(path.read_text()) for path in sorted((work / "runs/records").glob("*.json"))]
found["records"] = [{"mixer": next(iter(record["spec"]["mixer"])), **{key: record.get(key) for key in kept}} for record in records]
pathlib.Path(out).write_text(json.dumps(found, indent=1) + "\n")
for name, part in found["parts"].items():
    print(f"{name}: ended {'well' if part['exit'] == 0 else 'with ' + str(part['exit'])} after {part['seconds']} s")
print(f"{len(found['records'])} records; everything is in {out}")
sys.exit(any(part["exit"] for part in found["parts"].values()))
END
