"""What it costs to keep activations in seven bits (0..127) instead of eight (0..255).

    python models/train/lost_bit.py --data DIR

Runs the float splice network with rounded weights and with activations rounded to either number of levels, each
tensor's range being the largest value of 9,999 in 10,000, over whole held-out genes, and prints the same figures for both and for float.
"""

import argparse
import os

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from evaluate import average_precision, held_out_genes, splice_truth, top_k
from packed import ONE_HOT, encode


def network(path):
    """Weight, bias, dilation of each convolution in order; hidden ones add their input from the second on."""
    graph = onnx.load(path).graph
    tensors = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv":
            dilation = next(a.ints[0] for a in node.attribute if a.name == "dilations")
            weight, bias = (torch.from_numpy(tensors[name].copy()) for name in node.input[1:])
            yield weight, bias, dilation


def run(layers, x, levels, limits):
    """Logits; `levels` None for float. Limits are taken from the data where there are none."""
    for i, (weight, bias, dilation) in enumerate(layers):
        if levels:
            scale = weight.abs().amax((1, 2), keepdim=True) / 127
            weight = (weight / scale).round() * scale
        y = torch.nn.functional.conv1d(x, weight, bias, padding=weight.shape[2] // 2 * dilation, dilation=dilation)
        if i == len(layers) - 1:
            return y
        y = torch.relu(y + x if i else y)
        if len(limits) <= i:
            flat = y.reshape(-1)
            limits.append(float(flat.topk(max(1, flat.numel() // 10_000)).values[-1]))
        if levels:
            step = limits[i] / levels
            y = (y.clamp(max=limits[i]) / step).round() * step
        x = y


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the data kit")
    parser.add_argument("--models", default="models")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    layers = list(network(os.path.join(arguments.models, "float", "splice.onnx")))
    genes = list(held_out_genes(arguments.data))
    truth = splice_truth(arguments.data, genes, ["acceptor", "donor"])
    inputs = [torch.from_numpy(ONE_HOT[encode(text)].T.copy())[None] for _, text in genes]
    limits = []
    for name, levels in (("float", None), ("8 bits", 255), ("7 bits", 127)):
        score = np.concatenate([run(layers, x, levels, limits)[0].T.numpy() for x in inputs])
        for c, kind in enumerate(("acceptor", "donor")):
            print(f"{name:7} {kind:9} top-k {top_k(score[:, c], truth[:, c]):.4f} AUPRC {average_precision(score[:, c], truth[:, c]):.4f}")


if __name__ == "__main__":
    main()
