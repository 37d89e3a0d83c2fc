"""Assemble the report: one HTML file with everything inside, and the t-SNE coordinates as csv beside it."""

import base64
import csv
from collections import defaultdict
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from cia_extract.console import Say
from cia_extract.errors import CiaError, UsageError

from cia_adapt import __version__, comparison, runs, statistics, table
from cia_adapt.report import consensus, embedding, figures


def write(folders: Sequence[Path], out: Path, root: Path | None, seed: int, clips: int, say: Say) -> None:
    """Write the report over finished runs. What cannot be drawn is said in the report, the rest is there."""
    results = {folder: runs.read(folder) for folder in folders}
    groups: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for folder, result in results.items():
        groups[tuple(str(result[key]) for key in ("setup", "method", "source", "target"))].append(folder)
    for members in groups.values():
        runs.check_alike(members)
    for setup in sorted({result["setup"] for result in results.values()}):
        comparison.check_comparable([folder for folder, result in results.items() if result["setup"] == setup])
    points: list[list[Any]] = []
    sections = [_section(name, members, root, seed, clips, points, say) for name, members in groups.items()]
    rows = statistics.summary(list(results.values())).to_dict("records")
    stamps = [runs.read_json(folder / "stamp.json") for folder in folders]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    text = resources.files("cia_adapt.report").joinpath("template.html").read_text(encoding="utf-8")
    html = environment.from_string(text).render(
        rows=rows,
        note="; ".join([table.NOTE, *table.transductive(list(results.values()))]),
        sections=sections,
        version=__version__,
        runs=len(folders),
        features=sorted({stamp["feature_file"] for stamp in stamps}),
        devices=sorted({stamp["device"] for stamp in stamps}),
        reconstructed=sorted({text for folder in folders if (text := _method(folder)["reconstructed"])}),
        tsne_csv=_csv_path(out).name,
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(html, encoding="utf-8")
        with _csv_path(out).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["setup", "method", "source", "target", "domain", "x", "y"])
            writer.writerows(points)
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror or error}") from error


def _section(
    name: tuple[str, ...],
    folders: Sequence[Path],
    root: Path | None,
    seed: int,
    clips: int,
    points: list[list[Any]],
    say: Say,
) -> dict[str, Any]:
    """Curves over the seeds; t-SNE and consensus maps of the first seed."""
    setup, method, source, target = name
    title = f"{method}: {source} → {target}"
    scores = runs.load_scores(folders[0])
    coordinates = embedding.tsne(
        scores["selected/source_features"].double().numpy(), scores["selected/target_features"].double().numpy(), seed
    )
    for domain, xy in zip((source, target), coordinates, strict=True):
        points += [[setup, method, source, target, domain, f"{x:.4f}", f"{y:.4f}"] for x, y in xy]
    section: dict[str, Any] = {
        "title": title,
        "paper": _method(folders[0])["paper"],
        "published": ", ".join(f"{cell} {value:.2f}" for cell, value in _method(folders[0])["published"].items()),
        "curves": _embed(figures.curves([runs.read_metrics(folder) for folder in folders], title)),
        "tsne": _embed(figures.tsne(*coordinates, title)),
        "consensus": [],
        "missing": "",
    }
    try:
        panels, missing = consensus.panels(folders[0], root, seed, clips)
        section["consensus"] = [_embed(panel.png) for panel in panels]
        if missing:
            section["missing"] = f"{len(missing)} of {len(panels) + len(missing)} clips, the first: {missing[0]}"
    except CiaError as error:
        section["missing"] = str(error)
    if section["missing"]:
        say(f"note: no consensus maps of {title}: {section['missing']}")
    return section


def _method(folder: Path) -> dict[str, Any]:
    method: dict[str, Any] = runs.read_json(folder / "config.json")["method"]
    return method


def _embed(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _csv_path(out: Path) -> Path:
    return out.with_name(f"{out.stem}-tsne.csv")
