"""What a run says of the backbone: its trained weights, for `cia-extract --weights`, and a line for tables."""

from collections.abc import Mapping
from pathlib import Path

from cia_extract import __version__
from cia_extract.common import writes
from cia_extract.networks.weights import FINE_TUNED
from safetensors.torch import save_file

from cia_adapt.runs.key import RunKey
from cia_adapt.training import Snapshot, Trainer


def write(part: Path, key: RunKey, trainer: Trainer, selected: Snapshot) -> None:
    """backbone-<modality>.safetensors, the streams at the selected epoch, with a sentence on where they come from.

    Nothing where the run has trained on features. Raises what the disk and safetensors raise.
    """
    trunk = trainer.model.trunk
    for modality in () if trunk is None else trunk.streams:
        prefix = f"trunk.streams.{modality}."
        own = {name.removeprefix(prefix): x.contiguous() for name, x in selected.state.items() if name.startswith(prefix)}
        stated = {"provenance": _provenance(key, trainer, modality, selected.epoch)}
        with writes.whole(part / f"backbone-{modality}.safetensors") as file:
            save_file(own, file, metadata=stated)


def _provenance(key: RunKey, trainer: Trainer, modality: str, epoch: int) -> str:
    assert trainer.model.trunk is not None
    origin = trainer.model.trunk.origin[modality]
    teacher = key.target if key.method.supervision == "target" else key.source
    beside = f" and the frames of {key.target}, without labels" if key.method.needs_target else ""
    run = f"cia-adapt {__version__}, {key.setup.name}, {key.method.name}, seed {key.seed}, epoch {epoch}"
    return f"{FINE_TUNED} on the labels of {teacher}{beside} ({run}), from {origin['name']} ({origin['provenance']})"


def _named(origin: Mapping[str, str]) -> str:
    tuned = origin["provenance"].startswith(FINE_TUNED)
    return f"{origin['name']} ({origin['provenance']})" if tuned else origin["name"]


def line(trainer: Trainer) -> str:
    """Where the backbone comes from, for tables: empty where it is as somebody else has trained it.

    Weights that were fine-tuned before, here or at extraction, are named with the labels that they were tuned on.
    """
    if trainer.model.trunk is not None:
        names = [f"{modality} {_named(origin)}" for modality, origin in trainer.model.trunk.origin.items()]
        return f"trained with the method, from {', '.join(sorted(names))}"
    provenance = getattr(trainer.task.target_val.dataset, "provenance", {})
    streams = provenance.get("weights") or {}
    return "; ".join(
        f"{modality} {streams[modality]['provenance']}"
        for modality in trainer.task.modalities
        if str(streams.get(modality, {}).get("provenance", "")).startswith(FINE_TUNED)
    )
