"""What CONTRIBUTING says of adding a method: its examples, as they stand there, are put into a copy of the package and run."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import cia_adapt
import pytest

ROOT = Path(__file__).parents[3]


def blocks() -> list[str]:
    """The indented examples of the page."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    page = page[page.index("## Add a method") : page.index("## Change numbers")]
    examples = re.findall(r"(?:^    .*\n|^\n(?=    ))+", page, re.MULTILINE)
    return [textwrap.dedent(block).strip() + "\n" for block in examples if block.strip()]


@pytest.mark.slow
def test_contributings_examples_work_as_written(small_file, tmp_path):
    method, part, its_method = blocks()
    package = tmp_path / "cia_adapt"
    shutil.copytree(Path(cia_adapt.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "methods/sc-source-only.toml").write_text(method, encoding="utf-8")
    (package / "parts/objectives/target_entropy.py").write_text(part, encoding="utf-8")
    (package / "methods/target-entropy.toml").write_text(its_method, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from cia_adapt.cli import main; main()", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)

    listed = run("methods")
    assert "sc-source-only" in listed.stdout and "SC (k = 3) source only" in listed.stdout
    for name, extra in (
        ("sc-source-only", ["--set", "sc.embedding=8"]),
        ("target-entropy", ["--set", "target_entropy.weight=0.3"]),
    ):
        quick = ["--setup", "demo", "--epochs", 1, "--batch", 6, "--source", "here"]
        done = run("--features", small_file, "--method", name, *quick, *extra)
        assert done.returncode == 0, done.stderr
    metrics = (tmp_path / "runs/demo/target-entropy/here-there/seed0/metrics.jsonl").read_text()
    assert '"target_entropy_loss"' in metrics
