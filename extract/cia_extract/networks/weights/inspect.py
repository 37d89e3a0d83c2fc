"""What `cia-extract weights` prints of a checkpoint, and its tensors under another port's names."""

from pathlib import Path
from typing import TYPE_CHECKING

from cia_extract.common.errors import UsageError

if TYPE_CHECKING:
    from cia_extract.networks.weights.layouts import Checkpoint, Tensors


def renamed(file: Path, checkpoint: "Checkpoint", layout: str) -> "Tensors":
    """The tensors of `file` under their names in `layout` ("": the canonical ones); two streams in one file keep their prefixes.

    Raises UsageError for a layout that cannot hold the file's network or streams.
    """
    import cia_extract.networks.weights.layouts as layouts

    if checkpoint.network == "tbn":
        if layout:
            raise UsageError(f"--layout {layout}: is a layout of I3D, but {file} holds a TBN; leave --layout out")
        prefixes = {
            stream: "" if checkpoint.layout == "bninception" else f"{_released(stream)}." for stream in checkpoint.streams
        }
    else:
        layout = layout or "tf"
        scopes = {"rgb": "RGB/inception_i3d/", "flow": "Flow/inception_i3d/"}
        several = len(checkpoint.streams) > 1
        if several and layout != "tf":
            raise UsageError(
                f"--layout {layout}: holds one stream only, but {file} has {', '.join(checkpoint.streams)}; use --layout tf"
            )
        prefixes = {stream: scopes[stream] if several else "" for stream in checkpoint.streams}
    return {
        f"{prefixes[stream]}{name}": array
        for stream, tensors in checkpoint.streams.items()
        for name, array in (layouts.written(tensors, layout) if layout else tensors).items()
    }


def _released(stream: str) -> str:
    """The released TBN files' name of a modality."""
    return "spec" if stream == "audio" else stream


def misfits_by_stream(checkpoint: "Checkpoint") -> dict[str, list[str]]:
    """{stream: one line for each tensor that does not fit its network}; "file" has the names that belong to no stream."""
    from cia_extract.networks.streams import IN_CHANNELS
    from cia_extract.networks.weights.fit import misfits

    table = {"file": [f"{name} does not belong" for name in checkpoint.extra]}
    for stream, tensors in checkpoint.streams.items():
        # A stream of unknown modality is compared with RGB, so that its first convolution shows among the misfits.
        modality = stream if stream in IN_CHANNELS[checkpoint.network] else "rgb"
        table[stream] = [str(misfit) for misfit in misfits(checkpoint.network, modality, tensors)]
    return {stream: lines for stream, lines in table.items() if lines}


def identity_line(checkpoint: "Checkpoint") -> str:
    """What the checkpoint is, by checksum (`rgb_scratch 230/230`) or, for a TBN, by its streams and convolutions."""
    import cia_extract.networks.weights.identity as identity
    from cia_extract.networks.weights.fit import shapes

    if checkpoint.network == "unknown":
        return "no I3D and no TBN"
    if checkpoint.network == "i3d":
        return "; ".join(str(identity.identify(tensors)) for tensors in checkpoint.streams.values())
    title = "BN-Inception of one stream" if checkpoint.layout == "bninception" else "TBN"
    gaps = []
    for stream, tensors in checkpoint.streams.items():
        kernels = [name for name in shapes("tbn", "rgb") if name.endswith(".weight") and not name.endswith("_bn.weight")]
        absent = [name.removesuffix(".weight") for name in kernels if name not in tensors]
        if absent:
            gaps.append(f"{_released(stream)} lacks {len(absent)} of {len(kernels)} convolutions ({', '.join(absent[:3])} …)")
    convolutions = "; ".join(gaps) or "all 69 convolutions present"
    streams = ", ".join(map(_released, checkpoint.streams))
    return f"{title}, streams {streams}, {convolutions}, no reference checksum known"
