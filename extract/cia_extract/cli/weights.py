"""`cia-extract weights`: which checkpoints there are, where they come from, and what a file really is."""

import re
from pathlib import Path
from typing import Annotated

import typer

from cia_extract.common import console
from cia_extract.common.errors import DataError, MismatchError, UsageError
from cia_extract.common.suggest import did_you_mean
from cia_extract.common.writes import whole

app = console.application(
    "List, get, identify and convert weights of the networks.",
    "cia-extract weights list",
    "cia-extract weights get rgb_imagenet",
)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the known weights by name. Each has what it is, where it comes from, its licence, and whether it is in the cache.

    Examples:
        cia-extract weights list
        cia-extract weights list --json
    """
    from cia_extract.networks.weights import KNOWN, cache

    rows = {}
    for name, known in KNOWN.items():
        path = cache.cached(name)
        rows[name] = {
            "network": known.network,
            "what": known.what,
            "source": known.source,
            "licence": known.licence,
            "check": known.check,
            "addresses": list(known.addresses) or ["PyPI" if name == "kinetics" else "none is known; bring the file"],
            "cached": str(path) if path.is_file() else f"not yet; will be {path}",
        }
    console.print_json(rows) if as_json else console.print_fields(rows)


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="A name that `cia-extract weights list` shows.")],
    source: Annotated[
        str, typer.Option("--from", metavar="FILE|URL", help="File or address to take them from. [default: public addresses]")
    ] = "",
    sha256: Annotated[str, typer.Option(help="SHA-256 that the published file must have, hex.")] = "",
) -> None:
    """Put weights into the cache and check them. They are downloaded or taken from a file. A download that was cut goes on.

    Examples:
        cia-extract weights get rgb_imagenet
        cia-extract weights get tbn-epic-55 --from TBN-epic-kitchens-55.pth
    """
    from cia_extract.networks import weights
    from cia_extract.networks.weights import KNOWN, cache, identity_line

    if name not in KNOWN:
        raise UsageError(f"weights get {name}: unknown, choose from {', '.join(KNOWN)}{did_you_mean(name, KNOWN)}")
    if sha256 and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise UsageError(f"--sha256 {sha256[:70]}: give 64 hexadecimal digits")
    path = cache.get(name, console.say, source, sha256)
    checkpoint = weights.read(path)
    cache.check_cached(name, path, checkpoint)
    console.out(f"{path}: {KNOWN[name].check if KNOWN[name].crc32c else identity_line(checkpoint)}")


@app.command()
def identify(
    file: Annotated[Path, typer.Argument(help="A checkpoint.")],
    as_json: AsJson = False,
) -> None:
    """Say what a checkpoint is. Its layout, network, streams and checksums are printed, and every tensor that does not fit. Exit
    code 3 where one does not.

    Examples:
        cia-extract weights identify flow_imagenet.pt
        cia-extract weights identify TBN-epic-kitchens-55.pth --json
    """
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
    """Write a checkpoint as safetensors. That format holds no code. Values stay as they are, bit for bit.

    Examples:
        cia-extract weights convert flow_imagenet.pt --out flow_imagenet.safetensors
        cia-extract weights convert i3d.safetensors --layout piergiaj --out ported.safetensors
    """
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
