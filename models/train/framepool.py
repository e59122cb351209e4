"""FramePool (Karollus et al. 2021) in PyTorch, from its Keras file: the teacher of the 5'UTR
network.

Three convolutions of 128 channels and width 7 with ReLU, the last two residual; maximum and mean of
each channel by reading frame counted from the 3' end, where the mean divides by the whole length;
two dense layers. Its last layer, an affine map for each of two experiments, is left out: the
network that learns from this one has affine outputs of its own.
"""

import h5py
import torch
import torch.nn.functional as F
from torch import nn


class FramePool(nn.Module):
    def __init__(self, path):
        super().__init__()
        weights = {}
        with h5py.File(path) as file:
            file["model_weights" if "model_weights" in file else "/"].visititems(
                lambda name, item: (
                    weights.update(
                        {
                            tuple(name.split("/"))[0]
                            + "."
                            + name.split("/")[-1].split(":")[0]: torch.tensor(item[()])
                        }
                    )
                    if isinstance(item, h5py.Dataset)
                    else None
                )
            )
        for i in range(3):
            self.register_buffer(
                f"w{i}", weights[f"convolution_{i}.kernel"].permute(2, 1, 0).contiguous()
            )
            self.register_buffer(f"b{i}", weights[f"convolution_{i}.bias"])
        self.register_buffer("dense", weights["fully_connected_0.kernel"].T.contiguous())
        self.register_buffer("dense_bias", weights["fully_connected_0.bias"])
        self.register_buffer("out", weights["mrl_output_unscaled.kernel"].T.contiguous())
        self.register_buffer("out_bias", weights["mrl_output_unscaled.bias"])
        self.register_buffer("experiments", weights["scaling_regression.kernel"][:, 0])

    @torch.no_grad()
    def forward(self, x):
        """[B, 4, T] one-hot, all rows of the same length: [B]."""
        length = x.shape[2]
        x = F.relu(F.conv1d(x, self.w0, self.b0, padding=3))
        x = x + F.relu(F.conv1d(x, self.w1, self.b1, padding=3))
        x = x + F.relu(F.conv1d(x, self.w2, self.b2, padding=3))
        frames = [x.flip(2)[:, :, f::3] for f in range(3)]
        pooled = [f.amax(2) for f in frames] + [f.sum(2) / length for f in frames]
        h = F.relu(F.linear(torch.cat(pooled, 1), self.dense, self.dense_bias))
        return F.linear(h, self.out, self.out_bias)[:, 0]
