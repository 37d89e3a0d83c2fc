"""Whether canonical tensors fit a network: a table of every tensor that does not, of which a message shows the first three."""

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
    """A network of one stream with its initial weights; `head` adds I3D's Kinetics classifier."""
    channels = IN_CHANNELS[backbone][modality]
    return I3D(channels, head) if backbone == "i3d" else BNInception(channels)


def shapes(backbone: str, modality: str, head: bool = False) -> dict[str, tuple[int, ...]]:
    """{canonical name: shape} of the tensors that a network needs, without the optional scales of I3D."""
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
    """Every tensor that does not fit the network: missing, foreign, of another shape, or with values that are not finite.

    Without `head` the Kinetics classifier may be missing or have any shape, as in fine-tuned files.
    """
    needed = shapes(backbone, modality, head)
    checked = tensors if head else _without_head(tensors)
    table = [Misfit(name, "is missing") for name in needed if name not in checked]
    for name, array in checked.items():
        shape = needed.get(_offset_name(name))
        if shape is None:
            table.append(Misfit(name, "does not belong"))
        elif array.shape != shape:
            table.append(Misfit(name, f"is {array.shape}, not {shape}"))
        elif not np.isfinite(array).all():
            table.append(Misfit(name, "holds values that are not finite"))
    return table


def fill(network: Network, tensors: Tensors) -> None:
    """Load canonical tensors, which must fit, into a network."""
    if isinstance(network, I3D):
        tensors = layouts.written(tensors if network.Logits is not None else _without_head(tensors), "network")
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in tensors.items()})


def _without_head(tensors: Mapping[str, np.ndarray]) -> Tensors:
    return {name: array for name, array in tensors.items() if not name.startswith(LOGITS)}


def _offset_name(name: str) -> str:
    """The name whose shape `name` must have: an optional scale has the shape of its offset."""
    return name.removesuffix("gamma") + "beta" if name.endswith("/batch_norm/gamma") else name
