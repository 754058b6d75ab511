"""Seconds of the layers of `mixarena bench` in PyTorch, and in fla's kernels where that package is installed. `scripts/gpu_check.sh` runs it.

    python3 scripts/gpu_check_torch.py --device cuda --lengths 2048,4096 [--d-model 256] [--batch 1] [--repeats 5] [--seconds 120]

Prints one JSON document. A case is one layer in a block (norm, mixer, residual, feed-forward where its paper has one), forward without a graph
and forward with backward. A case that fails says why; the next ones are still taken. Cases that would begin after `--seconds` say so.
"""

import argparse
import json
import time

import torch
import torch.nn as nn

from small_steps_torch import MIXERS, Block

# fla's layers, by our names: its name, and its settings.
FLA = {
    "gla": ("GatedLinearAttention", {"num_heads": 4}),
    "retnet": ("MultiScaleRetention", {"num_heads": 4}),
    "hgrn2": ("HGRN2Attention", {"num_heads": 4}),
    "rwkv6": ("RWKV6Attention", {"num_heads": 4}),
    "deltanet": ("DeltaNet", {"num_heads": 4}),
    "linear_attention": ("LinearAttention", {"num_heads": 4}),
}


class OfFla(nn.Module):
    """A layer of fla, whose output is the first of several."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        y = self.layer(x)
        return y[0] if isinstance(y, tuple) else y


def layers(d_model):
    """Name, whose it is, and how its block is made."""
    for name, (make, feed_forward) in MIXERS.items():
        yield name, "pytorch", lambda make=make, ffn=feed_forward: Block(make(d_model), d_model, ffn)
    try:
        import fla.layers
    except ImportError:
        return
    for name, (layer, settings) in FLA.items():
        made = getattr(fla.layers, layer, None)
        if made is not None:
            yield name, "fla", lambda made=made, settings=settings: Block(OfFla(made(hidden_size=d_model, **settings)), d_model, True)


def measure(make, batch, length, d_model, device, repeats):
    """Median seconds of both passes, and the device's peak of memory."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    torch.manual_seed(0)
    block = make().to(device)
    x = torch.randn(batch, length, d_model, device=device, requires_grad=True)
    cotangent = torch.randn_like(x)
    leaves = [x, *block.parameters()]

    def forward():
        with torch.no_grad():
            block(x)

    def training():
        torch.autograd.grad((block(x) * cotangent).sum(), leaves, allow_unused=True)

    found = {}
    for name, run in (("forward", forward), ("training", training)):
        taken = []
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        for turn in range(repeats + 1):
            begun = time.perf_counter()
            run()
            wait()
            taken += [time.perf_counter() - begun] * (turn > 0)
        found[name] = {"seconds": sorted(taken)[len(taken) // 2]}
        if device == "cuda":
            found[name]["peak_bytes"] = torch.cuda.max_memory_allocated()
    return found


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options.add_argument("--lengths", default="2048")
    options.add_argument("--d-model", type=int, default=256)
    options.add_argument("--batch", type=int, default=1)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--seconds", type=float, default=120.0)
    options = options.parse_args()
    begun, cases, failed = time.perf_counter(), [], set()
    for length in map(int, options.lengths.split(",")):
        for name, whose, make in layers(options.d_model):
            case = {"mixer": name, "by": whose, "length": length}
            if (name, whose) in failed:
                case["stopped"] = "it failed at a shorter length"
            elif time.perf_counter() - begun > options.seconds:
                case["stopped"] = f"{options.seconds:g} s were over"
            else:
                try:
                    case |= measure(make, options.batch, length, options.d_model, options.device, options.repeats)
                except Exception as error:  # whatever a layer dies of is what its case says
                    failed.add((name, whose))
                    case["stopped"] = (str(error).splitlines() or [type(error).__name__])[0][:300]
            cases.append(case)
    sizes = {"device": options.device, "d_model": options.d_model, "batch": options.batch}
    print(json.dumps({"torch": torch.__version__, **sizes, "cases": cases}))


if __name__ == "__main__":
    main()
