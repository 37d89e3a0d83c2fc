"""From the flags of a command that trains or times to the request that `experiments` takes."""

from typing import TYPE_CHECKING

from cia_extract.common import console, switches
from cia_extract.common.errors import UsageError

from cia_adapt import config
from cia_adapt.cli.options import Data, Machine, Runs

if TYPE_CHECKING:
    from cia_adapt.experiments import Request


def request(chosen: config.Chosen, data: Data, machine: Machine, runs: Runs, resume: bool = False) -> "Request":
    """One method on these data. Raises UsageError."""
    if data.features is None:
        raise UsageError("--features is missing; make a file with cia-extract, then: cia-adapt --features feats.h5")
    from cia_adapt.experiments import Request

    switches.keep_freed_memory()
    device = console.device(machine.device)
    if machine.tier == "device" and device.type == "cpu":
        raise UsageError("--tier device: means a GPU's memory, and the device is the CPU; use --tier ram")
    return Request(
        features=data.features,
        chosen=chosen,
        sources=data.source,
        target=data.target,
        modalities=data.modality,
        mapping=data.mapping,
        manifests=data.manifest,
        device=device,
        precision=machine.precision,
        compiled=machine.compiled,
        tier=None if machine.tier == "auto" else machine.tier,
        seeds=tuple(range(runs.seeds)),
        runs=runs.runs,
        validators=runs.validators,
        keep_state=runs.keep_state,
        overwrite=runs.overwrite,
        resume=resume,
    )
