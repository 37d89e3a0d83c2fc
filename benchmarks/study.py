"""The controlled benchmark: every method on the demo dataset, both directions, with intervals and paired differences.

cia-extract --dataset demo --clips-per-class 24 --frames 3 --flow dis --out study.h5
python benchmarks/study.py study.h5 --runs study-runs [--seeds 10] [--method a,b] [--tables-only] [-- OPTIONS OF cia-adapt sweep]

First the paper's table 3, then the other methods. Goes on where it stopped. Prints what stands in STUDY.md; "s a run" is the
time of the epochs, of one process of several. The demo is rendered: relations between methods here need not hold on real video.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from cia_adapt import config
from cia_adapt.results import comparison, statistics, table
from cia_adapt.runs import files

TABLE_3 = [name for _, _, name in table.definition("3")["rows"]]
# `avg` is `concat`; the others are the same arithmetic as another one, or the most expensive by far.
LEFT_OUT = {"avg", "cia-inject", "sc-window-max", "sc-patch", "cia-trn", "sc-identity", "cia-identity", *TABLE_3}
REST = [name for name in config.names("methods") if name not in LEFT_OUT]
VECTORS = [name for name in REST if not config.load("uh", name, {}).method.needs_maps]
MAPS = [name for name in REST if name not in VECTORS]
PAIRS = [
    ("cia", "concat"), ("cia", "source-only"), ("sc-3", "concat"), ("sc-1", "concat"), ("sc-2", "concat"),
    ("sc-identity", "concat"),
    ("mc", "concat"), ("mc-a", "mc"), ("mc-e", "mc"), ("mc-f", "mc"), ("mc-inject", "mc"), ("concat", "source-only"),
    ("dann", "source-only"), ("ta3n", "source-only"), ("ta3n-cia", "ta3n"), ("cia", "mmtm-fl"),
    ("cia-source-only", "source-only"),
    ("target-only", "source-only"),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features")
    parser.add_argument("--runs", type=Path, default=Path("study-runs"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--method", help="only these, with commas between")
    parser.add_argument("--tables-only", action="store_true")
    parser.epilog = "After -- come options of cia-adapt sweep, for example -- --epochs 20 --jobs 2."
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)  # argparse would give them to the first positional
    options, of_sweep = parser.parse_args(sys.argv[1:split]), sys.argv[split + 1 :]
    if not options.tables_only:
        program = [str(Path(sys.executable).with_name("cia-adapt")), "sweep", "--features", options.features, "--setup", "demo"]
        program += ["--seeds", str(options.seeds), "--runs", str(options.runs), *of_sweep]
        for names in [options.method.split(",")] if options.method else [TABLE_3, VECTORS, MAPS]:
            began = time.perf_counter()
            subprocess.run([*program, "--method", ",".join(names)], check=True, stdout=subprocess.DEVNULL)
            print(f"{(time.perf_counter() - began) / 60:.1f} minutes: {', '.join(names)}\n", flush=True)
    report(options.runs)


def report(folder: Path) -> None:
    """Markdown tables."""
    groups = comparison.groups(files.find([folder]))
    pairs = sorted({pair for _, pair in groups})
    print("| method | " + " | ".join(f"{s} → {t}" for s, t in pairs) + " | both | IQM | last, both | seeds | s a run |")
    print("|---|" + "---|" * (len(pairs) + 5))
    rows, total = [], 0.0
    for method in sorted({method for method, _ in groups}):
        found = [groups[method, pair] for pair in pairs if (method, pair) in groups]
        if len(found) < len(pairs):
            continue
        rights = [group.right("selected") for group in found]
        low, high = statistics.interval(rights)
        both = 100 * sum(right.mean() for right in rights) / len(rights)
        last = 100 * sum(group.right("last").mean() for group in found) / len(found)
        iqm = statistics.interquartile_mean([100 * value for right in rights for value in right.mean(1)])
        cells = [statistics.mean_sd((100 * right.mean(1)).tolist()) for right in rights]
        seeds = min(len(right) for right in rights)
        seconds = [
            result["seconds_per_epoch"] * files.read_json(run / "config.json")["setup"]["epochs"]
            for group in found
            for run, result in zip(group.folders, group.results, strict=True)
        ]
        total += sum(seconds)
        rows.append(
            (
                both,
                f"| `{method}` | {' | '.join(cells)} | {both:.1f} [{low:.1f}, {high:.1f}] | {iqm:.1f} | {last:.1f} | {seeds} | "
                f"{sum(seconds) / len(seconds):.1f} |",
            )
        )
    print("\n".join(row for _, row in sorted(rows, reverse=True)))
    print(f"\n{total / 3600:.2f} hours of epochs in all.")
    print("\n| difference (selected, both directions) | points | 95 % | McNemar p |\n|---|---|---|---|")
    for a, b in PAIRS:
        first, second = ([group for (method, _), group in groups.items() if method == name] for name in (a, b))
        if first and second:
            points, low, high, p, _ = comparison.compare(first, second, "selected")
            print(f"| `{a}` − `{b}` | {points:+.1f} | [{low:+.1f}, {high:+.1f}] | {p:.2g} |")
    histories = [files.read_metrics(run) for run in files.find([folder]) if "target-only" not in run.parts]
    summary = statistics.validator_summary(histories)
    print("\n| validator | ρ with target accuracy over epochs, mean of runs | over runs, last epoch |\n|---|---|---|")
    for row in summary.to_dict("records"):
        print(f"| {row['validator']} | {row['within runs']:.2f} | {row['across runs']:.2f} |")


if __name__ == "__main__":
    main()
