"""Fits calibrations: monotone piecewise linear maps of raw logits, least log loss. Applied by
`scoring.apply_knots`."""

import math

import numpy as np
import torch
import torch.nn.functional as F

# Bases with less do not count: as the map is one of the logit, that does not bias it. Below, the
# first slope goes on.
LOWEST = -6.0


def fit_knots(logit, truth, count=8, pull=4.0):
    """Knots [raw, calibrated]; slopes are drawn towards 1."""
    use = logit > LOWEST
    z, t = (
        torch.from_numpy(logit[use].astype(np.float64)),
        torch.from_numpy(truth[use].astype(np.float64)),
    )
    top = float(np.quantile(logit[truth], 0.95))
    x = torch.linspace(LOWEST, top, count, dtype=torch.float64)
    raw = torch.full(
        (count - 1,), math.log(math.e - 1), dtype=torch.float64, requires_grad=True
    )  # softplus -> 1
    first = torch.tensor(LOWEST, dtype=torch.float64, requires_grad=True)
    piece = torch.bucketize(z, x[1:-1])

    def knots_y():
        rise = (0.05 + 0.95 * F.softplus(raw)) * (x[1] - x[0])
        return torch.cat([first[None], first + rise.cumsum(0)])

    def loss():
        y = knots_y()
        mapped = y[piece] + (z - x[piece]) * (y[piece + 1] - y[piece]) / (x[1] - x[0])
        return (
            F.binary_cross_entropy_with_logits(mapped, t, reduction="sum")
            + pull * (F.softplus(raw) - 1).square().sum()
        )

    minimise(loss, [raw, first])
    return [[round(float(a), 4), round(float(b), 4)] for a, b in zip(x, knots_y().detach())]


def fit_line(logit, truth, weight=1.0, pull=4.0, lowest=LOWEST):
    """Slope and shift of calibrated logits, drawn towards 1 and 0. `weight` of each base, less than
    1 where a site is seen several times."""
    use = logit > lowest
    z, t = (
        torch.from_numpy(logit[use].astype(np.float64)),
        torch.from_numpy(truth[use].astype(np.float64)),
    )
    slope, shift = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (1.0, 0.0))
    loss = lambda: (
        weight * F.binary_cross_entropy_with_logits(slope * z + shift, t, reduction="sum")
        + pull * ((slope - 1).square() + shift.square())
    )
    minimise(loss, [slope, shift])
    return max(slope.item(), 0.1), shift.item()


def minimise(loss, parameters):
    optimizer = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
