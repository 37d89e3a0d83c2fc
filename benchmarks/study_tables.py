"""The study's tables, as Markdown: all methods, paired differences, validators.

python benchmarks/study_tables.py RUNS [RUNS …]    one folder of runs for each rendering of the demo
python benchmarks/study_tables.py --searched SEARCHES RUNS SEARCHED_RUNS    searched settings beside common ones, one rendering
"""

import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from cia_adapt.results import comparison, statistics
from cia_adapt.results.comparison import Group
from cia_adapt.runs import files

COLLAPSED = 0.5  # a run with less right at its selected epoch
# Claims of the paper, then later work alone and on top of CIA. The names are those of methods, searched or not.
PAIRS = [
    ("cia", "concat"), ("cia", "source-only"), ("concat", "source-only"), ("cia-source-only", "source-only"),
    ("sc-3", "sc-2"), ("sc-2", "sc-1"), ("sc-1", "concat"), ("sc-3", "concat"), ("mc", "concat"),
    ("cia", "dann"), ("cia", "ta3n"), ("ta3n-cia", "ta3n"), ("cia", "mmtm-fl"), ("mmtm-fl", "mmtm-fl-source-only"),
    ("cia", "cia-source-only"),
    ("target-only", "source-only"),
    ("mcc", "source-only"), ("mcc", "dann"), ("cia-mcc", "cia"), ("cia-mcc", "mcc"),
    ("cia-mcc", "concat"), ("cia-mcc", "dann"), ("cia-mcc", "ta3n"), ("cia-mcc", "source-only"),
    ("im", "source-only"), ("im", "dann"), ("cia-im", "cia"), ("cia-im", "im"),
    ("cia-im", "concat"), ("cia-im", "dann"), ("cia-im", "ta3n"), ("cia-im", "source-only"),
]  # fmt: skip

Demo = dict[tuple[str, tuple[str, str]], Group]
"""{(method, (source, target)): its runs} on one rendering."""


def main() -> None:
    if sys.argv[1] == "--searched":
        show_searched(*map(Path, sys.argv[2:]))
    else:
        show([Path(folder) for folder in sys.argv[1:]])


def show(folders: list[Path]) -> None:
    """All tables of the runs in these folders, one for each rendering."""
    demos = [comparison.groups(files.find([folder])) for folder in folders]
    methods = [name for name in sorted({name for demo in demos for name, _ in demo}) if all(_of(demo, name) for demo in demos)]
    print(
        "| method | "
        + " | ".join(folder.parent.name or folder.name for folder in folders)
        + " | all | IQM | worst | collapsed | last | runs | s a run |"
    )
    print("|---|" + "---|" * (len(folders) + 7))
    rows = [_row(name, demos) for name in methods]
    print("\n".join(row for _, row in sorted(rows, reverse=True)))
    print("\n| difference (selected, all renderings and directions) | points | 95 % |\n|---|---|---|")
    for a, b in PAIRS:
        if (first := _searched(a, methods)) and (second := _searched(b, methods)):
            print(_difference(first, second, demos))
    histories = [files.read_metrics(run) for run in files.find(folders) if "target-only" not in run.parts]
    print("\n| validator | ρ with target accuracy over epochs, mean of runs | over runs, last epoch |\n|---|---|---|")
    for row in statistics.validator_summary(histories).to_dict("records"):
        print(f"| {row['validator']} | {row['within runs']:.2f} | {row['across runs']:.2f} |")


def show_searched(searches: Path, common: Path, searched: Path) -> None:
    """Each searched method's settings, and what they give beside the same seeds at the settings that all share."""
    before, after = (comparison.groups(files.find([folder])) for folder in (common, searched))
    print("| method | settings | common | searched | difference, 95 % | runs |\n|---|---|---|---|---|---|")
    rows = []
    for name in sorted({name for name, _ in after}):
        method = name.removesuffix("-searched")
        settings = _settings(searches / "demo" / method / f"{name}.toml")
        seeds = sorted(set.intersection(*(set(group.seeds) for group in [*_of(before, method), *_of(after, name)])))
        own, shared = ([group.right("selected", seeds=seeds) for group in _of(*key)] for key in ((after, name), (before, method)))
        points, low, high = statistics.paired(own, shared)
        accuracies = " | ".join(
            statistics.mean_sd([100 * float(value) for right in rights for value in right.mean(1)]) for rights in (shared, own)
        )
        row = f"| `{method}` | {settings} | {accuracies} | {points:+.1f} [{low:+.1f}, {high:+.1f}] | {2 * len(seeds)} |"
        rows.append((points, row))
    print("\n".join(row for _, row in sorted(rows, reverse=True)))


def _settings(file: Path) -> str:
    """What a search chose, as `lr 0.01, mcc.weight 2`."""
    found: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    names = found["searched"]["settings"].split(", ")
    values = [(name.removeprefix("setup."), found[name.partition(".")[0]][name.partition(".")[2]]) for name in names]
    return ", ".join(f"{name} {value:g}" for name, value in values)


def _of(demo: Demo, method: str) -> list[Group]:
    """A method's runs on one rendering, in the order of the directions; none where a direction lacks."""
    pairs = sorted({pair for _, pair in demo})
    groups = [demo[method, pair] for pair in pairs if (method, pair) in demo]
    return groups if len(groups) == len(pairs) else []


def _row(method: str, demos: list[Demo]) -> tuple[float, str]:
    """(mean accuracy, the method's row)."""
    by_demo = [_of(demo, method) for demo in demos]
    groups = [group for of_demo in by_demo for group in of_demo]
    rights = [group.right("selected") for group in groups]
    runs = np.concatenate([right.mean(1) for right in rights])  # [runs]
    low, high = statistics.interval(rights)
    both = 100 * float(np.mean([right.mean() for right in rights]))
    cells = [
        statistics.mean_sd([100 * float(value) for group in of_demo for value in group.right("selected").mean(1)])
        for of_demo in by_demo
    ]
    last = 100 * float(np.mean([group.right("last").mean() for group in groups]))
    seconds = [_seconds(run) for group in groups for run in group.folders]
    iqm = statistics.interquartile_mean([100 * float(value) for value in runs])
    numbers = f"{both:.1f} [{low:.1f}, {high:.1f}] | {iqm:.1f} | {100 * runs.min():.1f} | {(runs < COLLAPSED).sum()} | {last:.1f}"
    return both, f"| `{method}` | {' | '.join(cells)} | {numbers} | {len(runs)} | {np.mean(seconds):.0f} |"


def _seconds(run: Path) -> float:
    """Of a run's epochs, in one process of several."""
    epochs = files.read_config(run)["setup"]["epochs"]
    return float(files.read(run)["seconds_per_epoch"]) * float(epochs)


def _searched(name: str, methods: list[str]) -> str | None:
    return next((method for method in (name, f"{name}-searched") if method in methods), None)


def _difference(a: str, b: str, demos: list[Demo]) -> str:
    """The row of method a − method b over all renderings, directions and common seeds."""
    first, second = [], []
    for demo in demos:
        for one, other in zip(_of(demo, a), _of(demo, b), strict=True):
            seeds = sorted(set(one.seeds) & set(other.seeds))
            first.append(one.right("selected", seeds=seeds))
            second.append(other.right("selected", seeds=seeds))
    points, low, high = statistics.paired(first, second)
    return f"| `{a}` − `{b}` | {points:+.1f} | [{low:+.1f}, {high:+.1f}] |"


if __name__ == "__main__":
    main()
