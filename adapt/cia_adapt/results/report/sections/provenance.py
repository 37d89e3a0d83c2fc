"""Where the numbers come from: versions, hashes, and the commands that make them again."""

import shlex
from pathlib import Path
from typing import Any, Final

import pandas as pd

from cia_adapt.results.report.section import Section, Table
from cia_adapt.results.report.study import Run, Study

COMMANDS: Final = 40


def section(study: Study) -> Section:
    """The commands, and a table of what the runs were made with."""
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
    return Section(
        "Provenance",
        text,
        tables=[Table("provenance", "Made with", table, "Digests are the first 16 digits of SHA-256; config.json has all.")],
        commands=commands[:COMMANDS],
    )


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
