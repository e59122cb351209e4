"""The training step of `splice.TorchStep` in C++ (amx_step.cpp), on the same flat arrays: the same
arithmetic in bfloat16, fused, with AMX tiles or, without AMX, AVX-512.

A C++ compiler and a processor with bfloat16 in AVX-512 are needed. `python amx_step.py` compares a
step with PyTorch's.
"""

import ctypes
import os
import subprocess

import numpy as np

from splice import Flat

HERE = os.path.dirname(os.path.abspath(__file__))


def library(folder):
    """The C++ file, compiled into the folder."""
    source, path = (
        os.path.join(HERE, "amx_step.cpp"),
        os.path.join(os.path.abspath(folder), "libamx_step.so"),
    )
    if not os.path.exists(path) or os.path.getmtime(path) < os.path.getmtime(source):
        subprocess.check_call(
            [
                "g++",
                "-O3",
                "-march=native",
                "-mprefer-vector-width=512",
                "-ffast-math",
                "-fPIC",
                "-shared",
                source,
                "-o",
                path,
                "-lmvec",
                "-lm",
            ]
        )
    lib = ctypes.CDLL(path)
    lib.net_new.restype = ctypes.c_void_p
    lib.net_new.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_int,
    ]
    lib.net_params.restype = ctypes.c_int64
    lib.net_params.argtypes = lib.net_stats.argtypes = [ctypes.c_void_p]
    lib.net_step.restype = None
    lib.net_step.argtypes = [ctypes.c_void_p] * 6 + [
        ctypes.c_float,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_float,
        ctypes.c_void_p,
    ]
    return lib


class AmxStep(Flat):
    def __init__(self, model, batch, crop, weight, share, folder):
        super().__init__(model)
        self.lib, self.shape, self.share = library(folder), (batch, crop), share
        self.weight, self.losses = np.array([1.0, weight], np.float32), np.zeros(2, np.float32)
        spec = []
        for block, (source, added) in zip(model.layers, model.spec):
            c = block.conv
            spec += [c.in_channels, c.out_channels, c.kernel_size[0], block.dilation, added, source]
        at = [len(model.layers), len(model.trunk)]
        heads = [v for head, i in zip(model.heads, at) for v in (head.conv.kernel_size[0], i)]
        self.net = self.lib.net_new(
            len(model.layers),
            np.array(spec, np.int32).ctypes.data,
            2,
            np.array(heads, np.int32).ctypes.data,
            batch,
            crop,
        )
        assert self.lib.net_params(self.net) == len(self.flat) and self.lib.net_stats(
            self.net
        ) == len(self.stats)

    def __call__(self, x, y, lengths):
        assert x.flags.c_contiguous and y.flags.c_contiguous and x.shape == self.shape
        self.lib.net_step(
            self.net,
            x.ctypes.data,
            lengths.ctypes.data,
            self.flat.data_ptr(),
            self.stats.data_ptr(),
            y.ctypes.data,
            0.1,
            self.grad.data_ptr(),
            self.weight.ctypes.data,
            self.share,
            self.losses.ctypes.data,
        )
        return float(self.losses[0]), float(self.losses[1])


def main():
    import copy
    import tempfile

    import torch

    from splice import TorchStep
    from splice_net import TOWERS, TRUNK, TwoTierNet

    torch.manual_seed(0)
    model = TwoTierNet(TRUNK, TOWERS[2])
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, (2, 4096), dtype=np.uint8)
    y = (rng.random((2, 4096, 2)) < 0.01).astype(np.uint8) * 255
    lengths = np.array([4096, 4096], np.int32)
    with tempfile.TemporaryDirectory() as folder:
        steps = [
            AmxStep(copy.deepcopy(model), 2, 4096, 0.4, 0.5, folder),
            TorchStep(copy.deepcopy(model), 0.4, 0.5, False),
            TorchStep(copy.deepcopy(model), 0.4, 0.5),
        ]
        losses = [step(x, y, lengths) for step in steps]
    exact = steps[1].grad
    for name, step, loss in zip(("amx", "float32", "bfloat16"), steps, losses):
        print(
            f"{name:9} losses {loss[0]:.4f} {loss[1]:.4f}, gradient's distance to float32's"
            f" {float((step.grad - exact).norm() / exact.norm()):.4f}"
        )


if __name__ == "__main__":
    main()
