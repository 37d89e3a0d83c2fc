"""What the frame cache holds of a clip: which frames, at which size, and flow at the same places; and its place in the code of
stage one, which decodes, samples, scales and computes flow.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from cia_extract import recipes
from cia_extract.clips import ClipJob, PreparedClip, flow, job_of
from cia_extract.datasets import Manifest
from cia_extract.networks import IN_CHANNELS
from cia_extract.recipes import Recipe

Pixels = npt.NDArray[np.uint8]

VERSION: Final = 1  # of the cache's layout
RECIPES: Final = {"i3d": "kinetics", "tbn": "tbn-epic100"}
"""{backbone: the recipe of cia-extract whose pictures, flow and scaling its network sees}."""


@dataclass(frozen=True)
class Pictures:
    """Everything that decides the pixels of a cached clip."""

    backbone: Literal["i3d", "tbn"]
    modalities: tuple[str, ...]
    frames: int
    """T: frames of a clip, the centres of as many equal segments."""
    short_side: int
    """Of the scaled frames, px; the height of what is stored."""
    width: int
    """Of what is stored, px: wider frames are cut at both sides, narrower ones repeat their outermost pixels."""
    flow: Literal["tvl1", "dis"] = "tvl1"
    """How flow is computed where the manifest names no stored one."""

    @property
    def recipe(self) -> Recipe:
        """The backbone's recipe, with these frames, and no window around any of them: what I3D sees are the frames."""
        base = recipes.load(RECIPES[self.backbone])
        stack = 5 if self.backbone == "tbn" else 1  # TBN's flow network sees five flows at each place
        return replace(
            base,
            name=f"{base.name}, frames",
            sampling=replace(base.sampling, frames=self.frames, rule="tsn"),
            picture=replace(base.picture, short_side=self.short_side, crop=min(base.picture.crop, self.short_side)),
            rgb=replace(base.rgb, window=1, first=0),
            flow=replace(base.flow, window=stack, first=0, algorithm=self.flow, edge="replicate"),
        )

    def shape(self, modality: str) -> tuple[int, int, int, int]:
        """[T, height, width, C] of a clip: RGB's three channels, flow's x and y, of TBN x0, y0, x1, y1, …"""
        return self.frames, self.short_side, self.width, IN_CHANNELS[self.backbone][modality]

    @property
    def clip_bytes(self) -> int:
        """Of one clip in all modalities."""
        return sum(int(np.prod(self.shape(modality))) for modality in self.modalities)

    def knobs(self, modality: str) -> dict[str, Any]:
        """All that decides the pixels of one modality, as plain values: a cache that was made with others is refused."""
        own = {"frames": self.frames, "height": self.short_side, "width": self.width, "channels": self.shape(modality)[3]}
        recipe = self.recipe.knobs([modality])
        plain: dict[str, Any] = json.loads(json.dumps({"layout": VERSION, **own, "recipe": recipe}))
        return plain

    @property
    def flow_by(self) -> str:
        """What computes flow in a worker, "torch" or "opencv"."""
        return flow.choose("auto", self.recipe.flow, "cpu")

    def job(self, rows: Manifest, row: int, root: Path, modalities: tuple[str, ...]) -> ClipJob:
        """A worker's task for one row of a manifest."""
        job = job_of(rows, row, root, self.recipe, modalities)
        return replace(job, flow_by=self.flow_by, canvas=(self.short_side, self.width))

    def of_clip(self, clip: PreparedClip, modality: str) -> Pixels:
        """[T, height, width, C] uint8. Raises ClipError where the modality could not be read."""
        if modality in clip.errors:
            raise clip.errors[modality]
        windows = clip.windows[modality]
        stacks = windows.images[windows.rows]  # [T, L, H, W, c]
        return np.ascontiguousarray(np.moveaxis(stacks, 1, 3).reshape(self.shape(modality)))
