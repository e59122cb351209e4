"""What the recipes share: input, layers, learning rate, running means, checkpoints, export."""

import math
import os

import numpy as np
import torch
from torch import nn

from quantize_aware import ConvBlock

ONE_HOT = torch.eye(5)[:, :4]  # the fifth row, no base, is all zeros


def one_hot(codes):
    """[B, L] codes to [B, 4, L]."""
    return ONE_HOT[torch.as_tensor(codes, dtype=torch.long)].transpose(1, 2).contiguous()


def residual_blocks(channels, layers):
    """Convolutions of these widths and dilations, all but the first with a residual."""
    return nn.ModuleList(
        ConvBlock(channels if i else 4, channels, width, dilation)
        for i, (width, dilation) in enumerate(layers)
    )


def residual(blocks, x):
    x = blocks[0](x)
    for block in blocks[1:]:
        x = block(x, x)
    return x


def frames(x, channels):
    """Maximum and mean of each channel at the positions 0, 1, 2 modulo 3."""
    x = x.reshape(-1, channels, x.shape[-1] // 3, 3)
    return torch.cat([x.amax(2).flatten(1), x.mean(2).flatten(1)], 1)


def frames_of_one(x, channels):
    """The same of one sequence of any length, in operators that the exporter keeps."""
    x = x.reshape(1, channels, -1, 3)
    return torch.cat([x.amax(2).reshape(1, -1), x.mean(2).reshape(1, -1)], 1)


def set_rate(optimiser, rate, warm_up, step, steps):
    """A linear warm-up, then half a cosine down to nothing."""
    for group in optimiser.param_groups:
        group["lr"] = (
            rate * min(1, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / steps))
        )


def descend(optimiser, model, loss, longest=1.0):
    """One step down, along a gradient of at most this length."""
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), longest)
    optimiser.step()


class Average:
    """Running average of weights; batch norm statistics are averages already."""

    def __init__(self, model, decay):
        self.decay, self.values = decay, {k: v.clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model, step):
        decay = min(self.decay, (1 + step) / (10 + step))
        for k, v in model.state_dict().items():
            if v.dtype.is_floating_point:
                self.values[k].lerp_(v, 1 - decay)


def resume(path, model, optimiser, average):
    """Takes up a checkpoint, if there is one: the next step, and the seconds spent until then."""
    if not os.path.exists(path):
        return 0, 0.0
    saved = torch.load(path, weights_only=False)
    model.load_state_dict(saved["model"])
    optimiser.load_state_dict(saved["opt"])
    average.values = saved["average"]
    torch.set_rng_state(saved["torch_rng"])
    return saved["step"], saved["spent"]


def keep(path, model, optimiser, average, step, spent):
    """Writes the checkpoint that `resume` reads."""
    replace(
        path,
        dict(
            model=model.state_dict(),
            opt=optimiser.state_dict(),
            average=average.values,
            torch_rng=torch.get_rng_state(),
            step=step,
            spent=spent,
        ),
    )


def replace(path, state):
    """Writes a file whole or not at all."""
    torch.save(state, path + ".new")
    os.replace(path + ".new", path)


def export_onnx(module, example, path, outputs, open_outputs=False):
    """Input `sequence` [1, 4, T]; with `open_outputs` the outputs have a row for each position."""
    names = ("sequence", *outputs) if open_outputs else ("sequence",)
    torch.onnx.export(
        module,
        (example,),
        path,
        input_names=["sequence"],
        output_names=list(outputs),
        opset_version=17,
        dynamo=False,
        dynamic_axes={name: {2: "T"} for name in names},
    )


class OnnxFile:
    """An exported file, to be compared with its module."""

    def __init__(self, path):
        import onnxruntime

        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def __call__(self, x):
        return self.session.run(None, {"sequence": x.numpy()})


def largest_difference(found, expected):
    return float(np.abs(found - expected).max())
