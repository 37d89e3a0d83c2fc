"""What the challenge would refuse is refused here, with the id; the file may be anybody's."""

import json
import os
import zipfile

import numpy as np
import pytest
from cia_adapt.results.challenge import checking, submission
from cia_extract.common.errors import SubmissionError

IDS = ["P01_101_0", "P01_101_1", "P02_130_7"]
WANTED = {"results_target": IDS}
LEVELS = {"sls_pt": 2, "sls_tl": 3, "sls_td": 3}


def content(**results) -> dict:
    random = np.random.default_rng(0)
    p = {task: random.dirichlet(np.ones(count), len(IDS)) for task, count in (("verb", 97), ("noun", 300))}
    made = submission.content({"results_target": submission.Averaged(tuple(IDS), p)} | results, LEVELS)
    return json.loads(json.dumps(made))


def zipped(path, text, name="test.json", **more):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
        for other, other_text in more.items():
            archive.writestr(other, other_text)
    return path


def refusal(text: str | dict, ids=WANTED) -> str:
    text = text if isinstance(text, str) else json.dumps(text)
    with pytest.raises(SubmissionError) as error:
        checking.check_text(text.encode(), "test.zip", ids)
    assert error.value.exit_code == 5 and "\n" not in str(error.value)
    return str(error.value)


def test_what_submit_writes_is_valid(tmp_path):
    assert checking.check(zipped(tmp_path / "a.zip", json.dumps(content())), WANTED) == {"results_target": 3}


def test_a_removed_id():
    changed = content()
    del changed["results_target"]["P01_101_1"]
    assert "results_target lacks 1 of 3 clips: P01_101_1;" in refusal(changed)


def test_an_added_id():
    changed = content()
    changed["results_target"]["P99_1_1"] = changed["results_target"]["P01_101_0"]
    assert "1 clips that are not asked for: P99_1_1;" in refusal(changed)


def test_a_doubled_id():
    """Python's parser takes the last of equal keys without a word."""
    text = json.dumps(content())
    clip = json.dumps(content()["results_target"]["P01_101_0"])
    text = text.replace('"P02_130_7": ', f'"P01_101_0": {clip}, "P02_130_7": ')
    assert json.loads(text) == content()
    assert "results_target has P01_101_0 more than once;" in refusal(text)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "null", "true", '"0.5"', "[0.5]", "1" + "0" * 400])
def test_a_score_that_is_no_finite_number(value):
    changed = content()
    changed["results_target"]["P01_101_1"]["noun"]["299"] = "HERE"
    assert "P01_101_1: noun 299 is " in refusal(json.dumps(changed).replace('"HERE"', value))


@pytest.mark.parametrize(("key", "where"), [("verb", "P02_130_7: verb is missing"), ("noun", "P02_130_7: noun is missing")])
def test_a_task_is_missing(key, where):
    changed = content()
    del changed["results_target"]["P02_130_7"][key]
    assert where in refusal(changed)


def test_a_task_too_many():
    changed = content()
    changed["results_target"]["P02_130_7"]["action"] = {"0,0": 1.0}
    assert "P02_130_7: action is no key of a submission" in refusal(changed)


def test_a_wrong_count_of_classes():
    changed = content()
    del changed["results_target"]["P01_101_0"]["verb"]["96"]
    changed["results_target"]["P01_101_1"]["noun"]["300"] = 0.0
    text = refusal(changed)
    assert "P01_101_0: verb has 96 classes, not 97" in text and "P01_101_1: noun has 301 classes, not 300" in text


@pytest.mark.parametrize("name", ["097", "97", "-1", "1.0", "take"])
def test_a_class_that_is_none(name):
    changed = content()
    verbs = changed["results_target"]["P01_101_0"]["verb"]
    verbs[name] = verbs.pop("96")
    assert f"P01_101_0: verb has a class {name}; they are 0 to 96" in refusal(changed)


def test_a_doubled_class():
    text = json.dumps(content()).replace('"verb": {"0":', '"verb": {"0": 1.0, "0":', 1)
    assert "P01_101_0: verb has class 0 more than once" in refusal(text)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("version", "0.1", "version is '0.1', not \"0.2\""),
        ("challenge", "action_recognition", "challenge is 'action_recognition', not \"domain_adaptation\""),
        ("sls_pt", 6, "sls_pt is 6, not a level from 0 to 5"),
        ("sls_tl", True, "sls_tl is True"),
        ("sls_td", 2.0, "sls_td is 2.0"),
        ("results", {}, "results is no key of a submission"),
        ("results_target", {}, "results_target has no clips"),
        ("results_target", [], "results_target has no clips"),
        ("results_source", {"P01_1_0": []}, "P01_1_0 has no verb and noun"),
    ],
)
def test_what_stands_around_the_clips(key, value, said):
    assert said in refusal(content() | {key: value})


@pytest.mark.parametrize("key", ["version", "challenge", "sls_pt", "results_target"])
def test_a_key_is_missing(key):
    assert f"{key} is missing" in refusal({k: v for k, v in content().items() if k != key})


def test_an_id_cannot_write_to_the_terminal():
    changed = content()
    changed["results_target"]["\x1b[31mred\n"] = {}
    text = refusal(changed)
    assert "\x1b" not in text and "\\x1b[31mred" in text


def test_the_source_s_clips_are_compared_where_their_ids_are_given():
    changed = content()
    changed["results_source"] = changed["results_target"]
    assert checking.check_text(json.dumps(changed).encode(), "x", WANTED) == {"results_target": 3, "results_source": 3}
    asked = WANTED | {"results_source": ["P01_1_0"]}
    assert "results_source is missing, whose 1 clips are asked for;" in refusal(content(), asked)
    assert "results_source lacks 1 of 1 clips: P01_1_0" in refusal(changed, asked)


@pytest.mark.parametrize("text", ["", "[]", "{", "3", '"x"', "[" * 100_000, "{" + '"a":{' * 5000])
def test_what_is_no_submission_at_all(text):
    assert "test.json" in refusal(text)


def test_files_that_are_too_large_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "MOST_BYTES", 10_000)
    bomb = zipped(tmp_path / "bomb.zip", "0" * 1_000_000)
    assert bomb.stat().st_size < 10_000
    with pytest.raises(SubmissionError, match=r"test.json is larger than a submission can be"):
        checking.read(bomb)
    data = bytearray(bomb.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # it says that it is small
        data[data.index(mark) + offset : data.index(mark) + offset + 4] = (100).to_bytes(4, "little")
    (tmp_path / "liar.zip").write_bytes(data)
    with pytest.raises(SubmissionError, match=r"cannot be read as a zip"):
        checking.read(tmp_path / "liar.zip")
    (tmp_path / "long.zip").write_bytes(bytes(10_001))
    with pytest.raises(SubmissionError, match=r"is larger than a submission can be"):
        checking.read(tmp_path / "long.zip")


def test_more_values_than_a_submission_has_are_not_parsed(monkeypatch):
    monkeypatch.setattr(checking, "MOST_VALUES", 1000)
    assert "has more than 1,000 values" in refusal("[" + "[]," * 1000 + "0]")


def test_a_zip_holds_exactly_one_file_of_that_name(tmp_path):
    text = json.dumps(content())
    for path in (
        zipped(tmp_path / "a.zip", text, "results/test.json"),
        zipped(tmp_path / "b.zip", text, **{"notes.txt": "x"}),
        zipped(tmp_path / "c.zip", text, "test.json\n"),
    ):
        with pytest.raises(SubmissionError, match=r"not only test.json"):
            checking.read(path)
    with zipfile.ZipFile(tmp_path / "none.zip", "w"):
        pass
    with pytest.raises(SubmissionError, match=r"it holds nothing, not only test.json"):
        checking.read(tmp_path / "none.zip")
    (tmp_path / "text.zip").write_text(text)
    os.mkfifo(tmp_path / "pipe.zip")
    for path in (tmp_path / "text.zip", tmp_path / "pipe.zip", tmp_path):
        with pytest.raises(SubmissionError, match=r"cannot be read as a zip"):
            checking.read(path)


def test_all_faults_are_counted_and_the_first_are_named():
    changed = content()
    for clip in IDS:
        for task in ("verb", "noun"):
            changed["results_target"][clip][task]["0"] = None
    text = refusal(changed)
    assert text.count("is None") == 5 and "and 1 more faults" in text


@pytest.mark.parametrize("zip64", [False, True])
def test_a_zip_of_very_many_files_is_refused_before_they_are_listed(tmp_path, monkeypatch, zip64):
    """Whatever number of files its end says."""
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(70_000 if zip64 else 30_000):
            archive.writestr(zipfile.ZipInfo(str(number)), b"")
    text = path.read_bytes()
    assert (b"PK\x06\x07" in text[-42:]) == zip64
    if not zip64:
        path.write_bytes(text[:-14] + b"\1\0\1\0" + text[-10:])
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("the files are listed"))
    with pytest.raises(SubmissionError, match=r"it holds thousands of files, not only test\.json"):
        checking.read(path)
