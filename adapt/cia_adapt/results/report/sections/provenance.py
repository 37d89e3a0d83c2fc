"""Where the numbers come from: versions, hashes, and the commands that make them again."""

import shlex
from pathlib import Path
from typing import Any, Final

import pandas as pd
from cia_extract.common.errors import CiaError

from cia_adapt.data import Domain
from cia_adapt.results.feature_file import domains_of
from cia_adapt.results.report.section import Section, Table
from cia_adapt.results.report.study import LeaveOut, Run, Study, direction

COMMANDS: Final = 40


def section(study: Study, leave_out: LeaveOut) -> Section:
    """The commands, and tables of what the runs and their features were made with."""
    runs = list(study.runs.values())
    commands = list(dict.fromkeys(filter(None, map(_command, runs))))
    text = ["Each run's folder has its configuration, metrics, predictions and checkpoints."]
    if commands:
        text.append("The same numbers come again, on the same kind of machine, with:")
    if len(commands) > COMMANDS:
        text.append(f"({COMMANDS} of {len(commands)} commands; the others are in the runs' stamp.json.)")
    made = pd.DataFrame([_circumstances(run) for run in runs])
    columns = list(made)
    table = made.groupby(columns, sort=False, dropna=False).size().rename("runs").reset_index()
    tables = [
        Table("provenance", "Runs made with", table, "Digests are the first 16 digits of SHA-256; config.json has all."),
        *_features(study, leave_out),
    ]
    return Section("Provenance", text, tables=tables, commands=commands[:COMMANDS])


def _features(study: Study, leave_out: LeaveOut) -> list[Table]:
    """Networks and weights of each domain's features, where the feature file is still the one of the runs."""
    rows: dict[str, dict[str, Any]] = {}
    for pair in study.pairs:
        run = next(study.runs[group.folders[0]] for group in study.groups.values() if group.pair == pair)
        if set(pair) <= set(rows):
            continue
        try:
            domains = domains_of(run.config, run.stamp)
        except CiaError as error:
            leave_out(f"how the features of {direction(pair)} were made: {error}")
            continue
        rows |= {domain.name: _extraction(domain) for domain in domains}
    note = "Weights: name and the first 16 digits of their SHA-256."
    return [Table("feature-provenance", "Features made with", pd.DataFrame(list(rows.values())), note)] if rows else []


def _extraction(domain: Domain) -> dict[str, Any]:
    """What the feature file says of a domain; a file of somebody else's may say little."""
    made = getattr(domain.dataset, "provenance", {})
    weights = made.get("weights")
    row = {"domain": domain.name, "clips": len(domain.rows), "frames": domain.dataset.frames}
    row |= {name: _text(made.get(name)) for name in ("dataset", "backbone", "code_version")}
    row["manifest"] = _text(made.get("manifest_sha256"))[:16]
    for modality, one in weights.items() if isinstance(weights, dict) else ():
        if isinstance(one, dict):
            row[f"{modality} weights"] = f"{_text(one.get('name'))} {_text(one.get('sha256'))[:16]}"
    return row


def _command(run: Run) -> str:
    """The command that made a run, "" where its stamp does not say."""
    arguments = run.stamp.get("argv")
    if not isinstance(arguments, list) or not arguments or not all(isinstance(word, str) for word in arguments):
        return ""
    return shlex.join(["cia-adapt", *arguments[1:]])


def _circumstances(run: Run) -> dict[str, Any]:
    stamp, config = run.stamp, run.config
    return {
        "cia-adapt": _text(stamp.get("version")),
        "commit": _text(stamp.get("git_commit"))[:12],
        "python": _text(stamp.get("python")),
        "torch": _text(stamp.get("torch")),
        "device": _text(stamp.get("device")),
        "precision": config["precision"],
        "feature file": Path(stamp["feature_file"]).name,
        "features and labels of both domains": " + ".join(digest[:16] for digest in config["features"].split("+")),
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "unknown"
