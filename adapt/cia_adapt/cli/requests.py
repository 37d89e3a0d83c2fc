"""From the flags of a command that trains or times to the request that `experiments` takes."""

from typing import TYPE_CHECKING

from cia_extract.common import console, switches
from cia_extract.common.errors import UsageError

from cia_adapt import config
from cia_adapt.cli.options import Data, Footage, Machine, Runs

if TYPE_CHECKING:
    from cia_adapt import footage
    from cia_adapt.experiments import Request


def request(
    chosen: config.Chosen, data: Data, machine: Machine, runs: Runs, resume: bool = False, footage: Footage | None = None
) -> "Request":
    """One method on these data. Raises UsageError."""
    filmed = _footage(footage, machine) if footage is not None and footage.clips else None
    if data.features is None and filmed is None:
        raise UsageError("--features is missing; make a file with cia-extract, then: cia-adapt --features feats.h5")
    if data.features is not None and filmed is not None:
        raise UsageError("--features and --clips: give one of both, a feature file or the clips themselves")
    from cia_adapt.experiments import Request, clips
    from cia_adapt.runs import board
    from cia_adapt.training import together

    clips.check_input(chosen.setup, filmed is not None)
    if runs.tensorboard:
        board.check_installed()

    switches.keep_freed_memory()
    device = together.own_device(console.device(machine.device))
    if machine.tier == "device" and device.type == "cpu":
        raise UsageError("--tier device: means a GPU's memory, and the device is the CPU; use --tier ram")
    return Request(
        features=data.features,
        footage=filmed,
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
        tensorboard=runs.tensorboard,
        overwrite=runs.overwrite,
        resume=resume,
        checkpointing=footage is not None and footage.checkpointing,
    )


def _footage(asked: Footage, machine: Machine) -> "footage.Footage":
    from cia_adapt import footage

    if machine.compiled:
        raise UsageError("--compile: does not go with --clips")
    return footage.Footage(asked.clips, asked.root, asked.frame_cache, asked.weights, asked.flow, asked.processes)
