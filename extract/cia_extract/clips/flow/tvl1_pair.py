"""TV-L1 of one pair on one core, by in-place torch operators: on a CPU faster than OpenCV's own and than `tvl1_batched`.

The algorithm, the parameters and, up to rounding, the numbers are those of `tvl1_batched`; the same tests compare both with
OpenCV. OpenCV's functions scale, warp and smooth, as in its own TV-L1. Images have no borders here: the dual variables stay 0 in
the last column (row), so a tensor shifted by one value (one row) in memory has a zero at the beginning of each row (image).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cia_extract.clips.flow.tvl1_batched import FLAT, OPENCV, SMALLEST_LEVEL, Parameters

Image = npt.NDArray[Any]  # [H, W] float32


@torch.no_grad()
def flow(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8], parameters: Parameters = OPENCV) -> Image:
    """Motion from `first` to `second`, [H, W] grey (0 … 255) → [H, W, 2] float32 px, (x, y).

    `warp_steps` is not used: the warp is that of the OpenCV installed.
    """
    levels = list(_pyramid(first.astype(np.float32), second.astype(np.float32), parameters))
    u = np.zeros((2, *levels[-1][0].shape), np.float32)
    for i, (image, target) in reversed(list(enumerate(levels))):
        u = _Level(image, target, u, parameters).solve()
        if i > 0:
            height, width = levels[i - 1][0].shape
            u = np.stack([cv2.resize(part, (width, height)) for part in u]) * np.float32(1 / parameters.scale_step)
    return np.ascontiguousarray(u.transpose(1, 2, 0))


def _pyramid(first: Image, second: Image, parameters: Parameters) -> Iterator[tuple[Image, Image]]:
    """Both images at each level, the finest first."""
    yield first, second
    for _ in range(parameters.scales - 1):
        if min(round(side * parameters.scale_step) for side in first.shape) < SMALLEST_LEVEL:
            return
        first, second = (cv2.resize(each, None, fx=parameters.scale_step, fy=parameters.scale_step) for each in (first, second))
        yield first, second


class _Shifted:
    """A contiguous [2, H, W] tensor as one row of values: all of them, and views without the first or last value or row."""

    def __init__(self, whole: Tensor) -> None:
        flat, width = whole.view(-1), whole.shape[2]
        self.whole, self.all = whole, flat
        self.left, self.right = flat[:-1], flat[1:]
        self.above, self.below = flat[:-width], flat[width:]


class _Level:
    """One level of the pyramid: `u` [2, H, W] is the flow, p [2, 2, H, W] its dual variables along x and along y.

    The dual variables start at 0 and persist from one warp to the next.
    """

    def __init__(self, image: Image, target: Image, u: Image, parameters: Parameters) -> None:
        self.image, self.parameters = image, parameters
        self.planes = (target, *_central_gradient(target))
        self.grid = np.meshgrid(*(np.arange(side, dtype=np.float32) for side in image.shape[::-1]))
        self.u, self.new = _Shifted(torch.from_numpy(u)), _Shifted(torch.empty(u.shape))
        self.p, self.du = torch.zeros(2, *u.shape), torch.zeros(2, *u.shape)
        (self.px, self.py), (self.dx, self.dy) = map(_Shifted, self.p), map(_Shifted, self.du)
        self.last_column, self.last_row = self.du[0, :, :, -1], self.du[1, :, -1]
        self.norm, self.shrink = torch.empty(u.shape), torch.empty(image.shape)
        self.one = torch.ones(())

    def solve(self) -> Image:
        """The flow of this level, [2, H, W] px."""
        for _ in range(self.parameters.warps):
            self._linearise()
            self._iterate()
        return self.u.whole.numpy()

    def _linearise(self) -> None:
        """The second image and its gradient warped by the flow, as ρ(u) = constant + ∇I₁·u."""
        u = self.u.whole.numpy()
        x, y = (base + part for base, part in zip(self.grid, u, strict=True))
        warped, dx, dy = (cv2.remap(plane, x, y, cv2.INTER_CUBIC) for plane in self.planes)
        self.gradient = torch.from_numpy(np.stack((dx, dy)))
        self.constant = torch.from_numpy(warped - dx * u[0] - dy * u[1] - self.image)
        self.squared = torch.from_numpy(np.maximum(dx * dx + dy * dy, FLAT))

    def _iterate(self) -> None:
        """At most outer × inner iterations, a median filter before each `inner` of them, until the flow has converged."""
        p = self.parameters
        for _ in range(p.outer):
            if p.median > 1:
                for part in self.u.whole.numpy():
                    cv2.medianBlur(part, p.median, part)
            for _ in range(p.inner):
                change = self._descend()
                self._ascend()
                if change <= p.epsilon**2:
                    return

    def _descend(self) -> float:
        """v = TH(u) and u = v + θ div p (IPOL 2013, eq. 16 and 14). Returns the mean squared change of u."""
        u, new, shrink, p = self.u, self.new, self.shrink, self.parameters
        limit = p.lambda_ * p.theta
        torch.addcmul(self.constant, self.gradient[0], u.whole[0], out=shrink)
        shrink.addcmul_(self.gradient[1], u.whole[1]).div_(self.squared).clamp_(-limit, limit)
        torch.addcmul(u.whole, shrink, self.gradient, value=-1, out=new.whole)
        new.all.add_(self.px.all, alpha=p.theta).add_(self.py.all, alpha=p.theta)
        new.right.sub_(self.px.left, alpha=p.theta)
        new.below.sub_(self.py.above, alpha=p.theta)
        change = u.all.sub_(new.all)
        self.u, self.new = new, u
        return float(torch.dot(change, change)) / shrink.numel()

    def _ascend(self) -> None:
        """p = (p + τ/θ ∇u) / (1 + τ/θ |∇u|) (eq. 15) with forward differences, 0 in the last column and row."""
        u, norm, step = self.u, self.norm, self.parameters.tau / self.parameters.theta
        torch.sub(u.right, u.left, out=self.dx.left)
        torch.sub(u.below, u.above, out=self.dy.above)
        self.last_column.zero_()
        self.last_row.zero_()
        torch.mul(self.dx.whole, self.dx.whole, out=norm)
        norm.addcmul_(self.dy.whole, self.dy.whole).sqrt_()
        torch.add(self.one, norm, alpha=step, out=norm)
        self.p.add_(self.du, alpha=step).div_(norm)


def _central_gradient(image: Image) -> tuple[Image, Image]:
    """∂/∂x and ∂/∂y with replicated edges (so half the one-sided difference there)."""
    padded = np.pad(image, 1, mode="edge")
    return (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2, (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2


class Estimator:
    """TV-L1 with the interface of OpenCV's estimators and its defaults, but a median filter of `median` px (0: none)."""

    def __init__(self, median: int) -> None:
        self.parameters = replace(OPENCV, median=median)

    def calc(self, first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8], _: None) -> Image:
        """Motion from `first` to `second`, [H, W] grey (0 … 255) → [H, W, 2] float32 px, (x, y)."""
        return flow(first, second, self.parameters)
