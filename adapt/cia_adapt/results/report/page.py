"""Write the report: one HTML file with everything inside, and beside it the t-SNE coordinates as a CSV file."""

import base64
import csv
import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from cia_extract import __version__
from cia_extract.common import spreadsheets, writes
from cia_extract.common.console import Say
from cia_extract.common.errors import CiaError, DataError, UsageError
from cia_extract.common.names import printable

import cia_adapt.results.report.consensus as consensus
import cia_adapt.results.report.figures as figures
from cia_adapt import runs
from cia_adapt.results.comparison import check_comparable
from cia_adapt.results.figures import tsne
from cia_adapt.results.statistics import summary
from cia_adapt.results.table import NOTE, backbones, transductive
from cia_adapt.runs import files


def write(folders: Sequence[Path], out: Path, root: Path | None, seed: int, clips: int, say: Say) -> list[Path]:
    """Write the report over finished runs to `out` and return the folders of the runs that it shows.

    What cannot be read or drawn is left out and named in the report; the rest is shown.

    Args:
        folders: the runs' folders.
        root: goes before the clips' folder that the feature file names, for consensus maps.
        seed: picks the clips of t-SNE and of the consensus maps.
        clips: number of clips of each group whose consensus maps are drawn.

    Raises:
        DataError: no run can be read.
        MismatchError: runs of one set-up are not comparable.
        UsageError: `out` cannot be written.
    """
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder; name a file in it")
    left_out: list[str] = []

    def leave_out(reason: str) -> None:
        left_out.append(reason)
        say(f"left out of the report: {reason}")

    results, stamps, configs = _readable(folders, leave_out)
    groups: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for folder, result in results.items():
        groups[tuple(str(result[key]) for key in ("setup", "method", "source", "target"))].append(folder)
    for members in groups.values():
        runs.check_alike(members)
    for setup in sorted({result["setup"] for result in results.values()}):
        check_comparable([folder for folder, result in results.items() if result["setup"] == setup])
    points: list[list[Any]] = []
    sections = []
    for name, members in groups.items():
        try:
            section, coordinates = _section(name, members, root, seed, clips, say)
            sections.append(section)
            points += coordinates
        except (CiaError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            leave_out(f"the pictures of {name[1]}, {name[2]} → {name[3]}: {error}")
    rows = summary(list(results.values())).to_dict("records")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.finalize = lambda value: printable(value, keep="\n") if isinstance(value, str) else value
    text = resources.files(__package__).joinpath("template.html").read_text(encoding="utf-8")
    html = environment.from_string(text).render(
        rows=rows,
        note="; ".join([NOTE, *transductive(list(results.values())), *backbones(list(results.values()))]),
        sections=sections,
        left_out=left_out,
        version=__version__,
        runs=len(results),
        features=sorted({stamp["feature_file"] for stamp in stamps}),
        devices=sorted({stamp["device"] for stamp in stamps}),
        reconstructed=sorted({text for config in configs if (text := config["method"]["reconstructed"])}),
        tsne_csv=_csv_path(out).name,
    )
    with writes.translated(f"--out {out}", "choose another file"):
        out.parent.mkdir(parents=True, exist_ok=True)
        writes.text(out, html)
        writes.text(_csv_path(out), _csv(points))
    return list(results)


def _readable(
    folders: Sequence[Path], leave_out: Callable[[str], None]
) -> tuple[dict[Path, runs.Result], list[dict[str, Any]], list[dict[str, Any]]]:
    """(results, stamps, configurations) of the runs that can be read."""
    results, stamps, configs = {}, [], []
    for folder in folders:
        try:
            result, stamp, config = files.read(folder), files.read_stamp(folder), files.read_config(folder)
        except CiaError as error:
            leave_out(str(error))
            continue
        results[folder] = result
        stamps.append(stamp)
        configs.append(config)
    if not results:
        raise DataError("none of these runs can be read, see above; train them again with --overwrite")
    return results, stamps, configs


def _csv(points: Sequence[Sequence[Any]]) -> str:
    """The t-SNE coordinates as CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for cells in (["setup", "method", "source", "target", "domain", "x", "y"], *points):
        writer.writerow(map(spreadsheets.cell, cells))
    return buffer.getvalue()


def _section(
    name: tuple[str, ...],
    folders: Sequence[Path],
    root: Path | None,
    seed: int,
    clips: int,
    say: Say,
) -> tuple[dict[str, Any], list[list[Any]]]:
    """(what the page shows of one group, its t-SNE coordinates as rows of the CSV file).

    The curves are over all seeds, t-SNE and consensus maps of the first seed.
    """
    setup, method, source, target = name
    title = f"{method}: {source} → {target}"
    scores = files.load_scores(folders[0])
    coordinates = tsne(
        scores["selected/source_features"].double().numpy(), scores["selected/target_features"].double().numpy(), seed
    )
    rows = []
    for domain, xy in zip((source, target), coordinates, strict=True):
        rows += [[setup, method, source, target, domain, f"{x:.4f}", f"{y:.4f}"] for x, y in xy]
    section: dict[str, Any] = {
        "title": title,
        "paper": _method(folders[0])["paper"],
        "published": ", ".join(f"{cell} {value:.2f}" for cell, value in _method(folders[0])["published"].items()),
        "curves": _embed(figures.curves([files.read_metrics(folder) for folder in folders], title)),
        "tsne": _embed(figures.tsne(*coordinates, title)),
        "consensus": [],
        "missing": "",
    }
    try:
        panels, missing = consensus.panels(folders[0], root, seed, clips)
        section["consensus"] = [_embed(panel.png) for panel in panels]
        if missing:
            section["missing"] = f"{len(missing)} of {len(panels) + len(missing)} clips, the first: {missing[0]}"
    except (CiaError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        section["missing"] = str(error)
    if section["missing"]:
        say(f"note: no consensus maps of {title}: {section['missing']}")
    return section, rows


def _method(folder: Path) -> dict[str, Any]:
    method: dict[str, Any] = files.read_config(folder)["method"]
    return method


def _embed(png: bytes) -> str:
    """A PNG file as the source of an HTML image."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _csv_path(out: Path) -> Path:
    return out.with_name(f"{out.stem}-tsne.csv")
