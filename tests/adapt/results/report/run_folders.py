"""Folders of finished runs, written without training: as many as a test wants, with any names."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from cia_adapt import config
from cia_adapt.runs import RunKey
from cia_extract.common import spreadsheets
from safetensors.torch import save_file

CLASSES = ("climb", "golf", "run", "walk")


def write_runs(
    root: Path,
    methods: Sequence[str] = ("source-only", "concat", "cia"),
    pairs: Sequence[tuple[str, str]] = (("ucf", "hmdb"), ("hmdb", "ucf")),
    seeds: int = 2,
    classes: dict[str, Sequence[str]] | None = None,
    clips: Sequence[str] = tuple(f"clip{i}" for i in range(24)),
    epochs: int = 4,
    setup: str = "uh",
) -> list[Path]:
    """Run folders of every method, pair and seed; a later method of the list is better. Returns the folders."""
    classes = {"label": CLASSES} if classes is None else classes
    folders = []
    for m, method in enumerate(methods):
        for pair in pairs:
            for seed in range(seeds):
                folder = root / setup / method / "-".join(pair).replace("/", "_") / f"seed{seed}"
                _write(folder, method, pair, seed, classes, clips, epochs, setup, 0.45 + 0.4 * m / max(1, len(methods) - 1))
                folders.append(folder)
    return folders


def _write(folder, method, pair, seed, classes, clips, epochs, setup, skill):
    folder.mkdir(parents=True)
    random = np.random.default_rng([seed, len(method), len(pair[0])])
    chosen = config.load(setup, method if method in config.names("methods") else "cia", {})
    key = RunKey(
        chosen.setup, replace(chosen.for_pair(*pair), name=method), *pair, ("rgb", "flow"), seed, "a" * 64 + "+" + "b" * 64
    )
    names = {column: list(values) for column, values in classes.items()}
    (folder / "config.json").write_text(json.dumps(key.fields() | {"classes": names}))
    truth = {column: [values[i % len(values)] for i in range(len(clips))] for column, values in names.items()}
    guesses = {}
    for column, values in names.items():
        for number in ("last", "selected"):
            right = random.random(len(clips)) < skill
            other = random.integers(0, len(values), len(clips))
            guesses[column, number] = [t if r else values[o] for t, r, o in zip(truth[column], right, other, strict=True)]
    header, columns = ["clip"], [list(clips)]
    for column in names:
        prefix = "" if len(names) == 1 else f"{column}_"
        header += [column, f"{prefix}last", f"{prefix}selected"]
        columns += [truth[column], guesses[column, "last"], guesses[column, "selected"]]
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for cells in (header, *zip(*columns, strict=True)):
            writer.writerow(map(spreadsheets.cell, cells))
    accuracy = {
        number: 100 * float(np.mean([all(guesses[c, number][i] == truth[c][i] for c in names) for i in range(len(clips))]))
        for number in ("last", "selected")
    }
    history = []
    for epoch in range(1, epochs + 1):
        share = epoch / epochs
        history.append(
            {
                "epoch": epoch, "class_loss": 2.0 - share, "source_val_accuracy": 50 + 40 * share,
                "target_val_accuracy": accuracy["last"] * share, "video_domain_accuracy": 50.0 + 10 * random.random(),
                "validator_im": share + random.random() / 5, "validator_entropy": -1.0 + share,
                "advice": "swinging: the video discriminator swung" if epoch == epochs and seed == 1 else "",
            }
        )  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(metrics) + "\n" for metrics in history))
    result = {
        "source": pair[0], "target": pair[1], "method": method, "setup": setup, "seed": seed, **accuracy,
        "oracle": max(accuracy.values()), "source_val": 90.0, "selected_epoch": epochs, "oracle_epoch": epochs,
        "target_val_clips": len(clips), "target_val_clips_adapted_to": 0, "trained_on_target_labels": False,
        "parameters": 1000, "advice": history[-1]["advice"],
    }  # fmt: skip
    if len(names) > 1:
        scores = {f"{column}@{k}": 50.0 + k for column in (*names, "action") for k in (1, 5)}
        result |= {"selected_by_label": scores, "last_by_label": scores}
    (folder / "result.json").write_text(json.dumps(result))
    stamp = {"argv": ["cia-adapt", "sweep", "--runs", "my runs"], "version": "0.1.0", "git_commit": "0" * 40}
    stamp |= {"feature_file": "/nowhere/feats.h5", "device": "cpu", "python": "3.11", "torch": "2.13"}
    (folder / "stamp.json").write_text(json.dumps(stamp))
    scores = {"selected/source_features": torch.from_numpy(random.normal(size=(30, 16))).float()}
    scores["selected/target_features"] = torch.from_numpy(random.normal(size=(len(clips), 16)) + 0.5).float()
    save_file(scores, folder / "scores.safetensors")
    (folder / "done").touch()
