"""The examples of docs/ run as they are printed."""

import re
import shutil
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_the_feature_files_example_reads_one_frame(feature_file, tmp_path, monkeypatch):
    """It once copied the whole data set to read one frame of it."""
    (example,) = re.findall(r"```python\n(.*?)```", (DOCS / "feature-file.md").read_text(encoding="utf-8"), re.DOTALL)
    shutil.copyfile(feature_file, tmp_path / "feats.h5")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(example.replace('["demo"]', '["here"]').replace("maps[row, 12]", "maps[row, 3]"), names)
    assert names["frame"].shape == (1024, 7, 7) and (names["frame"] == names["maps"][0, 3]).all()
    assert "done()]" not in example
