"""`cia-extract weights`: which checkpoints there are, where they come from, and what a file really is."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cia_extract.common import console
from cia_extract.common.errors import DataError, MismatchError, UsageError
from cia_extract.common.writes import whole

app = console.application("Weights: list the known ones, get the default, identify a file, convert between layouts.")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Names, what they are, where they come from, their licence, and whether they are in the cache."""
    from cia_extract.networks.weights import KNOWN, download

    path = download.cached()
    cached = {"kinetics": str(path) if path.is_file() else f"not yet; will be {path}"}
    rows = {name: asdict(known) | {"cached": cached.get(name, "never; bring the file")} for name, known in KNOWN.items()}
    console.print_json(rows) if as_json else console.print_fields(rows)


@app.command()
def get(name: Annotated[str, typer.Argument(help="A name that `cia-extract weights list` shows.")]) -> None:
    """Download the default weights into the cache, once; say where the others are to be had."""
    from cia_extract.networks import weights
    from cia_extract.networks.weights import KNOWN, download

    if name not in KNOWN:
        raise UsageError(f"weights get {name}: unknown, choose from {', '.join(KNOWN)}")
    known = KNOWN[name]
    if name != "kinetics":
        raise UsageError(
            f"weights get {name}: cannot be downloaded by name; take it from {known.source} ({known.licence}), compare "
            f"`cia-extract weights identify FILE` with: {known.check}; then pass --weights FILE"
        )
    path = download.fetch(console.say)
    download.check_cached(path, weights.read(path))
    console.out(f"{path}: {known.check}")


@app.command()
def identify(
    file: Annotated[Path, typer.Argument(help="A checkpoint.")],
    as_json: AsJson = False,
) -> None:
    """Say what a checkpoint is: layout, network, streams, checksums, and every tensor that does not fit. Code 3 if one does."""
    from cia_extract.networks import weights
    from cia_extract.networks.weights import identity, identity_line, misfits_by_stream

    checkpoint = weights.read(file)
    blob = identity.git_blob(file)
    misfits = misfits_by_stream(checkpoint)
    report = {
        "file": str(file),
        "network": checkpoint.network,
        "layout": checkpoint.layout,
        "streams": {stream: f"{len(tensors)} tensors" for stream, tensors in checkpoint.streams.items()},
        "identity": identity_line(checkpoint),
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
        raise UsageError(f"--out {out}: must end in .safetensors, the only format that is written")
    if out.exists() and not overwrite:
        raise MismatchError(f"{out}: is there already; pass --overwrite or another --out")
    from safetensors.numpy import save_file

    from cia_extract.networks import weights
    from cia_extract.networks.weights import identity_line, misfits_by_stream, renamed

    checkpoint = weights.read(file)
    misfits = [line for lines in misfits_by_stream(checkpoint).values() for line in lines]
    if misfits:
        raise DataError(
            f"weights {file}: {len(misfits)} tensors do not fit ({misfits[0]}); all of them: cia-extract weights identify FILE"
        )
    tensors = renamed(file, checkpoint, layout)
    try:
        with whole(out) as part:
            save_file(tensors, part)
    except Exception as error:  # safetensors has kinds of its own
        raise UsageError(f"--out {out}: cannot be written ({error})") from error
    console.out(f"{out}: {len(tensors)} tensors, {identity_line(checkpoint)}")
