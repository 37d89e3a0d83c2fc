"""The whole state of an unfinished run in one safetensors file, so that training continues bit for bit: tensors, and JSON.

No pickle. The file is written under a temporary name, then renamed. It holds its own SHA-256.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from cia_extract.common import sparse_files, writes
from cia_extract.common.errors import DataError
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import cia_adapt.runs.files as files


def save(path: Path, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> None:
    """Write tensors and `rest`, as JSON, whole or not at all. Raises OSError, and safetensors' own error of the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors, text = {name: value.contiguous() for name, value in tensors.items()}, json.dumps(rest)
    with writes.whole(path) as part:
        save_file(tensors, part, metadata={"state": text, "sha256": _sha256(tensors, text)})


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, rest) as `save` wrote them. Raises DataError for a file that is not such a state."""
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ValueError("it is no file")
        sparse_files.check(path)
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
        if metadata.get("sha256") not in (None, _sha256(tensors, metadata["state"])):  # versions before wrote none
            raise ValueError("its SHA-256 is another: it was changed after it was written")
        if files.values(metadata["state"]) > files.MOST_VALUES:
            raise ValueError("it has more values than the history of a run")
        rest = json.loads(metadata["state"])
        if not isinstance(rest, dict) or not isinstance(rest.get("history"), list) or not rest["history"]:
            raise ValueError("it has no history")
        if not isinstance(rest.get("circumstances", {}), dict):
            raise ValueError("its circumstances are no JSON object")
        return tensors, rest
    except Exception as error:  # safetensors has its own kinds
        raise unusable(path, error) from error


def _sha256(tensors: Mapping[str, Tensor], text: str) -> str:
    """The SHA-256 of the text, then of each tensor's name, type, shape and bytes, in the order of names."""
    digest = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def unusable(path: Path, error: Exception) -> DataError:
    """The error of a state file that is damaged or of another run."""
    return DataError(f"{path}: not a state that can be resumed ({error or type(error).__name__}); --overwrite starts again")


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as {"<parameter's number>.<name>": tensor}; numbers become tensors."""
    return {
        f"{number}.{name}": value.detach().clone() if isinstance(value, Tensor) else torch.tensor(value)
        for number, slots in optimiser.state_dict()["state"].items()
        for name, value in slots.items()
        if value is not None
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser the state that `optimiser_tensors` took.

    Raises ValueError where a tensor does not have its parameter's shape: torch would notice only at the next step.
    """
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        if value.ndim and value.shape != parameters[int(number)].shape:
            raise ValueError(f"the optimiser's {key} has shape {list(value.shape)}")
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def random_tensors(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's random generators, {"cpu": …, "cuda": that of the device, where it is a GPU}."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def restore_random(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Set torch's random generators to the states that `random_tensors` took."""
    torch.set_rng_state(tensors["cpu"])
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"], device)


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with "<prefix>/", by their names without it."""
    return {name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(prefix + "/")}


def prefixed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors with "<prefix>/" before their names; `under` undoes it."""
    return {f"{prefix}/{name}": value for name, value in tensors.items()}
