"""Processor time of an optimizer step of small models in eager PyTorch, beside `scripts/small_steps.sh`. Needs pip's torch and nothing else.

    python3 scripts/small_steps_torch.py [--rounds 5] [--steps 10] [--mixers attention,lstm]

The models are those of `mixarena bench steps`, written as one writes them in PyTorch: two layers in the block of each mixer's
paper, multi-query associative recall over 256 tokens, cross entropy of the scored positions, the norm of the gradient clipped at 1,
`torch.optim.AdamW`, one thread. Mixers take turns; medians and quartiles are of the turns.
"""

import argparse
import math
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

VOCABULARY = 256
SIZES = [(32, 32, 32), (64, 32, 64), (64, 64, 64), (64, 256, 64)]


class Attention(nn.Module):
    """Softmax attention, `[batch, length, d_model]` to the same; 8 heads."""

    def __init__(self, d_model, heads=8):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x):
        q, k, v = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2, 3))


class S4D(nn.Module):
    """A diagonal state space as a convolution by FFT, in both directions; the initial values of S4D-Lin."""

    def __init__(self, d_model, d_state=64):
        super().__init__()
        half = d_state // 2
        self.log_dt = nn.Parameter(torch.rand(2 * d_model) * (math.log(0.1) - math.log(0.001)) + math.log(0.001))
        self.c = nn.Parameter(torch.randn(2 * d_model, half, 2) * 0.5**0.5)
        self.log_real = nn.Parameter(torch.log(0.5 * torch.ones(2 * d_model, half)))
        self.imaginary = nn.Parameter(math.pi * torch.arange(half).repeat(2 * d_model, 1).float())
        self.skip = nn.Parameter(torch.randn(d_model))
        self.out = nn.Linear(d_model, 2 * d_model)

    def kernel(self, length):
        a = -torch.exp(self.log_real) + 1j * self.imaginary
        dt_a = a * torch.exp(self.log_dt).unsqueeze(-1)
        c = torch.view_as_complex(self.c) * (torch.exp(dt_a) - 1) / a
        powers = torch.exp(dt_a.unsqueeze(-1) * torch.arange(length, device=a.device))
        return 2 * torch.einsum("hn,hnl->hl", c, powers).real

    def forward(self, x):
        length = x.shape[1]
        u = x.transpose(1, 2)
        there, back = self.kernel(length).chunk(2)
        both = F.pad(there, (0, length)) + F.pad(back.flip(-1), (length, 0))
        y = torch.fft.irfft(torch.fft.rfft(u, 2 * length) * torch.fft.rfft(both, 2 * length), 2 * length)[..., :length]
        return F.glu(self.out(F.gelu(y + u * self.skip.unsqueeze(-1)).transpose(1, 2)), -1)


class Recurrent(nn.Module):
    """PyTorch's own LSTM or GRU, and a projection."""

    def __init__(self, kind, d_model):
        super().__init__()
        self.cell = kind(d_model, d_model, batch_first=True)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x):
        return self.out(self.cell(x)[0])


class Mamba2(nn.Module):
    """The state space dual in chunks, as in listing 1 of the paper (Dao and Gu 2024, arXiv:2405.21060)."""

    def __init__(self, d_model, d_state=64, head=32, chunk=64, width=4):
        super().__init__()
        self.d_inner, self.d_state, self.head, self.chunk = 2 * d_model, d_state, head, chunk
        self.heads = self.d_inner // head
        channels = self.d_inner + 2 * d_state
        self.into = nn.Linear(d_model, self.d_inner + channels + self.heads, bias=False)
        self.conv = nn.Conv1d(channels, channels, width, groups=channels, padding=width - 1)
        self.dt_bias = nn.Parameter(torch.zeros(self.heads))
        self.a_log = nn.Parameter(torch.log(torch.linspace(1, 16, self.heads)))
        self.skip = nn.Parameter(torch.ones(self.heads))
        self.norm = nn.RMSNorm(self.d_inner)
        self.out = nn.Linear(self.d_inner, d_model, bias=False)

    @staticmethod
    def sums(x):
        """`[.., l]` to `[.., l, l]`: sums over j < k <= i, and -inf above the diagonal."""
        total = x.cumsum(-1)
        length = x.shape[-1]
        below = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        return (total.unsqueeze(-1) - total.unsqueeze(-2)).masked_fill(~below, -torch.inf)

    def forward(self, u):
        batch, length, _ = u.shape
        z, xbc, dt = self.into(u).split([self.d_inner, self.d_inner + 2 * self.d_state, self.heads], -1)
        xbc = F.silu(self.conv(xbc.transpose(1, 2))[..., :length].transpose(1, 2))
        x, b, c = xbc.split([self.d_inner, self.d_state, self.d_state], -1)
        dt = F.softplus(dt + self.dt_bias)
        chunk = min(self.chunk, length)
        cut = lambda t: t.unflatten(1, (-1, chunk))  # noqa: E731
        x = x.unflatten(2, (self.heads, self.head))
        a = cut(-torch.exp(self.a_log) * dt).permute(0, 3, 1, 2)
        xs, bs, cs = cut(x * dt.unsqueeze(-1)), cut(b), cut(c)
        total = a.cumsum(-1)
        inside = torch.einsum("bcln,bcsn,bhcls,bcshp->bclhp", cs, bs, torch.exp(self.sums(a)), xs)
        states = torch.einsum("bcln,bhcl,bclhp->bchpn", bs, torch.exp(total[..., -1:] - total), xs)
        states = torch.cat([torch.zeros_like(states[:, :1]), states], 1)
        carry = torch.exp(self.sums(F.pad(total[..., -1], (1, 0))))
        states = torch.einsum("bhzc,bchpn->bzhpn", carry, states)[:, :-1]
        across = torch.einsum("bcln,bchpn,bhcl->bclhp", cs, states, torch.exp(total))
        y = (inside + across).flatten(1, 2) + x * self.skip.unsqueeze(-1)
        return self.out(self.norm(y.flatten(2) * F.silu(z)))


class DeltaNet(nn.Module):
    """The delta rule in chunks by the WY form (Yang et al. 2024, arXiv:2406.06484, section 3.2)."""

    def __init__(self, d_model, heads=2, chunk=32, width=4):
        super().__init__()
        self.heads, self.chunk = heads, chunk
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.conv = nn.Conv1d(3 * d_model, 3 * d_model, width, groups=3 * d_model, padding=width - 1, bias=False)
        self.beta = nn.Linear(d_model, heads, bias=False)
        self.norm = nn.RMSNorm(d_model // heads)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x):
        length, chunk = x.shape[1], min(self.chunk, x.shape[1])
        qkv = F.silu(self.conv(self.qkv(x).transpose(1, 2))[..., :length].transpose(1, 2))
        cut = lambda t: t.unflatten(2, (self.heads, -1)).transpose(1, 2).unflatten(2, (-1, chunk))  # noqa: E731
        q, k, v = (cut(t) for t in qkv.chunk(3, -1))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        beta = cut(torch.sigmoid(self.beta(x)))
        below = torch.ones(chunk, chunk, dtype=torch.bool, device=x.device).tril(-1)
        system = torch.eye(chunk, device=x.device) + ((beta * k) @ k.transpose(-1, -2)) * below
        w, u = torch.linalg.solve_triangular(system, torch.cat([beta * k, beta * v], -1), upper=False, unitriangular=True).chunk(2, -1)
        scores = (q @ k.transpose(-1, -2)).tril()
        state = k.new_zeros(*k.shape[:2], k.shape[-1], v.shape[-1])
        outs = []
        for i in range(length // chunk):
            new = u[:, :, i] - w[:, :, i] @ state
            outs.append(q[:, :, i] @ state + scores[:, :, i] @ new)
            state = state + k[:, :, i].transpose(-1, -2) @ new
        y = self.norm(torch.cat(outs, 2)).transpose(1, 2).flatten(2)
        return self.out(y)


class Block(nn.Module):
    """Norm, mixer, residual; then norm, feed-forward, residual, where the mixer's paper has one."""

    def __init__(self, mixer, d_model, feed_forward):
        super().__init__()
        self.mixer, self.norm = mixer, nn.LayerNorm(d_model)
        self.ffn = feed_forward and nn.Sequential(
            nn.LayerNorm(d_model), nn.Linear(d_model, 4 * d_model), nn.GELU(), nn.Linear(4 * d_model, d_model)
        )

    def forward(self, x):
        x = x + self.mixer(self.norm(x))
        return x + self.ffn(x) if self.ffn else x


class Model(nn.Module):
    """Tokens to the classes of the scored positions."""

    def __init__(self, make, d_model, length, feed_forward, layers=2):
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, d_model)
        self.positions = nn.Embedding(length, d_model)
        self.blocks = nn.Sequential(*(Block(make(d_model), d_model, feed_forward) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(d_model), nn.Linear(d_model, VOCABULARY)

    def forward(self, tokens, scored):
        x = self.blocks(self.tokens(tokens) + self.positions.weight)
        return self.head(self.norm(x.flatten(0, 1)[scored]))


# By the names of the registry: the mixer, and whether its block has a feed-forward.
MIXERS = {
    "attention": (Attention, True),
    "s4d": (S4D, False),
    "lstm": (lambda d: Recurrent(nn.LSTM, d), True),
    "gru": (lambda d: Recurrent(nn.GRU, d), True),
    "mamba2": (Mamba2, False),
    "deltanet": (DeltaNet, True),
}


def steps(model, optimizer, d_model, length, batch, count):
    """Processor seconds of a step."""
    begun = time.process_time()
    for _ in range(count):
        tokens = torch.randint(VOCABULARY, (batch, length))
        scored = torch.arange(batch * length).view(batch, length)[:, length // 2 :: 2].flatten()
        loss = F.cross_entropy(model(tokens, scored), tokens.flatten()[scored])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
    return (time.process_time() - begun) / count


def quartiles(values):
    values = sorted(values)
    return [values[round(q * (len(values) - 1))] for q in (0.25, 0.5, 0.75)]


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--steps", type=int, default=10)
    options.add_argument("--mixers", default=",".join(MIXERS))
    options = options.parse_args()
    torch.set_num_threads(1)
    for d_model, length, batch in SIZES:
        print(f"width {d_model}, length {length}, batch {batch} (PyTorch {torch.__version__})")
        standing = {}
        for name in options.mixers.split(","):
            torch.manual_seed(0)
            model = Model(MIXERS[name][0], d_model, length, MIXERS[name][1])
            standing[name] = model, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
        taken = {name: [] for name in standing}
        for turn in range(options.rounds + 1):
            for name, (model, optimizer) in standing.items():
                seconds = steps(model, optimizer, d_model, length, batch, options.steps if turn else 5)
                taken[name] += [seconds] * (turn > 0)
        for name, (model, _) in standing.items():
            low, median, high = (1e3 * q for q in quartiles(taken[name]))
            parameters = sum(p.numel() for p in model.parameters())
            ratio = ""
            if "attention" in taken:
                ratio = f"{quartiles([own / other for own, other in zip(taken[name], taken['attention'])])[1]:.2f}"
            print(f"{name:<18} {parameters:>10}  {median:.2f} [{low:.2f}, {high:.2f}] ms  {ratio}")
        print()


if __name__ == "__main__":
    main()
