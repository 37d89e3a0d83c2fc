"""How a network runs: eager torch, compiled torch or OpenVINO, in some precision, and the test that its numbers are right.

Every engine is compared with eager float32 on one window before anything is extracted: libraries have shipped convolutions that
were wrong or tens of times slower in one precision. cuDNN 9.10.2 gave wrong 3D convolutions in bfloat16 for large shapes
(https://github.com/pytorch/pytorch/issues/163539); torch 2.9.0 ran them without cuDNN, four times slower (issue 166122); on CPUs
with AMX those of width 1 were wrong in bfloat16 (issue 169688).
"""

import importlib.util
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from cia_extract.common import machine, switches
from cia_extract.common.console import Say
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.shortage import is_shortage
from cia_extract.recipes import Recipe

ENGINES: Final = ("auto", "eager", "compiled", "openvino")
PRECISIONS: Final = ("fp32", "tf32", "bf16", "fp16")
# Least cosine with eager float32 on the same window, by precision.
ENOUGH: Final = {"fp32": 0.999999, "tf32": 0.9999, "bf16": 0.999, "fp16": 0.999}
_DTYPE: Final = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Converting for OpenVINO takes about 10 s a network, compiling up to a minute: `auto` does so only for jobs that gain more.
WORTH_CONVERTING: Final = 200  # windows
WORTH_COMPILING: Final = 1500


@dataclass(frozen=True)
class Engine:
    """A network that is ready to run.

    `run` maps [B, C, L, H, W] (I3D) or [B, C, H, W] (BN-Inception) to [B, 1024, h, w], float32 on `device`.
    """

    name: str
    precision: str
    device: torch.device
    batch: int
    fixed: bool
    """It takes batches of exactly `batch` windows; the caller fills up a smaller one."""
    run: Callable[[Tensor], Tensor]
    cosine: float = 1.0
    """Cosine with eager float32 on the test window."""
    difference: float = 0.0
    """Largest difference from eager float32 on the test window, relative to its largest value."""

    def describe(self) -> dict[str, Any]:
        """The engine, its precision and device, and how it did on the test window, as the feature file records them."""
        return {
            "engine": self.name,
            "precision": self.precision,
            "device": str(self.device),
            "cosine_with_eager_fp32": round(self.cosine, 8),
            "relative_difference": float(f"{self.difference:.2g}"),
        }


class Trunk(nn.Module):
    """A network, and the average over its time slices as the recipe's `network.reduce` says: [B, …] → [B, 1024, h, w]."""

    def __init__(self, network: nn.Module, reduce: str) -> None:
        super().__init__()
        self.network, self.reduce = network, reduce

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, L, H, W] or [B, C, H, W] → [B, 1024, h, w]."""
        maps: Tensor = self.network(x)
        if maps.ndim == 4:
            return maps
        if self.reduce == "pairs" and maps.shape[2] > 2:
            # The official head averages neighbouring slices first: the ends count half.
            return (maps[:, :, 1:].mean(dim=2) + maps[:, :, :-1].mean(dim=2)) / 2
        return maps.mean(dim=2)


def build(
    network: nn.Module,
    recipe: Recipe,
    example: Tensor,
    device: torch.device,
    engine: str = "auto",
    precision: str = "fp32",
    batch: int | None = None,
    windows: int = 0,
    say: Say = print,
) -> Engine:
    """The engine for a folded network in evaluation mode, tested on `example` [1, C, …] float32 against eager float32.

    `windows` is how many will be described: `auto` weighs compilation against it. Raises DataError if an engine that was named
    fails the test; one that `auto` chose falls back to eager float32 and says so. Raises UsageError as `check_engine`.
    """
    check_engine(engine, precision, device)
    name = _choose(device, windows) if engine == "auto" else engine
    reference = _eager(network, recipe, device, "fp32", batch)
    if (name, precision) == ("eager", "fp32"):
        return reference
    expected = reference.run(example.to(device))
    try:
        candidate = _BUILDERS[name](network, recipe, device, precision, batch, example)
        copies = candidate.batch if candidate.fixed else 1
        maps = candidate.run(example.to(device).repeat(copies, *[1] * (example.ndim - 1)))
        cosine, difference = _agreement(maps[:1], expected)
    except (RuntimeError, ImportError) as error:  # no compiler here, or a device without one of the network's operators
        if is_shortage(error):
            raise
        cosine, difference, why = 0.0, 1.0, (str(error).splitlines() or [type(error).__name__])[0]
    else:
        why = f"cosine {cosine:.6f} with eager float32, at least {ENOUGH[precision]} is needed"
    if cosine >= ENOUGH[precision]:
        return Engine(**{**vars(candidate), "cosine": cosine, "difference": difference})
    if engine == "auto" and precision == "fp32":
        say(f"engine {name}: fails its test on this machine ({why}); going on with eager")
        return reference
    raise DataError(f"--engine {name} --precision {precision}: fails its test on this machine ({why}); use --engine eager")


def check_engine(engine: str, precision: str, device: torch.device) -> None:
    """Raise UsageError for an unknown engine or precision, or a combination that this machine or device cannot run."""
    if engine not in ENGINES:
        raise UsageError(f"--engine {engine}: unknown, choose from {', '.join(ENGINES)}")
    if precision not in PRECISIONS:
        raise UsageError(f"--precision {precision}: unknown, choose from {', '.join(PRECISIONS)}")
    if precision == "tf32" and device.type != "cuda":
        raise UsageError("--precision tf32: exists on NVIDIA GPUs only; use fp32 here")
    if engine == "openvino":
        if importlib.util.find_spec("openvino") is None:
            raise UsageError("--engine openvino: openvino is not installed; pip install openvino")
        if device.type != "cpu":
            raise UsageError("--engine openvino: runs on the CPU; add --device cpu, or use --engine compiled")
        if precision == "fp16":
            raise UsageError("--engine openvino --precision fp16: does not run on CPUs; use fp32 or bf16")


def _choose(device: torch.device, windows: int) -> str:
    if device.type == "cpu" and windows >= WORTH_CONVERTING and importlib.util.find_spec("openvino") is not None:
        return "openvino"
    has_compiler = device.type == "cuda" or bool(shutil.which("g++") or shutil.which("clang++"))
    return "compiled" if windows >= WORTH_COMPILING and has_compiler else "eager"


def _agreement(maps: Tensor, expected: Tensor) -> tuple[float, float]:
    """(cosine, largest difference relative to the largest expected value); (0, ∞) if `maps` has values that are not finite."""
    a, b = maps.double().flatten(), expected.double().flatten()
    if not bool(torch.isfinite(a).all()):
        return 0.0, float("inf")
    return float(torch.cosine_similarity(a, b, dim=0)), float((a - b).abs().max() / b.abs().max())


def _prepared(network: nn.Module, recipe: Recipe, device: torch.device, precision: str) -> Trunk:
    """A copy of the network for one engine, in its precision and memory layout; the reference stays as it was."""
    import copy

    trunk = Trunk(copy.deepcopy(network), recipe.network.reduce).eval().to(device, _DTYPE[precision])
    volume = any(isinstance(module, nn.Conv3d) for module in trunk.modules())
    layout = torch.channels_last_3d if volume else torch.channels_last
    return trunk.to(memory_format=layout)  # type: ignore[call-overload]


def _in_precision(run: Callable[[Tensor], Tensor], precision: str) -> Callable[[Tensor], Tensor]:
    def described(batch: Tensor) -> Tensor:
        with torch.no_grad(), switches.tf32(precision == "tf32"):
            return run(batch.to(_DTYPE[precision])).float()

    return described


def _eager(
    network: nn.Module, recipe: Recipe, device: torch.device, precision: str, batch: int | None, example: Tensor | None = None
) -> Engine:
    run = _in_precision(_prepared(network, recipe, device, precision), precision)
    return Engine("eager", precision, device, batch or _batch(network, device), False, run)


def _compiled(
    network: nn.Module, recipe: Recipe, device: torch.device, precision: str, batch: int | None, example: Tensor
) -> Engine:
    trunk = torch.compile(_prepared(network, recipe, device, precision), dynamic=False)

    def run(batch: Tensor) -> Tensor:
        with switches.frozen_weights():
            return trunk(batch)

    return Engine("compiled", precision, device, batch or _batch(network, device), True, _in_precision(run, precision))


def _openvino(
    network: nn.Module, recipe: Recipe, device: torch.device, precision: str, batch: int | None, example: Tensor
) -> Engine:
    switches.openvino_without_telemetry()
    import openvino

    size = batch or 1  # its latency mode already fills the cores with one window
    shape = [size, *example.shape[1:]]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tracing: sizes are fixed here, and the result is tested
        trunk = Trunk(network, recipe.network.reduce).eval()
        model = openvino.convert_model(trunk, example_input=torch.zeros(shape), input=[shape])
    # OpenVINO's own choice would be bfloat16 wherever the CPU has it.
    hints = {"INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16", "PERFORMANCE_HINT": "LATENCY"}
    if machine.cores() < machine.in_mask():  # a quota, which it does not look at
        hints["INFERENCE_NUM_THREADS"] = str(machine.cores())
    compiled = openvino.Core().compile_model(model, "CPU", hints)

    def run(batch: Tensor) -> Tensor:
        return torch.from_numpy(compiled(batch.contiguous().numpy(), share_inputs=True)[0].copy())

    return Engine("openvino", precision, device, size, True, run)


_Builder = Callable[[nn.Module, Recipe, torch.device, str, int | None, Tensor], Engine]
_BUILDERS: Final[dict[str, _Builder]] = {"eager": _eager, "compiled": _compiled, "openvino": _openvino}


def _batch(network: nn.Module, device: torch.device) -> int:
    """Default windows in a batch: on two cores 4 are fastest and take 1 GB of activations; a GPU is fastest with more."""
    volume = any(isinstance(module, nn.Conv3d) for module in network.modules())
    if device.type == "cuda":
        return 32 if volume else 256
    return 4 if volume else 16
