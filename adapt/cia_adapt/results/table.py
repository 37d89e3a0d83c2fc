"""Tables of results: a line for each method and pair, or in the layout of the paper's tables 2 and 3."""

import sys
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from cia_extract.common import console
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.suggest import did_you_mean, instead
from rich.console import Console
from rich.table import Table

import cia_adapt.results.comparison as comparison
from cia_adapt import config
from cia_adapt.results.comparison import Group
from cia_adapt.results.formats import Grid
from cia_adapt.results.statistics import COLUMNS, NO_LABELS, interquartile_mean, interval, mean_sd, summary
from cia_adapt.training import Advice

NOTE = (
    "accuracy on the target's validation clips in %; last: final epoch; selected: epoch chosen without target labels; "
    "oracle: best epoch by target labels, no honest result"
)
PUBLISHED_NOTE = (
    "published: the paper's numbers, of one run each, or another paper's where the paper lacks the method; all of other "
    "features, none ours; rows named -fl are feature-level versions and do not compare with them"
)


def print_results(results: Sequence[dict[str, Any]]) -> None:
    """Print `last`, `selected` and `oracle` side by side, a line for each method and pair (mean ± sd over seeds)."""
    table = Table(caption="; ".join([NOTE, *cautions(results)]), caption_justify="left")
    for heading in ("set-up", "method", "source → target"):
        table.add_column(heading, overflow="fold")
    for heading, style in (("last", ""), ("selected", "bold"), ("oracle", "dim")):
        table.add_column(heading, justify="right", style=style)
    for heading in ("source val", "clips", "seeds"):
        table.add_column(heading, justify="right")
    for row in summary(results).to_dict("records"):
        cells = [str(row[column]) for column in (*COLUMNS, "clips", "seeds")]
        table.add_row(*console.cells(row["setup"], row["method"], f"{row['source']} → {row['target']}", *cells))
    _console().print(table)


def cautions(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines below every table of these results: what training has seen of the target, and who trained the backbone."""
    bound = any(result.get("trained_on_target_labels") for result in results)
    lines = ["target-only was trained on target labels, a bound, not a result"] if bound else []
    return lines + transductive(results) + backbones(results)


def transductive(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line that names the methods which adapted to test clips, or no line. Such numbers do not compare with unseen clips'."""
    seen = [result for result in results if result.get("target_val_clips_adapted_to")]
    if not seen:
        return []
    methods = ", ".join(dict.fromkeys(str(result["method"]) for result in seen))
    return [f"transductive: {methods} adapted to the target's test clips, without their labels"]


def backbones(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each backbone that a run, or a run before it, has trained; frozen published ones are not named."""
    methods: dict[str, list[str]] = {}
    for result in results:
        if told := result.get("backbone"):
            methods.setdefault(str(told), []).append(str(result["method"]))
    return [f"backbone of {', '.join(dict.fromkeys(named))}: {told}" for told, named in methods.items()]


def paper_table(number: str, groups: Mapping[tuple[str, tuple[str, str]], Group], which: str, baseline: str | None) -> Grid:
    """Our runs in the layout of one of the paper's tables, with the published numbers beside them.

    Args:
        number: the table's number, "2" or "3".
        groups: the runs, as `comparison.groups` gives them.
        which: the number to show, selected, last or oracle.
        baseline: the method with which the others are compared, pair by pair and seed by seed; None: no comparison.

    Raises:
        UsageError: there is no such table, or no run of the baseline.
    """
    paper = definition(number)
    pairs = sorted({pair for _, pair in groups})
    columns = _columns(paper, groups, pairs)
    header = ["setting", "method", *(name for name, _, _ in columns), "IQM, all pairs"]
    if baseline:
        if baseline not in {method for method, _ in groups}:
            have = sorted({m for m, _ in groups})
            raise UsageError(f"--baseline {baseline}: no run of that method{instead(baseline, have, 'cia-adapt table')}")
        header.append(f"− {baseline}, all pairs")
    header += [f"{name} published" for name in paper["columns"]]
    paper_rows = [(setting, label, method) for setting, label, method in paper["rows"]]
    others = sorted({method for method, _ in groups} - {method for _, _, method in paper_rows})
    rows: list[list[str]] = []
    departs: list[str] = []
    departure_notes: list[str] = []
    for setting, label, method in [*paper_rows, *(("not in the paper's table", name, name) for name in others)]:
        method_groups = [groups[method, pair] for pair in pairs if (method, pair) in groups]
        changed = sorted({line for group in method_groups for line in group.changed})
        departs.append("; ".join(changed))
        if changed:
            departure_notes.append(f"* {method}: {'; '.join(changed)}")
        row = [setting, (f"{label} [{method}]" if label != method else method) + ("*" if changed else "")]
        row += [_cell(groups.get((method, pair)), which, label_) for _, pair, label_ in columns]
        row.append(_interquartile_mean(method_groups, which))
        if baseline:
            row.append(_difference(method_groups, [g for (m, _), g in groups.items() if m == baseline], which))
        published = _published(method)
        row += [f"{published[name]:.2f}" if name in published else "–" for name in paper["columns"]]
        rows.append(row)
    ours = f"{which} (uses target labels: no honest result)" if which == "oracle" else which
    notes = _notes(groups, ours, baseline) + departure_notes
    return Grid(paper["title"], header, rows, notes, ours, departs)


def _notes(groups: Mapping[tuple[str, tuple[str, str]], Group], ours: str, baseline: str | None) -> list[str]:
    """The lines below a table: what its numbers are, and which methods had trouble."""
    seeds = sorted({len(group.seeds) for group in groups.values()})
    notes = [
        f"ours: {ours}, mean ± sd over {'/'.join(map(str, seeds))} seeds, 95 % bootstrap interval over seeds and clips",
        "IQM: interquartile mean over seeds and pairs; a few runs that failed hardly change it",
        PUBLISHED_NOTE,
    ]
    if baseline:
        notes.append(
            f"− {baseline}: difference in points, mean over pairs, with its 95 % paired bootstrap interval; p: McNemar's, median "
            "over seeds, largest over pairs"
        )
    results = [result for group in groups.values() for result in group.results]
    return notes + cautions(results) + _troubles(groups)


def _troubles(groups: Mapping[tuple[str, tuple[str, str]], Group]) -> list[str]:
    """A line for each method of which runs ended in trouble, such as a collapse: how many, and in which."""
    lines = []
    for method in sorted({method for method, _ in groups}):
        results = [result for (name, _), group in groups.items() if name == method for result in group.results]
        advised = [str(result["advice"]) for result in results if result.get("advice")]
        if advised:
            kinds = Counter(Advice.read(text).kind for text in advised)
            what = ", ".join(f"{count} × {kind}" for kind, count in kinds.most_common())
            lines.append(f"! {method}: {len(advised)} of {len(results)} runs in trouble at their last epoch ({what})")
    return lines


def definition(number: str) -> dict[str, Any]:
    """The layout of one of the paper's tables, "2" or "3": title, settings, columns and rows. Raises UsageError for another
    number.

    It is the content of `cia_adapt/config/tables/<number>.toml`.
    """
    folder = resources.files("cia_adapt.config.tables")
    names = sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))
    if number not in names:
        raise UsageError(f"--table {number}: choose from {', '.join(names)}, e100{did_you_mean(number, [*names, 'e100'])}")
    return tomllib.loads(folder.joinpath(f"{number}.toml").read_text(encoding="utf-8"))


def _columns(
    paper: Mapping[str, Any], groups: Mapping[Any, Group], pairs: Sequence[tuple[str, str]]
) -> list[tuple[str, tuple[str, str], str | None]]:
    """(heading, pair, label or None) of our columns: one for each pair of `pairs`, or for each pair and label."""
    labels = next(iter(groups.values())).labels
    names = {tuple(pair): name for name, pair in paper["columns"].items()}
    if len(labels) == 1:  # a column that is a label (table 2) is not one of a pair
        named = names if len(names) == len(paper["columns"]) else {}
        return [(named.get(pair, f"{pair[0]} → {pair[1]}"), pair, None) for pair in pairs]
    shown = [("verb" if label == "label" else label, label) for label in labels]
    prefix = (lambda pair: f"{pair[0]} → {pair[1]} ") if len(pairs) > 1 else (lambda pair: "")
    return [(prefix(pair) + name, pair, label) for pair in pairs for name, label in [*shown, ("action", None)]]


def _cell(group: Group | None, which: str, label: str | None) -> str:
    """One of our numbers: mean ± sd over seeds [95 % interval] in %, or – for none."""
    if group is None:
        return "–"
    if not group.labelled:
        return NO_LABELS
    if which == "oracle":
        return mean_sd([result["oracle"] for result in group.results]) if label is None else "–"
    right = group.right(which, label)  # type: ignore[arg-type]
    low, high = interval([right])
    return f"{mean_sd((100 * right.mean(1)).tolist())} [{low:.1f}, {high:.1f}]"


def _interquartile_mean(groups: Sequence[Group], which: str) -> str:
    """The interquartile mean over seeds and pairs, in %; a clip is right where all its labels are."""
    accuracies = [float(result[which]) for group in groups if group.labelled for result in group.results]
    return f"{interquartile_mean(accuracies):.1f}" if accuracies else "–"


def _difference(groups: Sequence[Group], baseline: Sequence[Group], which: str) -> str:
    """The groups' difference to the baseline's, its interval and p; – where they cannot be compared."""
    groups = [group for group in groups if group.labelled]
    if not groups or groups[0].method == baseline[0].method or which == "oracle":
        return "–"
    try:
        points, low, high, p, _ = comparison.compare(groups, baseline, which)  # type: ignore[arg-type]
    except DataError:  # no pair and seed in common
        return "–"
    points, low, high = (round(value, 1) + 0.0 for value in (points, low, high))  # no "-0.0"
    return f"{points:+.1f} [{low:+.1f}, {high:+.1f}] p {p:.2g}"


def _published(method: str) -> Mapping[str, float]:
    """What the paper, or for a method that it does not have another one, prints for a method, {column: %}."""
    if method not in config.names("methods"):
        return {}
    published: Mapping[str, float] = config.load("uh", method, {}).method.published
    return published


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 120)
