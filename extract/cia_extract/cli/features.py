"""`cia-extract info`, `verify`, `compare` and `merge`: looking at feature files."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cia_extract.common import console
from cia_extract.common.errors import DataError, UsageError

if TYPE_CHECKING:
    from cia_extract.features import DatasetFeatures

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
File = Annotated[Path, typer.Argument(help="A feature file.")]


def register(app: typer.Typer) -> None:
    """Add the commands that read feature files."""
    for command in (info, verify, compare, merge):
        app.command()(command)


def info(
    file: File = Path("feats.h5"),
    as_json: Json = False,
    page: Annotated[
        Path | None, typer.Option("--html", help="HTML page to write instead: clips by class, failures, ranges, nearest clips.")
    ] = None,
) -> None:
    """Show what a feature file holds. Its datasets, clips, states, weights and recipe are printed, or written as an HTML page.

    Examples:
        cia-extract info feats.h5
        cia-extract info feats.h5 --html info.html
    """
    from cia_extract import features

    if page is not None:
        if as_json:
            raise UsageError("--html and --json: choose one")
        from cia_extract import pages
        from cia_extract.datasets import sources

        sources.check_file("--html", page)
        pages.overview.write(file, page, console.say)
        console.out(f"page: {page.resolve()}")
        return
    described = {name: _describe(dataset) for name, dataset in features.open_features(file).items()}
    if as_json:
        console.print_json(described)
        return
    for name, fields in described.items():
        console.out(f"{file}: dataset '{name}'")
        console.print_fields(fields, indent="  ")


def verify(
    file: File = Path("feats.h5"),
    redo: Annotated[bool, typer.Option("--redo", help="Put damaged rows back among those to do.")] = False,
) -> None:
    """Read every finished row and check it against its CRC32C. Exit code 3 when any is damaged.

    Examples:
        cia-extract verify feats.h5
        cia-extract verify feats.h5 --redo
    """
    from cia_extract import features
    from cia_extract.features import FAILED

    damaged, rows = 0, 0
    for name, dataset in features.open_features(file).items():
        bad: list[tuple[int, str]] = []
        for modality in dataset.modalities:
            rows += int(dataset.done([modality]).sum())
            if "ledger_crc32c" in dataset.regions:  # of a failed row why it failed is checked
                rows += int((dataset.array("status")[:, dataset.modalities.index(modality)] == FAILED).sum())
            for row, line in dataset.damaged_rows(modality).items():
                console.out(f"{name}: {line}")
                bad.append((row, modality))
        damaged += len(bad)
        if bad and redo:
            with features.to_fill(dataset, console.say) as (claims, writer):
                for row, modality in bad:
                    if claims.take(row):  # else somebody writes it at this moment
                        writer.redo(row, modality)
                        claims.give_back(row)
    if damaged and redo:
        console.out(f"{file}: {damaged} of {rows} rows are to be done again; run the cia-extract command that made the file")
        return
    if damaged:
        raise DataError(f"{file}: {damaged} of {rows} rows are damaged; add --redo, then run the command that made the file")
    console.out(f"{file}: {rows} rows, all as they were written")


def compare(
    a: Annotated[Path, typer.Argument(help="A feature file, or a folder of .npy, .npz or .pt files.")],
    b: Annotated[Path, typer.Argument(help="The other one.")],
    dataset: Annotated[str, typer.Option(help="Which dataset of a feature file. [default: the common one]")] = "",
    again: Annotated[bool, typer.Option("--again", help="Extract a clip of A again in other ways, to find what B did.")] = False,
    weights: Annotated[list[str], typer.Option(help="With --again: A's weights, where they are not the default ones.")] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Compare two sets of features clip by clip. The last lines say where differences may come from.

    Examples:
        cia-extract compare feats.h5 other_features/
        cia-extract compare feats.h5 other.h5 --dataset ucf --again
    """
    from cia_extract.comparison import compare as comparing
    from cia_extract.comparison import reextraction

    repeat = reextraction.load(a, dataset or None, weights) if again else None
    comparison = comparing.compare(a, b, dataset or None, repeat)
    if repeat is not None and repeat.note:
        comparison.diagnosis.insert(0, repeat.note)
    if as_json:
        console.print_json(comparison.as_dict())
        return
    for line in comparing.lines(comparison):
        console.out(line)


def merge(
    files: Annotated[list[Path], typer.Argument(help="Feature files made apart, for example with --shard on several machines.")],
    out: Annotated[Path, typer.Option(help="The file to make or continue.")],
) -> None:
    """Put the finished rows of several feature files into one. Rows are checked as they are copied; a second run continues.

    Examples:
        cia-extract merge part1.h5 part2.h5 --out feats.h5
        cia-extract merge part*.h5 --out feats.h5
    """
    from cia_extract.features import merging

    for line in merging.merge(files, out, console.say):
        console.out(line)


def _describe(dataset: "DatasetFeatures") -> dict[str, Any]:
    from cia_extract import features
    from cia_extract.features import failures

    status, states = (
        dataset.array("status"),
        {"to do": features.TO_DO, "done": features.DONE, "failed": features.FAILED},
    )
    columns = dataset.columns
    domains = columns.get("domain", [dataset.name] * len(dataset))
    splits = Counter(f"{domain}/{split}" for domain, split in zip(domains, columns["split"], strict=True))
    return {
        "clips": len(dataset),
        "clips by domain and split": dict(sorted(splits.items())),
        "classes": sorted(set(columns["label"])),
        **{
            modality: {state: int((status[:, m] == code).sum()) for state, code in states.items()}
            for m, modality in enumerate(dataset.modalities)
        },
        "outcomes": failures.counts(dataset),
        **({"damaged": damaged} if (damaged := failures.damaged(dataset)) else {}),
        "gigabytes": round(len(dataset) * features.row_bytes(dataset.frames, dataset.modalities) / 1e9, 3),
        "recipe": dataset.provenance,
        "digest": dataset.digest(),
    }
