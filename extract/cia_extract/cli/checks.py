"""Values of flags that no extraction can use, refused before anything is read: one line that names the flag."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from cia_extract.common.errors import UsageError
from cia_extract.common.suggest import did_you_mean

# As in `engines` and `flow`, which import torch.
ENGINES: Final = ("auto", "eager", "compiled", "openvino")
PRECISIONS: Final = ("fp32", "tf32", "bf16", "fp16")
FLOW_BY: Final = ("auto", "opencv", "torch")
MOST_WORKERS: Final = 1024
MOST_AT_A_TIME: Final = 65536
LONGEST_S: Final = 1e7  # four months


def check(
    engine: str,
    precision: str,
    flow_by: str,
    batch: int | None,
    workers: int | None,
    timeout: float,
    clips_per_class: int,
    seed: int,
) -> None:
    """Raises UsageError for an unknown word or a number out of reach; lower limits are the command line's own."""
    check_choice("--engine", engine, ENGINES)
    check_choice("--precision", precision, PRECISIONS)
    check_choice("--flow-by", flow_by, FLOW_BY)
    most = {"--batch": MOST_AT_A_TIME, "--workers": MOST_WORKERS, "--clips-per-class": 10_000, "--seed": 2**32 - 1}
    values = {"--batch": batch, "--workers": workers, "--clips-per-class": clips_per_class, "--seed": seed}
    for flag, value in values.items():
        if value is not None and value > most[flag]:
            raise UsageError(f"{flag} {str(value)[:30]}: must be {most[flag]} or less")
    if not math.isfinite(timeout) or timeout > LONGEST_S:
        raise UsageError(f"--timeout {timeout:g}: give seconds, {LONGEST_S:.0f} or less")


def check_rate(rate: float | None) -> None:
    """Raises UsageError for a rate that no clip can be read at."""
    if rate is not None and not 0 <= rate <= 1000:
        raise UsageError(f"--rate {rate:g}: give frames a second, 1000 or less")


def check_choice(flag: str, value: str, known: Iterable[str]) -> None:
    """Raises UsageError for a word that is not known; an empty one means the default."""
    words = list(known)
    if value and value not in words:
        shown = value if value.isprintable() else ascii(value)
        raise UsageError(f"{flag} {shown[:60]}: unknown, choose from {', '.join(words)}{did_you_mean(value[:60], words)}")


def check_paths(out: Path, flow_cache: Path | None, weights: Sequence[str]) -> None:
    """Raises UsageError where a folder is given for a file, a file for a folder, or a path that cannot exist."""
    from cia_extract.datasets import sources
    from cia_extract.features import writer

    writer.check_out(out)
    if flow_cache is not None:
        sources.check_folder("--flow-cache", flow_cache)
    for text in weights:
        prefix, _, rest = text.partition("=")
        path = rest if prefix in {"rgb", "flow", "audio"} else text
        if path and path not in {"kinetics", "random"}:
            sources.check_file("--weights", Path(path))
