"""The whole state of an unfinished run in one file, so that it goes on bit for bit: tensors, and the rest as JSON beside them.

safetensors, no pickle; written under a temporary name, then renamed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from cia_extract.common import writes
from cia_extract.common.errors import DataError
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
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            rest = json.loads(file.metadata()["state"])
        if not isinstance(rest, dict) or not isinstance(rest.get("history"), list) or not rest["history"]:
            raise ValueError("has no history")
        if not isinstance(rest.get("circumstances", {}), dict):
            raise ValueError("its circumstances are no table")
        return tensors, rest
    except Exception as error:  # safetensors has its own kinds
        raise unusable(path, error) from error


def unusable(path: Path, error: Exception) -> DataError:
    """The one message of a state that is damaged or of something else."""
    return DataError(f"{path}: not a state that can be resumed ({error or type(error).__name__}); --overwrite starts again")


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """{"<parameter number>.<name>": tensor}; numbers become tensors."""
    return {
        f"{number}.{name}": value.detach().clone() if isinstance(value, Tensor) else torch.tensor(value)
        for number, slots in optimiser.state_dict()["state"].items()
        for name, value in slots.items()
        if value is not None
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Raises ValueError where a tensor has not its parameter's shape: torch would notice at the next step only."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        if value.ndim and value.shape != parameters[int(number)].shape:
            raise ValueError(f"the optimiser's {key} has shape {list(value.shape)}")
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
