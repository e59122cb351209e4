"""Makes training windows: pieces of training genes re-joined, half of them mutated, labelled by a
reference network on the very sequence.

What: OUT.npz with `seq` [n, 2500] (four bases a byte, lowest bits first), `where` [m, 3] = window,
  channel, position and `value` = round(255 P) where at least 2, as the data kit's windows have
  them. No errors: they are put in while training, with the labels carried along. Of the kind
  `halves`, a third of the pieces are two halves of sites of two genes, some mutated near the cut.
Why so: a network of the size of ours memorises a few hundred genes. Sites in others' surroundings,
  short pieces round a site among strange sequence, antisense pieces and point mutations are new to
  it every time, and the reference network tells what they are worth. The 3,500 sites of a kind, cut
  in two, make millions of pairs, weak and broken ones among them.
Labels: OpenSpliceAI-MANE with 2,000 nt of context (its weights are GPL-3 and are used for labels
only), no context beyond a window's ends. Held-out genes give nothing.
How: for seed in 1 2 3 4 5 6; do
         python windows.py --data DIR --seed $seed --out OUT/joined_$seed.npz
     done
     for seed in 11 12 13 14 15 16; do
         python windows.py --data DIR --kind halves --seed $seed --out OUT/halves_$seed.npz
     done
  Each prints its CPU minutes.
"""

import argparse
import os
import time

import numpy as np
import torch
import torch.nn.functional as F

from sequences import reverse_complement
from splice_data import load_genes, pack_bases

LENGTH = 10_000
CONTEXT = 2000
KINDS = {"joined": (0.0, 0.25), "halves": (0.35, 0.5)}


class Reference:
    """OpenSpliceAI: base codes [B, T] -> P(acceptor), P(donor), float32 [B, T, 2]. Zeros beyond
    both ends."""

    def __init__(self, path, dtype=torch.bfloat16):
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.dtype, self.units = dtype, []

        def convolution(name):
            weight = state[name + ".weight"].float().unsqueeze(2).to(dtype)
            return weight.contiguous(memory_format=torch.channels_last), state[name + ".bias"].to(
                dtype
            )

        self.first, self.skip, self.last = (
            convolution(n) for n in ("initial_conv", "initial_skip.conv", "final_conv")
        )
        group = 0
        for i in range(
            1 + max(int(key.split(".")[1]) for key in state if key.startswith("residual_units"))
        ):
            unit = f"residual_units.{i}."
            if unit + "conv.weight" in state:
                self.units.append((None, 0, convolution(unit + "conv")))
                group += 1
                continue
            halves = []
            for j in "12":
                norm = lambda key: state[f"{unit}batchnorm{j}.{key}"].float()
                factor = norm("weight") * torch.rsqrt(norm("running_var") + 1e-5)
                term = norm("bias") - norm("running_mean") * factor
                halves.append(
                    (
                        factor.view(1, -1, 1, 1).to(dtype),
                        term.view(1, -1, 1, 1).to(dtype),
                        convolution(f"{unit}conv{j}"),
                    )
                )
            self.units.append((halves, (1, 4, 10, 25)[group], None))

    @torch.no_grad()
    def __call__(self, bases):
        half, length = CONTEXT // 2, bases.shape[1]
        x = torch.zeros(len(bases), length + CONTEXT, 4, dtype=self.dtype)
        x[:, half : half + length] = torch.eye(5, 4, dtype=self.dtype)[
            torch.from_numpy(bases.astype(np.int64))
        ]
        x = F.conv2d(x.unsqueeze(1).permute(0, 3, 1, 2), *self.first)
        sum_ = F.conv2d(x, *self.skip)
        for halves, dilation, skip in self.units:
            if skip:
                sum_ = sum_ + F.conv2d(x, *skip)
                continue
            y = x
            for factor, term, (weight, bias) in halves:
                y = F.leaky_relu_(torch.addcmul(term, y, factor), 0.1)
                y = F.conv2d(
                    y,
                    weight,
                    bias,
                    dilation=(1, dilation),
                    padding=(0, dilation * (weight.shape[3] // 2)),
                )
            x = x + y
        logits = F.conv2d(sum_[..., half : half + length], *self.last)[:, :, 0].float()
        return torch.softmax(logits, 1)[:, 1:].transpose(1, 2).numpy()


def halves(bases, others, cut, rng):
    """The 5' side of a gene's site and the 3' side of another's; each is (sequence, place of the
    site)."""
    left, right = (int(np.exp(rng.uniform(np.log(30), np.log(1500)))) for _ in range(2))
    (a, i), (b, j) = bases, others
    p, q = (
        a[max(0, i + cut - left) : max(0, i + cut)].copy(),
        b[max(0, j + cut) : j + cut + right].copy(),
    )
    if rng.random() < 0.3:
        rate = rng.uniform(0.02, 0.15)
        for part in (p[-30:], q[:30]):
            hit = np.flatnonzero(rng.random(len(part)) < rate)
            part[hit] = (part[hit] + rng.integers(1, 4, len(hit), dtype=np.uint8)) & 3
    return np.concatenate([p, q])


def window(genes, weights, parts, rng):
    """`parts`: of the pieces that are halves of two sites; of those that are these or the near
    surroundings of a site."""
    pieces, missing = [], LENGTH
    longest = 5000 if rng.random() < 0.6 else 1500
    while missing > 0:
        gene = genes[rng.choice(len(genes), p=weights)]
        bases, sites = gene["bases"], gene["sites"]
        draw = rng.random()
        if draw < parts[0]:
            other = genes[rng.choice(len(genes), p=weights)]
            kind = int(rng.integers(2))
            # The edge of the exon: before an acceptor, behind a donor.
            edges = [
                (g["bases"], int(g["by_kind"][kind][rng.integers(len(g["by_kind"][kind]))]) + kind)
                for g in (gene, other)
            ]
            cut = (
                0
                if rng.random() < 0.3
                else int(rng.integers(-25, 4) if kind == 0 else rng.integers(-4, 8))
            )
            piece = halves(*edges, cut, rng)[:missing]
            if len(piece):
                pieces.append(reverse_complement(piece) if rng.random() < 0.07 else piece)
                missing -= len(piece)
            continue
        if draw < parts[1]:  # its context is another's, and it is a decoy there
            at = sites[rng.integers(len(sites))]
            start, end = at - int(rng.integers(20, 200)), at + int(rng.integers(20, 200))
        else:
            length = int(np.exp(rng.uniform(np.log(300), np.log(longest))))
            if (
                rng.random() < 0.5
            ):  # half of the pieces hold a site: introns would take nearly all else
                start = sites[rng.integers(len(sites))] - int(rng.integers(length))
            else:
                start = int(rng.integers(max(1, len(bases) - length)))
            end = start + length
        piece = bases[max(start, 0) : end][:missing]
        pieces.append(reverse_complement(piece) if rng.random() < 0.1 else piece)
        missing -= len(piece)
    x = np.concatenate(pieces) & 3
    if rng.random() < 0.5:
        hit = np.flatnonzero(rng.random(LENGTH) < rng.uniform(0.003, 0.06))
        x[hit] = (x[hit] + rng.integers(1, 4, len(hit), dtype=np.uint8)) & 3
    return reverse_complement(x) if rng.random() < 0.08 else x


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder that holds splice/ and reference/")
    parser.add_argument("--out", required=True)
    parser.add_argument("--kind", choices=KINDS, default="joined")
    parser.add_argument("--windows", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    genes = [g for g in load_genes(os.path.join(args.data, "splice")) if not g["held_out"]]
    for gene in genes:
        gene["sites"] = np.flatnonzero(gene["hard"].max(1))
        gene["by_kind"] = [np.flatnonzero(gene["hard"][:, c]) for c in range(2)]
    genes = [g for g in genes if all(len(at) for at in g["by_kind"])]
    weights = np.array([len(g["sites"]) + len(g["bases"]) / 2000 for g in genes])
    weights /= weights.sum()
    reference = Reference(
        os.path.join(args.data, "reference", f"openspliceai_mane_{CONTEXT}nt_rs10.pt")
    )
    rng = np.random.default_rng(args.seed)
    seq, where, value, start = [], [], [], time.process_time()
    for i in range(0, args.windows, 2):
        x = np.stack([window(genes, weights, KINDS[args.kind], rng) for _ in range(2)])
        y = np.rint(255 * reference(x)).astype(np.uint8)
        for j in range(2):
            at, channel = np.nonzero(y[j] >= 2)
            where.append(np.stack([np.full(len(at), i + j), channel, at], 1).astype(np.int32))
            value.append(y[j][at, channel])
        seq.append(pack_bases(x))
    np.savez(
        args.out, seq=np.concatenate(seq), where=np.concatenate(where), value=np.concatenate(value)
    )
    sites = (np.concatenate(value) >= 128).sum() / args.windows
    print(
        f"{args.out}: {args.windows} windows, {sites:.1f} confident sites each,"
        f" {(time.process_time() - start) / 60:.1f} CPU minutes"
    )


if __name__ == "__main__":
    main()
