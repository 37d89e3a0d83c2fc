"""Whether canonical tensors fit a network, and what does not: the whole table, of which a message shows the first three."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch

import cia_extract.networks.weights.layouts as layouts
from cia_extract.common.errors import DataError
from cia_extract.networks.bninception import BNInception
from cia_extract.networks.i3d import I3D
from cia_extract.networks.streams import IN_CHANNELS
from cia_extract.networks.weights.layouts import LOGITS, Tensors

TITLE: Final = {"i3d": "I3D", "tbn": "TBN"}
Network = I3D | BNInception


class Misfit(NamedTuple):
    """One tensor that keeps weights from fitting: `Mixed_4c/… is missing`."""

    tensor: str
    problem: str

    def __str__(self) -> str:
        return f"{self.tensor} {self.problem}"


class MisfitError(DataError):
    """Weights that do not fit a network. `table` lists every tensor concerned; the message the first three, then the hint."""

    def __init__(self, subject: str, network: str, table: Sequence[Misfit], hint: str = "") -> None:
        shown = "; ".join(map(str, table[:3]))
        more = f"; and {len(table) - 3} more{hint}" if len(table) > 3 else ""
        count = f"{len(table)} tensor{'s' if len(table) > 1 else ''}"
        super().__init__(f"{subject} do not fit the {network}, {count}: {shown}{more}")
        self.table = tuple(table)


def create(backbone: str, modality: str, head: bool = False) -> Network:
    """A network without weights of its own."""
    channels = IN_CHANNELS[backbone][modality]
    return I3D(channels, head) if backbone == "i3d" else BNInception(channels)


def shapes(backbone: str, modality: str, head: bool = False) -> dict[str, tuple[int, ...]]:
    """{canonical name: shape} of what a network needs; the optional scales of I3D are not among it."""
    with torch.device("meta"):
        state = create(backbone, modality, head).state_dict()
    needed = {name: tuple(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}
    if backbone == "tbn":
        return needed
    names = {name: key for key, name in layouts.i3d_names("network").items()}
    canonical = {names[name]: shape for name, shape in needed.items()}
    turned = {key: (*s[2:], s[1], s[0]) if len(s) == 5 else s for key, s in canonical.items()}
    return {key: shape for key, shape in turned.items() if not key.endswith("/gamma")}


def misfits(backbone: str, modality: str, tensors: Tensors, head: bool = False) -> list[Misfit]:
    """Everything that keeps canonical tensors from being this network's: missing, foreign, of another shape, not finite.

    Without `head` the Kinetics classifier may be missing or of any shape: a fine-tuned file has another one.
    """
    needed = shapes(backbone, modality, head)
    given = tensors if head else _without_head(tensors)
    wrong = [Misfit(name, "is missing") for name in needed if name not in given]
    for name, array in given.items():
        wanted = needed.get(_offset_of(name))
        if wanted is None:
            wrong.append(Misfit(name, "does not belong"))
        elif array.shape != wanted:
            wrong.append(Misfit(name, f"is {array.shape}, not {wanted}"))
        elif not np.isfinite(array).all():
            wrong.append(Misfit(name, "holds values that are not finite"))
    return wrong


def fill(network: Network, tensors: Tensors) -> None:
    """Load canonical tensors that fit."""
    if isinstance(network, I3D):
        tensors = layouts.written(tensors if network.Logits is not None else _without_head(tensors), "network")
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in tensors.items()})


def _without_head(tensors: Mapping[str, np.ndarray]) -> Tensors:
    return {name: array for name, array in tensors.items() if not name.startswith(LOGITS)}


def _offset_of(name: str) -> str:
    """An optional scale belongs where its offset does, and has its shape."""
    return name.removesuffix("gamma") + "beta" if name.endswith("/batch_norm/gamma") else name
