"""Every flag with values that cannot be: one line that names it, exit code 2, before anything is read."""

import re
from typing import get_args, get_type_hints

import pytest
from cia_extract.cli import main, options
from cia_extract.common import console, settings
from cia_extract.common.errors import UsageError

from tests.command_line import in_this_process

FLAGS = {
    "--dataset": ["a\0b", "a\x1b[31mb", "..", "a/b", "a\\b", "x" * 300, " "],
    "--frames": ["0", "-1", "1000000000", "1.5", "many"],
    "--window": ["0", "-3", "8", "1000000"],
    "--workers": ["0", "-3", "1000000", "x"],
    "--timeout": ["0", "-1", "nan", "inf", "1e300", "soon"],
    "--shard": ["0/3", "4/3", "a/b", "1", "1/", "/2", "-1/2", "1/2/3", "¹/²"],
    "--batch": ["0", "-1", "1000000000000"],
    "--clips-per-class": ["0", "-1", "1000000000"],
    "--seed": ["-1", "99999999999999999999"],
    "--device": ["gpu", "cuda:x", "tpu", "cuda:-1", "cpu:99999999999999999999", "\x1b[31m"],
    "--engine": ["", "tensorrt", "egar"],
    "--precision": ["fp8", "bf61"],
    "--flow": ["farneback", "tvl2"],
    "--flow-by": ["numpy", "opencl"],
    "--sampling": ["uniform"],
    "--edge": ["replicat"],
    "--rate": ["-1", "nan", "inf", "1e300"],
    "--backbone": ["id3", "resnet"],
    "--recipe": ["kinetic", "../kinetics"],
    "--modality": ["rbg", "", "smell"],
    "--set": ["rgb", "=1", "rgb.window", "rgb.window=", "rgb.window=[", "flow.bound=0"],
}
CASES = [(flag, value) for flag, values in FLAGS.items() for value in values]


@pytest.mark.parametrize(("flag", "value"), CASES)
def test_a_silly_value_is_one_line_that_names_its_flag(tmp_path, flag, value):
    (tmp_path / "clips").mkdir()
    dataset = [] if flag == "--dataset" else ["--dataset", "demo"]
    run = in_this_process(main, *dataset, f"{flag}={value}", "--root", tmp_path / "clips", "--dry-run", cwd=tmp_path)
    assert run.returncode == 2, run.stderr
    assert len(run.stderr.strip().splitlines()) == 1 and run.stdout == ""
    assert run.stderr.strip().isprintable() and "unexpected" not in run.stderr and len(run.stderr) < 800


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["--dataset", "Ucf"], "ucf"),
        (["--dataset", "hmbd"], "hmdb"),
        (["--dataset", "demo", "--recipe", "kinetic"], "kinetics"),
        (["--dataset", "demo", "--backbone", "id3"], "i3d"),
        (["--dataset", "demo", "--modality", "rbg"], "rgb"),
        (["--dataset", "demo", "--engine", "egar"], "eager"),
        (["--dataset", "demo", "--flow", "tv1"], "tvl1"),
        (["--dataset", "demo", "--precision", "FP32"], "fp32"),
        (["--dataset", "demo", "--sampling", "linspac"], "linspace"),
        (["--dataset", "demo", "--edge", "zeros"], "zero"),
        (["manifest", "--dataset", "Ucf"], "ucf"),
    ],
)
def test_a_mistyped_name_gets_the_near_one(tmp_path, arguments, meant):
    run = in_this_process(main, *arguments, cwd=tmp_path)
    assert run.returncode == 2 and f"did you mean {meant}?" in run.stderr, run.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "folder"], "--out folder: is a folder"),
        (["--manifest", "folder"], "--manifest folder: is a folder"),
        (["--weights", "folder"], "--weights folder: is a folder"),
        (["--weights", "rgb=folder"], "--weights folder: is a folder"),
        (["--root", "file"], "--root file: is a file, not a folder"),
        (["--flow-cache", "file"], "--flow-cache file: is a file, not a folder"),
        (["--out", "file/f.h5"], "--out file/f.h5: file is a file, not a folder"),
        (["--out", "x" * 300], "--out x+: File name too long"),
        (["--manifest", "x" * 300], "--manifest x+: cannot be a file"),
        (["--root", "x" * 300], "--root x+: cannot be a folder"),
    ],
)
@pytest.mark.parametrize("dataset", ["mine", "demo", "ucf"])
def test_a_folder_for_a_file_or_a_file_for_a_folder_is_one_line(tmp_path, dataset, words, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    root = [] if "--root" in words else ["--root", "folder"]
    run = in_this_process(main, "--dataset", dataset, *words, *root, "--dry-run", cwd=tmp_path)
    assert run.returncode == 2 and len(run.stderr.strip().splitlines()) == 1, run.stderr
    assert re.search(message, run.stderr), run.stderr


def test_annotations_that_are_a_file_are_named_so(tmp_path):
    (tmp_path / "list.txt").touch()
    run = in_this_process(main, "--dataset", "ucf", "--root", tmp_path, "--annotations", tmp_path / "list.txt")
    assert run.returncode == 2 and "list.txt: is a file, not a folder" in run.stderr


def test_a_gpu_that_this_machine_lacks_is_named_whatever_it_has(tmp_path):
    import torch

    run = in_this_process(main, "--dataset", "demo", "--device", "cuda:99", "--dry-run", cwd=tmp_path)
    why = "torch sees " + ("no GPU" if not torch.cuda.is_available() else "")
    assert run.returncode == 2 and why in run.stderr
    console.check_gpu("cuda:1", 1, 2)
    with pytest.raises(UsageError, match=r"torch sees GPUs cuda:0 to cuda:1$"):
        console.check_gpu("cuda:99", 99, 2)
    with pytest.raises(UsageError, match=r"torch sees one GPU, cuda:0$"):
        console.check_gpu("cuda:1", 1, 1)
    with pytest.raises(UsageError, match="no GPU here"):
        console.check_gpu("cuda", 0, 0)


def test_words_of_flags_are_those_that_the_parts_know():
    from cia_extract.clips import flow
    from cia_extract.networks import engines

    kinds = get_type_hints(options.Computing)
    words = [get_args(kinds[field]) for field in ("engine", "precision", "flow_by")]
    assert words == [engines.ENGINES, engines.PRECISIONS, flow.FLOW_BY]


@pytest.mark.parametrize("group", [options.Clips, options.Preprocessing, options.Computing])
def test_a_bad_value_of_any_field_with_limits_or_words_is_one_line_that_quotes_its_flag(tmp_path, group):
    kinds = get_type_hints(group, include_extras=True)
    checked = [name for name, kind in kinds.items() if settings.limits(kind) or settings.choices(kind)]
    assert checked
    for name in checked:
        flag = f"--{name.replace('_', '-')}"
        run = in_this_process(main, f"{flag}={'-7' if settings.limits(kinds[name]) else 'none'}", cwd=tmp_path)
        expected = "give a (whole )?number from" if settings.limits(kinds[name]) else "unknown, choose from"
        assert run.returncode == 2 and re.fullmatch(f"cia-extract: {flag} [^ ]+: {expected} .*\n", run.stderr), run.stderr
