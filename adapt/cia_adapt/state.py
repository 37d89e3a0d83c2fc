"""The whole state of an unfinished run in one file, so that it goes on bit for bit: tensors, and the rest as JSON beside them.

safetensors, no pickle; written under a temporary name, then renamed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from cia_extract import writes
from cia_extract.errors import DataError
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


def save(path: Path, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> None:
    """Write whole or not at all. Raises OSError, and safetensors' own error for what the disk says (`writes.translated`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writes.whole(path) as part:
        save_file({name: value.contiguous() for name, value in tensors.items()}, part, metadata={"state": json.dumps(rest)})


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Raises DataError for a file that is not such a state."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["state"])  # noqa: SIM118
    except Exception as error:
        raise DataError(f"{path}: not a state that can be resumed ({error}); --overwrite starts again") from error


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """{"<parameter number>.<name>": tensor}; numbers become tensors."""
    return {
        f"{number}.{name}": value.detach().clone() if isinstance(value, Tensor) else torch.tensor(value)
        for number, slots in optimiser.state_dict()["state"].items()
        for name, value in slots.items()
        if value is not None
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def random_tensors(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's generators."""
    found = {"cpu": torch.get_rng_state()}
    return found | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def restore_random(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(tensors["cpu"])
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"], device)


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with "prefix/", without it."""
    return {name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(prefix + "/")}


def prefixed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": value for name, value in tensors.items()}
