"""The controlled benchmark: every method on the demo dataset, both directions, with intervals and paired differences.

cia-extract --dataset demo --clips-per-class 24 --frames 3 --flow dis --out study.h5
python benchmarks/study.py study.h5 --runs study-runs [--seeds 10] [--epochs 30] [--set sc.embedding=64] [--tables-only]

Goes on where it stopped. Prints what stands in RESULTS.md. The demo is rendered: relations between methods here need not hold on
real video.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from cia_adapt import comparison, config, runs, statistics

VECTORS = [name for name in config.names("methods") if not config.load("uh", name, {}).method.needs_maps and name != "avg"]
# The same arithmetic as another one, or the most expensive by far.
LEFT_OUT = {"cia-inject", "sc-window-max", "sc-patch", "cia-trn"}
MAPS = [name for name in config.names("methods") if config.load("uh", name, {}).method.needs_maps and name not in LEFT_OUT]
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
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--method", help="only these, with commas between")
    parser.add_argument("--no-validators", action="store_true")
    parser.add_argument("--tables-only", action="store_true")
    options = parser.parse_args()
    if not options.tables_only:
        for names in [options.method.split(",")] if options.method else [VECTORS, MAPS]:
            command = [
                str(Path(sys.executable).with_name("cia-adapt")),
                "sweep",
                "--features",
                options.features,
                "--setup",
                "demo",
            ]
            command += [
                "--segments",
                "3",
                "--epochs",
                str(options.epochs),
                "--seeds",
                str(options.seeds),
                "--jobs",
                str(options.jobs),
            ]
            command += ["--runs", str(options.runs), "--method", ",".join(names)]
            command += [word for entry in options.set for word in ("--set", entry)]
            subprocess.run(
                [*command, *(["--no-validators"] if options.no_validators else [])], check=True, stdout=subprocess.DEVNULL
            )
    report(options.runs)


def report(folder: Path) -> None:
    """Markdown tables."""
    groups = comparison.groups(runs.find([folder]))
    pairs = sorted({pair for _, pair in groups})
    print("| method | " + " | ".join(f"{s} → {t}" for s, t in pairs) + " | both | IQM | last, both | seeds |")
    print("|---|" + "---|" * (len(pairs) + 4))
    rows = []
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
        rows.append(
            (
                both,
                f"| `{method}` | {' | '.join(cells)} | {both:.1f} [{low:.1f}, {high:.1f}] | {iqm:.1f} | {last:.1f} | {seeds} |",
            )
        )
    print("\n".join(row for _, row in sorted(rows, reverse=True)))
    print("\n| difference (selected, both directions) | points | 95 % | McNemar p |\n|---|---|---|---|")
    for a, b in PAIRS:
        first, second = ([group for (method, _), group in groups.items() if method == name] for name in (a, b))
        if first and second:
            points, low, high, p, _ = comparison.compare(first, second, "selected")
            print(f"| `{a}` − `{b}` | {points:+.1f} | [{low:+.1f}, {high:+.1f}] | {p:.2g} |")
    histories = [runs.read_metrics(run) for run in runs.find([folder]) if "target-only" not in run.parts]
    summary = statistics.validator_summary(histories)
    print("\n| validator | ρ with target accuracy over epochs, mean of runs | over runs, last epoch |\n|---|---|---|")
    for row in summary.to_dict("records"):
        print(f"| {row['validator']} | {row['within runs']:.2f} | {row['across runs']:.2f} |")


if __name__ == "__main__":
    main()
