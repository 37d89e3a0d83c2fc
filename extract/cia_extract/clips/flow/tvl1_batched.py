"""Batched TV-L1 optical flow in torch, equal to OpenCV contrib's `DualTVL1OpticalFlow` on the CPU.

Zach, Pock and Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM 2007,
https://doi.org/10.1007/978-3-540-74936-3_22, with the numerics of Sánchez Pérez, Meinhardt-Llopis and Facciolo, IPOL 2013,
https://doi.org/10.5201/ipol.2013.26. OpenCV's own choices (borders, sizes, the place of the median filter, when to stop) follow
modules/optflow/src/tvl1flow.cpp; the tests compare the two on real clips.

Where frames do not determine the motion (flat regions, a scene that leaves the frame), TV-L1 amplifies rounding: OpenCV's own
result changes by 0.0001 to 0.12 px in the mean of a pair if its input changes by 1e-6, relatively; ours differs by as much.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST_LEVEL: Final = 16  # px; OpenCV drops levels with a shorter side
FLAT: Final = torch.finfo(torch.float32).eps  # |∇I|² under which the data term says nothing
BORDER: Final = 4  # zeros around a plane that is warped
# On a GPU, convergence is checked only every so many iterations: each check waits for the device.
CHUNK: Final = 5
# Converged pairs leave the batch once at most this share is left: regrouping costs about as much as 1.5 iterations.
REGROUP: Final = 0.75
# The smallest batch: torch.compile would compile everything again for a batch of one.
LEAST: Final = 2

State = tuple[Tensor, ...]  # u1, u2, p11, p12, p21, p22, each [B, H, W]
Data = tuple[Tensor, ...]  # ρ's constant part, ∂I₁/∂x, ∂I₁/∂y, warped, each [B, H, W]


@dataclass(frozen=True)
class Parameters:
    """TV-L1's parameters with OpenCV's names and defaults.

    `median` is the filter's side in px, 0 for none. `warp_steps` is the number of subpixel positions per px in the warp, 0 for
    exact ones: OpenCV 5 warps exactly, OpenCV ≤ 4 on a grid of 1/32 px (`warp_steps=32`).
    """

    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    scales: int = 5
    warps: int = 5
    epsilon: float = 0.01
    inner: int = 30
    outer: int = 10
    scale_step: float = 0.8
    median: int = 5
    warp_steps: int = 0


OPENCV: Final = Parameters()


@torch.no_grad()
def flow(first: Tensor, second: Tensor, parameters: Parameters = OPENCV, compile: bool | None = None) -> Tensor:
    """Motion from `first` to `second`, [B, H, W] uint8 or float32 grey (0 … 255) → [B, 2, H, W] float32 px, (x, y).

    Each pair gets the result that it would get alone. `compile` fuses the iterations by `torch.compile` (None: on a GPU only),
    which takes seconds to minutes once a process, for all image and batch sizes. Raises ValueError for unfit shapes or medians.
    """
    if first.ndim != 3 or first.shape != second.shape or min(first.shape[1:]) < 3:
        raise ValueError(f"expected two [B, H, W] of at least 3×3 px, got {tuple(first.shape)} and {tuple(second.shape)}")
    if parameters.median > 1 and parameters.median not in NETWORKS:
        raise ValueError(f"the median filter must have 3 or 5 px, or 0 for none, got {parameters.median}")
    fused = first.is_cuda if compile is None else compile
    if fused and len(first) == 1:  # see LEAST
        return flow(first.repeat(LEAST, 1, 1), second.repeat(LEAST, 1, 1), parameters, compile)[:1]
    levels = _pyramid(first.float().contiguous(), second.float().contiguous(), parameters)
    u1, u2 = torch.zeros_like(levels[-1][0]), torch.zeros_like(levels[-1][0])
    for i, (image, target) in reversed(list(enumerate(levels))):
        u1, u2 = _solve_level(image, target, u1, u2, parameters, fused)
        if i > 0:
            size = levels[i - 1][0].shape[1:]
            u1, u2 = (
                _resize(u, size, (u.shape[1] / size[0], u.shape[2] / size[1])) * (1 / parameters.scale_step) for u in (u1, u2)
            )
    return torch.stack((u1, u2), dim=1)


def _pyramid(first: Tensor, second: Tensor, parameters: Parameters) -> list[tuple[Tensor, Tensor]]:
    """Both images at each level, the finest first."""
    levels = [(first, second)]
    for _ in range(parameters.scales - 1):
        size = [round(side * parameters.scale_step) for side in levels[-1][0].shape[1:]]
        if min(size) < SMALLEST_LEVEL:
            break
        # The step is 1/0.8 px whatever the rounded size says: the last columns may be sampled off their place, as in OpenCV.
        steps = (1 / parameters.scale_step, 1 / parameters.scale_step)
        levels.append((_resize(levels[-1][0], size, steps), _resize(levels[-1][1], size, steps)))
    return levels


def _resize(image: Tensor, size: torch.Size | list[int], steps: tuple[float, float]) -> Tensor:
    """Bilinear, pixel centres at ½, edges replicated, no antialiasing; `steps` are input px per output px, (y, x)."""
    for dim, length, step in ((2, size[1], steps[1]), (1, size[0], steps[0])):
        position = ((torch.arange(length, dtype=torch.float64) + 0.5) * step - 0.5).clamp(0, image.shape[dim] - 1)
        low = position.floor().long()
        weight = (position - low).float().to(image.device)
        high = (low + 1).clamp(max=image.shape[dim] - 1).to(image.device)
        weight = weight if dim == 2 else weight[:, None]
        image = torch.lerp(image.index_select(dim, low.to(image.device)), image.index_select(dim, high), weight)
    return image


def _solve_level(
    image: Tensor, target: Tensor, u1: Tensor, u2: Tensor, parameters: Parameters, fused: bool
) -> tuple[Tensor, Tensor]:
    """`warps` linearisations around the current flow. The dual variables start from 0 at each level and outlive the warps."""
    linearise = _compiled(_linearise) if fused else _linearise
    planes = F.pad(torch.stack((target, *_central_gradient(target)), dim=1), (BORDER,) * 4)
    state: State = (u1, u2, *(torch.zeros_like(u1) for _ in range(4)))
    for _ in range(parameters.warps):
        state = _iterate(state, linearise(image, planes, state[0], state[1], parameters.warp_steps), parameters, fused)
    return state[0], state[1]


def _central_gradient(image: Tensor) -> tuple[Tensor, Tensor]:
    """∂/∂x and ∂/∂y with replicated edges (so half the one-sided difference there)."""
    padded = F.pad(image[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    return (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2, (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2


def _linearise(image: Tensor, planes: Tensor, u1: Tensor, u2: Tensor, warp_steps: int) -> Data:
    """The second image and its gradient warped by the flow, as ρ(u) = constant + ∇I₁·u. `planes` [B, 3, H, W] with BORDER."""
    height, width = u1.shape[1:]
    x = u1 + torch.arange(width, dtype=u1.dtype, device=u1.device)
    y = u2 + torch.arange(height, dtype=u1.dtype, device=u1.device)[:, None]
    if warp_steps:
        x, y = torch.round(x * warp_steps) / warp_steps, torch.round(y * warp_steps) / warp_steps
    warped, dx, dy = _bicubic(planes, x, y)
    return warped - dx * u1 - dy * u2 - image, dx, dy


def _bicubic(planes: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`planes` at (x, y), 0 outside.

    Not `grid_sample`: its coordinates in [−1, 1] are off by 1e-5 px, which gives motion where the gradient is almost 0. Here
    whole px are exact, and equal frames do not move.
    """
    height, width = planes.shape[2] - 2 * BORDER, planes.shape[3] - 2 * BORDER
    left, top = x.floor(), y.floor()
    across, down = _cubic_weights(x - left), _cubic_weights(y - top)
    # Further out, all four taps lie in the border of zeros anyway.
    corner = (top.clamp(-3, height + 1).long() + BORDER - 1) * planes.shape[3] + left.clamp(-3, width + 1).long() + BORDER - 1
    sums = []
    for plane in planes.flatten(2).unbind(1):
        total = torch.zeros_like(x)
        for j, weight in enumerate(down):
            taps = [plane.gather(1, (corner + (j * planes.shape[3] + i)).flatten(1)).view_as(x) for i in range(4)]
            total = total + weight * sum(w * tap for w, tap in zip(across, taps, strict=True))
        sums.append(total)
    return sums[0], sums[1], sums[2]


def _cubic_weights(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Keys' kernel with a = −¾ at the distances 1 + t, t, 1 − t and 2 − t."""
    a = -0.75
    before = ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a
    low = ((a + 2) * t - (a + 3)) * t * t + 1
    high = ((a + 2) * (1 - t) - (a + 3)) * (1 - t) * (1 - t) + 1
    return before, low, high, 1 - before - low - high


def _iterate(state: State, data: Data, parameters: Parameters, fused: bool) -> State:
    """At most outer × inner iterations, a median filter before each `inner` of them; a pair stops once it has converged."""
    steps, smooth = (_compiled(_steps), _compiled(_smooth)) if fused else (_steps, _smooth)
    chunk = chunk_length(state)
    whole = tuple(field.clone() for field in state)  # the results of pairs that left the batch
    rows = torch.arange(len(state[0]), device=state[0].device)
    active = torch.ones_like(rows, dtype=torch.bool)
    for _ in range(parameters.outer):
        if parameters.median > 1:
            state = (*smooth(state[0], state[1], active, parameters.median), *state[2:])
        for begin in range(0, parameters.inner, chunk):
            count = min(chunk, parameters.inner - begin)
            state, active = steps(state, active, data, count, parameters)
            left = int(active.sum())
            if left == 0:
                return _put_back(whole, rows, state)
            if max(left, LEAST) <= REGROUP * len(rows):
                _put_back(whole, rows, state)
                keep = active.int().topk(max(left, LEAST)).indices
                rows, active = rows[keep], active[keep]
                state, data = tuple(part[keep] for part in state), tuple(part[keep] for part in data)
    return _put_back(whole, rows, state)


def chunk_length(state: State) -> int:
    """Iterations between two checks whether all pairs have converged; on a GPU each check waits for the device."""
    return CHUNK if state[0].is_cuda else 1


def _put_back(whole: State, rows: Tensor, state: State) -> State:
    for field, part in zip(whole, state, strict=True):
        field[rows] = part
    return whole


def _steps(state: State, active: Tensor, data: Data, count: int, parameters: Parameters) -> tuple[State, Tensor]:
    """`count` iterations of the `active` pairs ([B] bool): the new state, and which pairs are still active.

    IPOL 2013, Algorithm 1: v = TH(u) (eq. 16), u = v + θ div p (eq. 14), p = (p + τ/θ ∇u) / (1 + τ/θ |∇u|) (eq. 15).
    """
    u1, u2, p11, p12, p21, p22 = state
    constant, dx, dy = data
    step, limit = parameters.tau / parameters.theta, parameters.lambda_ * parameters.theta
    squared = (dx * dx + dy * dy).clamp_min(FLAT)
    for _ in range(count):
        mask = active[:, None, None]
        shrink = ((constant + (dx * u1 + dy * u2)) / squared).clamp(-limit, limit)
        new1 = u1 - shrink * dx + parameters.theta * _divergence(p11, p12)
        new2 = u2 - shrink * dy + parameters.theta * _divergence(p21, p22)
        # The sum over a row comes first, since it fuses with the computation of its terms.
        change = ((new1 - u1) ** 2 + (new2 - u2) ** 2).mean(2).mean(1)
        u1, u2 = torch.where(mask, new1, u1), torch.where(mask, new2, u2)
        p11, p12 = _ascend(u1, p11, p12, step, mask)
        p21, p22 = _ascend(u2, p21, p22, step, mask)
        active = active & (change > parameters.epsilon**2)
    return (u1, u2, p11, p12, p21, p22), active


def _divergence(p1: Tensor, p2: Tensor) -> Tensor:
    """Backward differences, 0 before the first row and column: minus the adjoint of the gradient in `_ascend`."""
    return p1 - F.pad(p1[:, :, :-1], (1, 0)) + (p2 - F.pad(p2[:, :-1], (0, 0, 1, 0)))


def _ascend(u: Tensor, p1: Tensor, p2: Tensor, step: float, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The dual step along the forward gradient of u, 0 in the last row and column."""
    dx, dy = F.pad(u[:, :, 1:] - u[:, :, :-1], (0, 1)), F.pad(u[:, 1:] - u[:, :-1], (0, 0, 0, 1))
    norm = 1 + step * torch.sqrt(dx * dx + dy * dy)
    return torch.where(mask, (p1 + step * dx) / norm, p1), torch.where(mask, (p2 + step * dy) / norm, p2)


def _smooth(u1: Tensor, u2: Tensor, active: Tensor, side: int) -> tuple[Tensor, Tensor]:
    mask = active[:, None, None]
    return torch.where(mask, _median(u1, side), u1), torch.where(mask, _median(u2, side), u2)


def median_network(count: int) -> tuple[tuple[int, int, bool, bool], ...]:
    """Exchanges (low, high, is the minimum needed, is the maximum) after which place count // 2 holds the median.

    Batcher's merge exchange sort (Knuth, TAOCP 3, Algorithm 5.2.2M), without exchanges that do not affect the median.
    """
    exchanges = []
    top = 1 << (math.ceil(math.log2(count)) - 1)
    p = top
    while p:
        q, r, d = top, 0, p
        while True:
            exchanges += [(i, i + d) for i in range(count - d) if i & p == r]
            if q == p:
                break
            q, r, d = q // 2, p, q - p
        p //= 2
    needed, network = {count // 2}, []
    for low, high in reversed(exchanges):
        if low in needed or high in needed:
            network.append((low, high, low in needed, high in needed))
            needed |= {low, high}
    return tuple(reversed(network))


NETWORKS: Final = {side: median_network(side * side) for side in (3, 5)}


def _median(image: Tensor, side: int) -> Tensor:
    """Median of side×side px, edges replicated: a network of minima and maxima, which fuses and needs no [side², B, H, W]."""
    height, width = image.shape[1:]
    padded = F.pad(image[:, None], (side // 2,) * 4, mode="replicate")[:, 0]
    values = [padded[:, y : y + height, x : x + width] for y in range(side) for x in range(side)]
    for low, high, wants_low, wants_high in NETWORKS[side]:
        a, b = values[low], values[high]
        if wants_low:
            values[low] = torch.minimum(a, b)
        if wants_high:
            values[high] = torch.maximum(a, b)
    return values[len(values) // 2]


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled once for all sizes; otherwise each of 5 levels × the sizes in a dataset would cost a compilation."""
    return torch.compile(function, dynamic=True)
