"""Fake quantisation: train and score a network as the int8 runtime will compute it.

What: convolution blocks (convolution, batch norm, optional residual add, ReLU) that can run in
  three modes.
  "float"    plain training and evaluation, batch norm on batch statistics while training;
  "observe"  as float in evaluation, while the largest activations of each tensor are recorded;
  "int8"     batch norm folded (running statistics, frozen) into weights that are rounded to 8 bits,
             symmetric, one scale per output channel; every hidden activation is rounded to 7 bits
             unsigned (0..127), one scale a tensor. Gradients pass straight through the rounding, so
             the weights can be tuned under it.
Why: post-training rounding costs accuracy on networks as small as these; a short fine-tuning under
  it does not.
How: build the network from `ConvBlock` and `Head`, train in "float", call
  `calibrate(model, batches)`, then `set_mode(model, "int8")` and train on. Export with
  `set_mode(model, "float")` in eval mode: the file is plain float.
"""

import torch
import torch.nn.functional as F
from torch import nn

ACTIVATION_LEVELS = 127
WEIGHT_LEVELS = 127


class _Round(torch.autograd.Function):
    """Rounds to multiples of the scale; the gradient passes straight through."""

    @staticmethod
    def forward(ctx, x, scale):
        return x.mul(1.0 / scale).round_().mul_(scale)

    @staticmethod
    def backward(ctx, grad):
        return grad, None


class ActivationQuantizer(nn.Module):
    """ReLU and rounding. Holds one tensor's scale; its range is a running mean of a high
    percentile, so that one outlier does not widen it."""

    def __init__(self, percentile=0.9999, momentum=0.1):
        super().__init__()
        self.mode = "float"
        self.percentile = percentile
        self.momentum = momentum
        self.register_buffer("limit", torch.zeros(()))

    def forward(self, x):
        if self.mode == "int8":
            limit = max(float(self.limit), 1e-6)
            return _Round.apply(F.hardtanh(x, 0.0, limit), limit / ACTIVATION_LEVELS)
        x = F.relu_(x)
        if self.mode == "observe":
            flat = x.detach().float().reshape(-1)
            k = max(1, int(flat.numel() * (1 - self.percentile)))
            high = flat.topk(k).values[-1]
            if float(self.limit) == 0.0:
                self.limit.copy_(high)
            else:
                self.limit.lerp_(high, self.momentum)
        return x


class _BatchNorm(nn.BatchNorm1d):
    """Takes [N,C,T] and [N,C,1,T] alike."""

    def _check_input_dim(self, x):
        assert x.dim() in (3, 4)


def convolve(x, weight, bias, dilation, padding):
    """conv1d; [N,C,1,T] input is accepted too, because channels-last 2-D convolutions train twice
    as fast on a CPU."""
    if x.dim() == 3:
        return F.conv1d(x, weight, bias, dilation=dilation, padding=padding)
    weight = weight.unsqueeze(2)
    return F.conv2d(x, weight, bias, dilation=(1, dilation), padding=(0, padding))


def round_weight(weight):
    """8-bit symmetric rounding with one scale per output channel, straight-through gradient."""
    with torch.no_grad():
        scale = weight.abs().flatten(1).amax(1).clamp(min=1e-12) / WEIGHT_LEVELS
        scale = scale.view(-1, *[1] * (weight.dim() - 1))
        rounded = (weight / scale).round() * scale
    return weight + (rounded - weight).detach()


class ConvBlock(nn.Module):
    """relu(bn(conv(x)) + skip), 'same' zero padding, odd width."""

    def __init__(self, inputs, outputs, width, dilation=1, percentile=0.9999):
        super().__init__()
        assert width % 2 == 1
        self.dilation, self.padding = dilation, dilation * (width // 2)
        self.conv = nn.Conv1d(
            inputs, outputs, width, dilation=dilation, padding=self.padding, bias=False
        )
        self.bn = _BatchNorm(outputs)
        self.quantizer = ActivationQuantizer(percentile)
        self.mode = "float"

    def folded(self):
        """Weights and bias with the batch norm's running statistics folded in."""
        factor = self.bn.weight * torch.rsqrt(self.bn.running_var + self.bn.eps)
        weight = self.conv.weight * factor.view(-1, 1, 1)
        return weight, self.bn.bias - self.bn.running_mean * factor

    def forward(self, x, skip=None):
        if self.mode == "int8":
            weight, bias = self.folded()
            y = convolve(x, round_weight(weight), bias, self.dilation, self.padding)
        else:
            y = self.bn(convolve(x, self.conv.weight, None, self.dilation, self.padding))
        if skip is not None:
            y += skip  # in place: no layer needs its own output before the ReLU for the gradient
        return self.quantizer(y)


class Head(nn.Module):
    """The last convolution, with bias; its outputs are the logits and are not rounded."""

    def __init__(self, inputs, outputs, width=1):
        super().__init__()
        assert width % 2 == 1
        self.padding = width // 2
        self.conv = nn.Conv1d(inputs, outputs, width, padding=self.padding)
        self.mode = "float"

    def forward(self, x):
        weight = round_weight(self.conv.weight) if self.mode == "int8" else self.conv.weight
        return convolve(x, weight, self.conv.bias, 1, self.padding)


def set_mode(model, mode):
    """Switches every block of the model: "float", "observe" or "int8"."""
    assert mode in ("float", "observe", "int8")
    for module in model.modules():
        if isinstance(module, (ConvBlock, Head)):
            module.mode = "int8" if mode == "int8" else "float"
        elif isinstance(module, ActivationQuantizer):
            module.mode = mode
    return model


@torch.no_grad()
def calibrate(model, batches):
    """Sets the activation ranges from a few batches of real input, in evaluation mode."""
    was_training = model.training
    model.eval()
    set_mode(model, "observe")
    for module in model.modules():
        if isinstance(module, ActivationQuantizer):
            module.limit.zero_()
    for batch in batches:
        model(batch)
    set_mode(model, "float")
    model.train(was_training)


def macs_per_base(model):
    """Multiply-adds per base and strand: the sum over convolutions of inputs * outputs * width (no
    strides)."""
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv1d))


def parameters(model):
    """Weights and biases as the runtime stores them, i.e. with batch norm folded."""
    count = 0
    for module in model.modules():
        if isinstance(module, nn.Conv1d):
            count += module.weight.numel() + module.weight.shape[0]
    return count
