"""Write the report: the runs' studies, their sections, one HTML file."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from cia_extract.common import spreadsheets, writes
from cia_extract.common.console import Say
from cia_extract.common.errors import CiaError, UsageError

import cia_adapt.results.report.sections as sections
import cia_adapt.results.report.study as study
from cia_adapt.results.report.html import Page, render
from cia_adapt.results.report.section import Section
from cia_adapt.results.report.study import LeaveOut, Study, Wanted


def write(folders: Sequence[Path], out: Path, wanted: Wanted, say: Say) -> list[Path]:
    """Write the report over finished runs to `out` and return the folders of the runs that it shows.

    What cannot be read or drawn is left out and named in the report; the rest is shown.

    Args:
        folders: the runs' folders.
        out: the HTML file.
        wanted: the baseline, where the clips are, how many are shown.
        say: told what is left out.

    Raises:
        DataError: no run can be read.
        MismatchError: runs of one set-up are not comparable.
        UsageError: `out` cannot be written, or no run of the baseline.
    """
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder; name a file in it")
    left_out: list[str] = []

    def leave_out(reason: str) -> None:
        left_out.append(reason)
        say(f"left out of the report: {reason}")

    studies = study.read(folders, wanted, leave_out)
    chapters = {one.setup: _sections(one, leave_out) for one in studies}
    count = sum(len(one.runs) for one in studies)
    title = f"Cross-modal video domain adaptation: {count} run{'s' if count != 1 else ''}"
    html = render(Page(title, chapters, left_out))
    with writes.translated(f"--out {out}", "choose another file"):
        out.parent.mkdir(parents=True, exist_ok=True)
        writes.text(out, html)
        writes.text(out.with_name(f"{out.stem}-tsne.csv"), _tsne_csv(chapters))
    return [folder for one in studies for folder in one.runs]


def _tsne_csv(chapters: Mapping[str, Sequence[Section]]) -> str:
    """The t-SNE coordinates of all pictures as CSV."""
    of_figures = [f.numbers for sections in chapters.values() for s in sections for f in s.figures if f.name.startswith("tsne-")]
    columns = ["setup", "method", "source", "target", "domain", "x", "y"]
    points = pd.concat([pd.DataFrame(columns=columns), *(table for table in of_figures if table is not None)])[columns]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for *names, x, y in points.itertuples(index=False):
        writer.writerow([*map(spreadsheets.cell, names), f"{x:.4f}", f"{y:.4f}"])
    return buffer.getvalue()


def _sections(one: Study, leave_out: LeaveOut) -> list[Section]:
    """The sections of a study; one that cannot be made is left out, and the reason said."""
    made = []
    for name, builder in sections.BUILDERS.items():
        try:
            section = builder(one, leave_out)
        except (CiaError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            leave_out(f"{name} of the set-up {one.setup}: {error}")
            continue
        if section is not None:
            made.append(section)
    return made
