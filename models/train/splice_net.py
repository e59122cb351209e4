"""The splice network: a cheap trunk with a fast head, and a tower on the trunk with an accurate
head.

What: for every base the logits of (acceptor, donor) of the fast head, then of the accurate one.
  Acceptor = an exon's first base, donor = an exon's last base, in the sense orientation of the
  input.
Why so: the fast tier computes the trunk everywhere; the tower is worth computing only around
  positions that the fast head does not rule out. All wide dilations are in the trunk, or in layers
  of the tower that read nothing but the trunk's rows and the bases, so that one position of the
  accurate head needs a few dozen rows of each layer of the tower, not thousands. No strides and no
  pooling: the score of a base does not depend on where a read begins.
"""

import numpy as np
import torch
from torch import nn

from packed import TIERS
from quantize_aware import ConvBlock, Head
from training import ONE_HOT, OnnxFile, export_onnx, largest_difference

# Output channels, width, dilation, and @input+residual where these are not the layer before: 0 is
# the sequence, i the output of layer i.
TRUNK = "16,7,1 16,7,1 16,7,6 16,7,36 16,7,180 16,7,2"
TOWERS = {  # of the stages; that of the second sees further, that of the third further still
    1: (
        "32,13,1@0 32,7,1@6+7 32,9,5@6+8 32,7,30 32,9,25@6+10 32,7,9 32,9,110@6+12 32,7,3 32,7,1"
        " 32,7,1 32,7,1 32,7,1"
    ),
    2: (
        "16,7,50@6+6 16,7,250@7+7 32,13,1@0 32,7,1@8+9 32,9,5@8+10 32,7,30 32,9,25@8+12 32,7,9"
        " 32,9,110@8+14 32,7,3 32,7,1 32,7,1 32,7,1"
    ),
    3: (
        "16,7,50@6+6 16,7,250@7+7 32,13,1@0 32,7,1@8+9 32,9,5@8+10 32,7,30 32,9,25@8+12 32,7,9"
        " 32,9,110@8+14 32,7,3 32,7,24 32,7,6 32,7,1"
    ),
}


def as_input(bases):
    """uint8 [B, T] -> [B, 4, 1, T], channels last in memory."""
    return ONE_HOT[torch.from_numpy(bases.astype(np.int64))].unsqueeze(1).permute(0, 3, 1, 2)


class TwoTierNet(nn.Module):
    def __init__(self, trunk, tower, accurate=9, fast=17):
        super().__init__()
        self.spec, channels, blocks = [], [4], []
        for i, text in enumerate((trunk + " " + tower).split()):
            text, _, source = text.partition("@")
            outputs, width, dilation = (int(v) for v in text.split(","))
            if source:
                source, _, added = source.partition("+")
                source, added = int(source), int(added) if added else -1
            else:
                source, added = i, i if channels[i] == outputs else -1
            blocks.append(ConvBlock(channels[source], outputs, width, dilation))
            self.spec.append((source, added))
            channels.append(outputs)
        depth = len(trunk.split())
        self.trunk, self.fast = nn.ModuleList(blocks[:depth]), Head(channels[depth], 2, fast)
        self.tower, self.accurate = nn.ModuleList(blocks[depth:]), Head(channels[-1], 2, accurate)
        for head in self.heads:
            nn.init.constant_(head.conv.bias, -5.0)  # sites are rare: start near their frequency

    @property
    def layers(self):
        return [*self.trunk, *self.tower]

    @property
    def heads(self):
        return [self.accurate, self.fast]

    def macs(self):
        """Multiply-adds a base and strand of (fast, accurate)."""
        count = lambda part: sum(
            m.weight.numel() for m in part.modules() if isinstance(m, nn.Conv1d)
        )
        trunk = count(self.trunk)
        return trunk + count(self.fast), trunk + count(self.tower) + count(self.accurate)

    def reach(self):
        """Bases on each side that influence (the fast, the accurate) logits."""
        far = [0]
        for block, (source, added) in zip(self.layers, self.spec):
            far.append(max(far[source] + block.padding, far[added] if added >= 0 else 0))
        return far[len(self.trunk)] + self.fast.padding, far[-1] + self.accurate.padding

    def forward(self, x):
        """[B, 4, 1, T] or [B, 4, T] -> the same of the fast logits, and of the accurate ones."""
        rows = [x]
        for block, (source, added) in zip(self.layers, self.spec):
            rows.append(block(rows[source], rows[added] if added >= 0 else None))
        return self.fast(rows[len(self.trunk)]), self.accurate(rows[-1])


@torch.no_grad()
def score(model, sequences):
    """Float32 logits [sum of lengths, 4], one forward pass per whole sequence."""
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        return np.concatenate(
            [torch.cat(model(as_input(b[None])), 1)[0, :, 0].T.float().numpy() for b in sequences]
        )


def load(path):
    """The running mean of the weights of a checkpoint, as a model; and the checkpoint."""
    saved = torch.load(path, weights_only=True)
    model = TwoTierNet(saved["trunk"], saved["tower"])
    model.load_state_dict(saved["ema"])
    return model.eval(), saved


@torch.no_grad()
def grow(model, path):
    """Takes over the layers of the stage before. From the first to the second the two further
    layers behind the trunk begin as the identity, and the last but one of the late layers, which
    are alike, is left out; from the second to the third only dilations change.
    """
    old, _ = load(path)
    new_layers, old_layers = list(model.layers), list(old.layers)
    depth, count = len(model.trunk), len(model.layers)
    more = 0 if len(old_layers) == count else 2
    for i, j in (
        {i: i for i in range(depth)} | {i: i - more for i in range(depth + more, count)}
    ).items():
        new_layers[i].load_state_dict(old_layers[j].state_dict())
    for block in new_layers[depth : depth + more]:
        nn.init.zeros_(block.bn.weight)
        nn.init.zeros_(block.bn.bias)
    model.fast.load_state_dict(old.fast.state_dict())
    model.accurate.load_state_dict(old.accurate.state_dict())


class Whole(nn.Module):
    """The same network under the runtime's tensor names."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, sequence):
        return self.net(sequence)


def export(model, path):
    """Input `sequence` [1, 4, T], outputs `fast` and `accurate` [1, 2, T] of logits. Returns the
    largest difference between the file and the model."""
    import onnx

    whole = Whole(model).eval()
    export_onnx(whole, torch.zeros(1, 4, 1000), path, TIERS, True)
    file = onnx.load(path)
    # The residual before the convolution: the runtime evaluates inputs in their order, and adds
    # what is there already in the convolution's own loop.
    convolutions = {n.output[0] for n in file.graph.node if n.op_type == "Conv"}
    for node in file.graph.node:
        if node.op_type == "Add" and node.input[0] in convolutions:
            node.input[0], node.input[1] = node.input[1], node.input[0]
    onnx.checker.check_model(file)
    onnx.save(file, path)
    x = torch.eye(4)[torch.randint(0, 4, (1, 5000))].transpose(1, 2).contiguous()
    with torch.no_grad():
        pairs = zip(OnnxFile(path)(x), whole(x))
        return max(largest_difference(a, b.numpy()) for a, b in pairs)
