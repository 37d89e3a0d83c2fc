"""The demo dataset: action clips, rendered when needed and the same every time (see docs/demo.md).

Importing this module is cheap: no av, cv2 or numpy. The parts, in the order a clip goes through them:

    domains    what differs between the domains, as ranges of every parameter
    motions    what the figure does: class and time -> pose
    figure     who does it: actor and pose -> joints -> capsules
    props      the things it holds, climbs or strikes
    backdrop   the background
    scene      all of that through a camera, under a light, onto a sensor -> frames (draw: the shapes)
    sound      events of the motion -> samples
    render     frames and samples -> H.264 and AAC in MP4
    files      the clips and manifest rows of a whole dataset
"""

from collections.abc import Callable
from pathlib import Path

from cia_extract.datasets.demo.classes import CLASSES, DOMAINS, VERSION

__all__ = ["CLASSES", "DOMAINS", "VERSION", "build"]


def build(
    root: Path,
    clips_per_class: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> list[dict[str, str]]:
    """Render the clips that are missing under `root` and return the manifest rows of all clips.

    Args:
        root: folder of this dataset; created if absent. Clips go to `<domain>/<class>/<clip>.mp4`.
        clips_per_class: training clips per class and domain; max(1, half as many) validation clips are added.
        seed: 0 ... 2**32 - 1. Other seeds give other actors and clips and need another folder.
        progress: called with (rendered clips, all clips) at the start and after every clip.
        workers: number of processes; by default one per CPU.

    Returns:
        One dict per clip with the keys clip, path (relative to root, posix), label, split, group (the actor),
        domain and seed (the clip's own, as text).

    Raises:
        ValueError: a bad size or seed, or `root` holds the clips of another seed or version.
    """
    from cia_extract.datasets.demo.files import build as run

    return run(Path(root), clips_per_class, seed, progress, workers)
