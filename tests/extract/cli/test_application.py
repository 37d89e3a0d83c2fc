"""The command line as a user meets it: what is printed where, and the exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cia_extract.cli import main

from tests.command_line import in_a_process, in_this_process
from tests.extract.clips.test_video import encode


def cia_extract(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return in_this_process(main, *arguments, cwd=cwd)


def test_help_is_quick_to_import():
    for program in ("cia_extract", "cia_adapt"):
        code = (
            f"import sys; sys.argv = ['x', '--help']\nfrom {program}.cli import main\ntry: main()\nexcept SystemExit as e: "
            "assert not e.code, e.code\nassert not {'torch', 'av', 'cv2', 'sklearn'} & set(sys.modules)"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert "--dry-run" in run.stdout


@pytest.fixture
def clips(tmp_path) -> Path:
    for label in ("run", "jump"):
        (tmp_path / "clips" / label).mkdir(parents=True)
        encode(tmp_path / "clips" / label / "a.mp4", 20)
    return tmp_path / "clips"


def test_from_folders_to_features_and_back(clips, tmp_path):
    made = cia_extract("manifest", "--from-folders", clips)
    assert made.returncode == 0 and "2 clips, 2 classes (jump, run), splits" in made.stdout
    assert cia_extract("manifest", "--from-folders", clips).returncode == 4
    out = tmp_path / "f.h5"
    line = ["--dataset", "mine", "--root", clips, "--out", out, "--frames", 1, "--flow", "dis", "--weights", "random"]
    run = in_a_process("cia_extract", *line, "--json")
    assert run.returncode == 0, run.stderr
    summary = json.loads(run.stdout)
    assert summary["done"] == 2 and summary["failed"] == {} and summary["windows"] == 4
    assert "Traceback" not in run.stderr, "the pool of workers must be gone before the interpreter ends"
    assert "random values, seed 0: not a trained network" in run.stderr
    again = cia_extract(*line)
    assert again.returncode == 0 and "(0 now" in again.stdout
    other = cia_extract(*line, "--window", 12)
    assert other.returncode == 4 and "preprocessing.rgb.window: 16 → 12" in other.stderr
    assert cia_extract(*line, "--window", 12, "--overwrite").returncode == 0
    info = json.loads(cia_extract("info", out, "--json").stdout)["mine"]
    assert info["recipe"]["weights"]["rgb"]["name"] == "random" and info["rgb"]["done"] == 2
    assert cia_extract("verify", out).returncode == 0
    with out.open("r+b") as file:
        file.seek(-100_000, 2)
        file.write(b"\xff\x00" * 50)
    damaged = cia_extract("verify", out)
    assert damaged.returncode == 3 and "does not match its CRC32C" in damaged.stdout


def test_a_failed_clip_is_told_in_one_line_with_code_3(clips, tmp_path):
    (clips / "run" / "b.mp4").write_bytes((clips / "run" / "a.mp4").read_bytes()[:700])
    cia_extract("manifest", "--from-folders", clips)
    run = cia_extract(
        "--dataset", "m", "--root", clips, "--out", tmp_path / "f.h5", "--frames", 1, "--modality", "rgb", "--weights", "random"
    )
    assert run.returncode == 3
    assert "m: 2 of 3 clips done, 1 failed" in run.stdout
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("cia-extract: 1 of 3 clips failed: run/b (") and "b.mp4: cannot be decoded" in last


def test_dry_run_makes_nothing(clips, tmp_path):
    cia_extract("manifest", "--from-folders", clips)
    run = cia_extract("--dataset", "m", "--root", clips, "--out", tmp_path / "f.h5", "--dry-run", "--json", "--flow", "dis")
    planned = json.loads(run.stdout)
    assert planned["clips"] == 2 and planned["clips_missing"] == 0
    assert planned["gigabytes"] == pytest.approx(2 * 2 * 25 * 1024 * (49 * 2 + 4) / 1e9, abs=1e-3)
    assert planned["trunk_parameters"] == {"rgb": 12_287_264, "flow": 12_265_312}
    assert planned["hours_estimated"]["network"] > 0 and planned["gigabytes_free"] > 0
    assert not (tmp_path / "f.h5").exists()


def test_dry_run_says_why_it_knows_no_hours(tmp_path):
    broken = tmp_path / "m/run/a.mp4"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no video")
    assert cia_extract("manifest", "--from-folders", tmp_path / "m").returncode == 0
    run = cia_extract(
        "--dataset", "m", "--root", tmp_path / "m", "--out", tmp_path / "f.h5", "--dry-run", "--json", "--modality", "rgb"
    )
    assert run.returncode == 0 and json.loads(run.stdout)["hours_estimated"] == {}
    assert f"hours are not estimated; the first: {broken}: cannot be decoded" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "--dataset is missing; try: cia-extract --dataset demo"),
        (["--dataset", "ucf"], 2, "no such folder"),
        (["--dataset", "a/b"], 2, "give a plain name"),
        (["--dataset", "d", "--flow", "farneback"], 2, "--flow farneback: unknown, choose from tvl1, dis"),
        (["--dataset", "d", "--modality", "smell"], 2, "--modality smell: unknown"),
        (["--dataset", "d", "--backbone", "resnet"], 2, "--backbone resnet: unknown, choose from i3d, tbn"),
        (["--dataset", "d", "--backbone", "i3d", "--recipe", "mmtbn"], 2, "--recipe mmtbn: unknown, choose from kinetics"),
        (["--dataset", "d", "--backbone", "i3d", "--recipe", "tbn-epic55"], 2, "is for --backbone tbn, not i3d"),
        (["--dataset", "d", "--set", "rgb.egde=zero"], 2, "rgb.egde = zero: unknown, choose from .*; did you mean rgb.edge"),
        (["--dataset", "d", "--set", "rgb.std=0"], 2, "rgb.std = 0: give 3 numbers"),
        (["--dataset", "d", "--shard", "3/2"], 2, "--shard 3/2: write i/n with 1 ≤ i ≤ n"),
        (["--dataset", "d", "--shard", "1/2", "--overwrite"], 2, "parts would erase each other"),
        (["--dataset", "ucf", "--annotations", "nowhere"], 2, "data/ucf: no such folder; for ucf, "),
        (["manifest"], 2, "give one of --from-folders DIR and --dataset NAME"),
        (["manifest", "--dataset", "kinetics"], 2, "kinetics"),
        (["merge", "none.h5", "--out", "all.h5"], 3, "none.h5: no such file"),
        (["compare", "none.h5", "none"], 3, "none.h5: no such file"),
        (["recipes", "none"], 2, "--recipe none: unknown"),
        (["--dataset", "d", "--device", "cuda:99"], 2, "--device cuda:99: torch sees (no GPU here|one GPU|GPUs)"),
        (["--dataset", "d", "--engine", "compiled", "--deterministic"], 2, "--deterministic computes eagerly; leave out one"),
        (["--datset", "d"], 2, "No such option"),
        (["info", "none.h5"], 3, "none.h5: no such file"),
        (["verify", "none.h5"], 3, "none.h5: no such file"),
    ],
)
def test_a_users_mistake_is_one_line(tmp_path, arguments, code, message):
    import re

    run = cia_extract(*arguments, cwd=tmp_path)
    assert run.returncode == code
    assert re.search(message, run.stderr), run.stderr
    assert len(run.stderr.strip().splitlines()) == 1 and run.stdout == ""


def test_manifest_errors_reach_the_user(clips, tmp_path):
    (clips / "manifest.csv").write_text("clip,path,label,split\na,../x.mp4,run,train\n")
    run = cia_extract("--dataset", "m", "--root", clips, "--out", tmp_path / "f.h5")
    assert run.returncode == 3 and "manifest.csv, line 2, column path: '../x.mp4' leaves the root" in run.stderr


@pytest.mark.slow
def test_a_mistake_with_overwrite_does_not_cost_the_features(clips, tmp_path):
    """A flow file given to the RGB stream, an impossible device: refused before the finished dataset is touched."""
    from cia_extract.networks import weights
    from safetensors.numpy import save_file

    save_file(weights.load("i3d", "flow", "random", print).tensors, tmp_path / "flow.safetensors")
    cia_extract("manifest", "--from-folders", clips)
    line = ["--dataset", "m", "--root", clips, "--out", tmp_path / "f.h5", "--frames", 1, "--modality", "rgb"]
    assert cia_extract(*line, "--weights", "random").returncode == 0
    wrong = cia_extract(*line, "--weights", tmp_path / "flow.safetensors", "--overwrite")
    assert wrong.returncode == 3 and "do not fit the rgb I3D" in wrong.stderr
    device = cia_extract(*line, "--weights", "random", "--device", "meta", "--overwrite")
    assert device.returncode == 2 and "--device meta: unknown" in device.stderr
    assert json.loads(cia_extract("info", tmp_path / "f.h5", "--json").stdout)["m"]["rgb"]["done"] == 2


def test_weights_that_are_not_there(clips, tmp_path):
    cia_extract("manifest", "--from-folders", clips)
    run = cia_extract("--dataset", "m", "--root", clips, "--out", tmp_path / "f.h5", "--weights", "flow=none.pt")
    assert run.returncode == 3 and "weights none.pt: no such file" in run.stderr
    assert not (tmp_path / "f.h5").exists()
