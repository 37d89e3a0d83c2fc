"""How a network is run: eager torch, compiled torch or OpenVINO, in a precision, and the proof that its numbers are right.

Every engine is tried on one window against eager float32 before anything is extracted: libraries have shipped convolutions that
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

from cia_extract.common import switches
from cia_extract.common.console import Say
from cia_extract.common.errors import DataError, UsageError
from cia_extract.networks.streams import IN_CHANNELS, network_of
from cia_extract.recipes import Recipe

ENGINES: Final = ("auto", "eager", "compiled", "openvino")
PRECISIONS: Final = ("fp32", "tf32", "bf16", "fp16")
# Least cosine with eager float32 on the same window, by precision.
ENOUGH: Final = {"fp32": 0.999999, "tf32": 0.9999, "bf16": 0.999, "fp16": 0.999}
_DTYPE: Final = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Converting for OpenVINO takes about ten seconds a network and compiling up to a minute: `auto` does it for jobs that gain more.
WORTH_CONVERTING: Final = 200  # windows
WORTH_COMPILING: Final = 1500


@dataclass(frozen=True)
class Engine:
    """`run` takes [B, C, L, H, W] (I3D) or [B, C, H, W] (BN-Inception) to maps [B, 1024, h, w], float32 on `device`."""

    name: str
    precision: str
    device: torch.device
    batch: int
    fixed: bool
    """Only whole batches: a ragged one is filled up."""
    run: Callable[[Tensor], Tensor]
    cosine: float = 1.0
    difference: float = 0.0
    """Largest difference from eager float32 on the test window, relative to its largest value."""

    def describe(self) -> dict[str, Any]:
        return {
            "engine": self.name,
            "precision": self.precision,
            "device": str(self.device),
            "cosine_with_eager_fp32": round(self.cosine, 8),
            "relative_difference": float(f"{self.difference:.2g}"),
        }


class Trunk(nn.Module):
    """A network and what a recipe makes of its time slices: [B, …] → [B, 1024, h, w]."""

    def __init__(self, network: nn.Module, reduce: str) -> None:
        super().__init__()
        self.network, self.reduce = network, reduce

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.network(x)
        if maps.ndim == 4:
            return maps
        if self.reduce == "pairs" and maps.shape[2] > 2:
            # The official head averages neighbouring slices first: the ends count half.
            return (maps[:, :, 1:].mean(dim=2) + maps[:, :, :-1].mean(dim=2)) / 2
        return maps.mean(dim=2)


def example(recipe: Recipe, modality: str) -> Tensor:
    """One window of smooth moving noise, as a network sees it: what engines are tried on. [1, C, L, H, W] or [1, C, H, W]."""
    generator = torch.Generator().manual_seed(0)
    backbone = network_of(recipe.backbone, modality)
    channels = IN_CHANNELS[backbone][modality]
    size = recipe.audio.shape if modality == "audio" else (recipe.picture.crop,) * 2
    if backbone == "i3d":
        window = recipe.rgb.window if modality == "rgb" else recipe.flow.window
        coarse = torch.rand(1, channels, max(window // 4, 2), 14, 14, generator=generator) * 2 - 1
        return torch.nn.functional.interpolate(coarse, (window, *size), mode="trilinear")
    coarse = torch.rand(1, channels, 16, 16, generator=generator) * 2 - 1
    return 100 * torch.nn.functional.interpolate(coarse, size, mode="bilinear")


def build(
    network: nn.Module,
    recipe: Recipe,
    window: Tensor,
    device: torch.device,
    engine: str = "auto",
    precision: str = "fp32",
    batch: int | None = None,
    windows: int = 0,
    say: Say = print,
) -> Engine:
    """The engine for a folded network in evaluation mode, tried on `window` [1, C, …] float32.

    `windows` is how many are to be described: `auto` weighs compilation against it. What was asked for by name and fails its
    test is refused (DataError); what `auto` chose falls back to eager float32, saying so.
    """
    check_engine(engine, precision, device)
    chosen = _choose(device, windows) if engine == "auto" else engine
    reference = _eager(network, recipe, device, "fp32", batch)
    if (chosen, precision) == ("eager", "fp32"):
        return reference
    expected = reference.run(window.to(device))
    try:
        made = _BUILDERS[chosen](network, recipe, device, precision, batch, window)
        full = window.to(device).repeat(made.batch, *[1] * (window.ndim - 1)) if made.fixed else window.to(device)
        cosine, difference = _agreement(made.run(full)[:1], expected)
    except (RuntimeError, ImportError) as error:  # no compiler here, or a device without one of the network's operators
        cosine, difference, why = 0.0, 1.0, (str(error).splitlines() or [type(error).__name__])[0]
    else:
        why = f"cosine {cosine:.6f} with eager float32, {ENOUGH[precision]} is needed"
    if cosine >= ENOUGH[precision]:
        return Engine(**{**vars(made), "cosine": cosine, "difference": difference})
    if engine == "auto" and precision == "fp32":
        say(f"{chosen}: fails its test here ({why}); going on with eager")
        return reference
    raise DataError(f"--engine {chosen} --precision {precision}: fails its test on this machine ({why}); use --engine eager")


def check_engine(engine: str, precision: str, device: torch.device) -> None:
    """Raises UsageError for combinations that cannot be."""
    if engine not in ENGINES:
        raise UsageError(f"--engine {engine}: unknown, choose from {', '.join(ENGINES)}")
    if precision not in PRECISIONS:
        raise UsageError(f"--precision {precision}: unknown, choose from {', '.join(PRECISIONS)}")
    if precision == "tf32" and device.type != "cuda":
        raise UsageError("--precision tf32: exists on NVIDIA GPUs only; use fp32 here")
    if engine == "openvino":
        if importlib.util.find_spec("openvino") is None:
            raise UsageError("--engine openvino: not installed here; pip install openvino")
        if device.type != "cpu":
            raise UsageError("--engine openvino: runs on the CPU; add --device cpu, or use --engine compiled")
        if precision == "fp16":
            raise UsageError("--engine openvino --precision fp16: not on CPUs; use fp32 or bf16")


def _choose(device: torch.device, windows: int) -> str:
    if device.type == "cpu" and windows >= WORTH_CONVERTING and importlib.util.find_spec("openvino") is not None:
        return "openvino"
    has_compiler = device.type == "cuda" or bool(shutil.which("g++") or shutil.which("clang++"))
    return "compiled" if windows >= WORTH_COMPILING and has_compiler else "eager"


def _agreement(found: Tensor, expected: Tensor) -> tuple[float, float]:
    a, b = found.double().flatten(), expected.double().flatten()
    if not bool(torch.isfinite(a).all()):
        return 0.0, float("inf")
    return float(torch.cosine_similarity(a, b, dim=0)), float((a - b).abs().max() / b.abs().max())


def _prepared(network: nn.Module, recipe: Recipe, device: torch.device, precision: str) -> Trunk:
    """A copy of its own for each engine, so that the reference stays what it was."""
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
    import openvino

    size = batch or 1  # its latency mode already fills the cores with one window
    shape = [size, *example.shape[1:]]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tracing: sizes are fixed here, and the result is tested
        trunk = Trunk(network, recipe.network.reduce).eval()
        model = openvino.convert_model(trunk, example_input=torch.zeros(shape), input=[shape])
    # OpenVINO's own choice would be bfloat16 wherever the CPU has it.
    hints = {"INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16", "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(model, "CPU", hints)

    def run(batch: Tensor) -> Tensor:
        return torch.from_numpy(compiled(batch.contiguous().numpy(), share_inputs=True)[0].copy())

    return Engine("openvino", precision, device, size, True, run)


_Builder = Callable[[nn.Module, Recipe, torch.device, str, int | None, Tensor], Engine]
_BUILDERS: Final[dict[str, _Builder]] = {"eager": _eager, "compiled": _compiled, "openvino": _openvino}


def _batch(network: nn.Module, device: torch.device) -> int:
    """Windows at a time: on two cores four are fastest and take 1 GB of activations; a GPU wants more."""
    volume = any(isinstance(module, nn.Conv3d) for module in network.modules())
    if device.type == "cuda":
        return 32 if volume else 256
    return 4 if volume else 16
