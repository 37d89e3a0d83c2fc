"""`cia-adapt figure`: what the pictures show, the numbers beside them, and what is refused."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from cia_adapt import cli
from cia_adapt.experiments import runner
from cia_adapt.results import figures
from cia_adapt.results.figures import clip_maps, two_runs
from cia_adapt.results.figures.grad_cam import changed_by_pooling
from cia_adapt.runs import files
from cia_extract.common.errors import UsageError
from PIL import Image

from tests.adapt.runs.test_resume import request
from tests.adapt.runs_of import copied
from tests.command_line import in_this_process
from tests.conftest import make_dataset
from tests.extract.clips.test_video import encode

PLAIN = clip_maps.Wanted(root=None)


def figure(*arguments: object, cwd: Path | None = None):
    return in_this_process(cli.main, "figure", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def runs(small_file, tmp_path_factory) -> dict[str, Path]:
    """{method: the folder of its run}, on a file that does not say where its clips are."""
    root = tmp_path_factory.mktemp("runs")
    for method in ("concat", "cia"):
        runner.run(request(small_file, root, method), lambda message: None)
    return {folder.parents[1].name: folder for folder in files.find([root])}


def test_tsne_draws_runs_side_by_side_with_every_clip_in_the_csv(runs, tmp_path):
    run = figure("tsne", runs["concat"], runs["cia"], "--out", tmp_path / "x.png")
    assert run.returncode == 0, run.stderr
    width, height = Image.open(tmp_path / "x.png").size
    assert width > 1.5 * height
    rows = list(csv.DictReader((tmp_path / "x.csv").open()))
    assert [row["method"] for row in rows] == ["concat"] * 12 + ["cia"] * 12
    assert {(row["role"], row["domain"]) for row in rows} == {("source", "here"), ("target", "there")}
    by_clip = {(row["method"], row["clip"]): row["class"] for row in rows}
    assert len(by_clip) == 24 and set(by_clip.values()) == {"jump", "run", "wave"}
    truth = {row["clip"]: row["label"] for row in files.read_predictions(runs["cia"])}
    assert all(truth[clip] == name for (_, clip), name in by_clip.items() if clip.startswith("there"))
    again = figure("tsne", runs["concat"], runs["cia"], "--out", tmp_path / "y.png")
    assert again.returncode == 0 and (tmp_path / "y.png").read_bytes() == (tmp_path / "x.png").read_bytes()
    assert (tmp_path / "y.csv").read_text() == (tmp_path / "x.csv").read_text()


OTHER_CLIPS = ": predictions.csv and scores.safetensors are not of the same clips; train the run again"
OTHER_COLUMNS = (
    "/predictions.csv: damaged (its columns are not clip, and a label with its last and selected); train the run again"
)


@pytest.mark.parametrize(("content", "message"), [
    ("clip,label,last,selected\na,b,c,d\n", OTHER_CLIPS), ("clip\na\n", OTHER_COLUMNS),
    ("label,last,selected\na,b,c\n", OTHER_COLUMNS), ("clip,label,last,selected\n" + "a,b,c,d\n" * 100, OTHER_CLIPS),
])  # fmt: skip
def test_predictions_of_other_clips_than_the_scores_are_one_line(runs, tmp_path, content, message):
    folder = copied(runs["cia"], tmp_path / "seed0")
    (folder / "predictions.csv").write_text(content)
    run = figure("tsne", folder, "--out", tmp_path / "x.png")
    assert run.returncode == 3 and f"{folder}{message}" in run.stderr and not (tmp_path / "x.png").exists()


def test_tsne_places_the_features_of_the_clips_that_it_names(runs):
    """Two clips of equal features lie at one place; here the clip's class is in its features, so classes lie apart."""
    picture = two_runs.place(runs["cia"], 0, print)
    for placed in (picture.source, picture.target):
        centres = {name: placed.points[[c == name for c in placed.classes]].mean(0) for name in dict.fromkeys(placed.classes)}
        nearest = [min(centres, key=lambda name: float(np.linalg.norm(centres[name] - xy))) for xy in placed.points]
        assert np.mean([a == b for a, b in zip(nearest, placed.classes, strict=True)]) >= 0.8


def test_tsne_without_the_feature_file_has_no_source_classes_and_says_so(runs, tmp_path):
    folder = copied(runs["cia"], tmp_path / "run")
    stamp = (folder / "stamp.json").read_text()
    (folder / "stamp.json").write_text(stamp.replace("small.h5", "gone.h5"))
    run = figure("tsne", folder, "--out", tmp_path / "x.svg")
    assert run.returncode == 0 and "the source's clips are drawn without their classes" in run.stderr
    rows = list(csv.DictReader((tmp_path / "x.csv").open()))
    assert {row["class"] for row in rows if row["role"] == "source"} == {""}
    assert {row["class"] for row in rows if row["role"] == "target"} == {"jump", "run", "wave"}


@pytest.mark.parametrize(
    ("kind", "suffix", "begins"),
    [
        ("consensus", "png", b"\x89PNG"),
        ("gradcam", "pdf", b"%PDF"),
        ("consensus", "svg", b"<?xml"),
        pytest.param("gradcam", "png", b"\x89PNG", marks=pytest.mark.slow),
        pytest.param("consensus", "pdf", b"%PDF", marks=pytest.mark.slow),
        pytest.param("gradcam", "svg", b"<?xml", marks=pytest.mark.slow),
    ],
)
def test_the_suffix_says_the_format(runs, tmp_path, kind, suffix, begins):
    out = tmp_path / f"new/x.{suffix}"
    run = figure(kind, runs["cia"], "--out", out, "--clip", "there5")
    assert run.returncode == 0, run.stderr
    assert out.read_bytes().startswith(begins)
    assert "drawn without the clip's frames" in run.stderr  # a foreign file does not say where they are
    assert "there5: predicted" in run.stdout


def test_maps_are_the_models_own(runs):
    """Consensus and prediction of the clip, from one forward of the run's model."""
    run = figures.opened(runs["cia"])
    shown = clip_maps.consensus(run, clip_maps.Wanted(clip="there8"), print)
    position = run.task.target_val.names.index("there8")
    with torch.inference_mode():
        output = run.model(run.inputs(np.array([position])))
    np.testing.assert_allclose(shown.panels["consensus"], output.consensus[0].numpy(), rtol=1e-5)
    predicted = {row["clip"]: row["selected"] for row in files.read_predictions(runs["cia"])}["there8"]
    assert shown.title.endswith(f"there8: predicted {predicted}")
    assert clip_maps.consensus(run, clip_maps.Wanted(clip="there8", frames=(2, 4)), print).panels["consensus"].shape == (2, 7, 7)


def test_a_class_is_chosen_by_name(runs):
    run = figures.opened(runs["cia"])
    by_class = {
        name: clip_maps.grad_cam(run, clip_maps.Wanted(clip="there8", target_class=name), print)
        for name in ("jump", "label=wave")
    }
    assert "Grad-CAM for jump" in by_class["jump"].title and "Grad-CAM for wave" in by_class["label=wave"].title
    assert not np.allclose(by_class["jump"].panels["fused"], by_class["label=wave"].panels["fused"])
    with pytest.raises(UsageError, match=r"--class jumpp: no class of label, choose from jump, run, wave; did you mean jump\?"):
        clip_maps.class_of(run, "jumpp")


def test_the_default_clip_is_the_one_that_sc_changes_most(runs):
    run = figures.opened(runs["cia"])
    changes = changed_by_pooling(run.model, run.inputs(np.arange(len(run.task.target_val)))).numpy()
    assert clip_maps.most_changed(run) == changes.argmax() and changes.max() > 0
    assert clip_maps.consensus(run, PLAIN, print).clip == run.task.target_val.names[changes.argmax()]


def test_a_method_of_vectors_has_grad_cam_where_the_file_has_maps(runs, tmp_path):
    run = figure("gradcam", runs["concat"], "--clip", "there5", "--out", tmp_path / "x.png")
    assert run.returncode == 0, run.stderr
    panels = clip_maps.grad_cam(figures.opened(runs["concat"]), clip_maps.Wanted(clip="there5"), print).panels
    assert list(panels) == ["rgb", "flow"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tsne", "ROOT"], "holds 2 runs; name one, such as"),
        (["tsne", "nowhere"], "no finished run in nowhere"),
        (["consensus", "concat"], "concat has no SC, and so no consensus map"),
        (["gradcam", "concat"], "concat pools by the average, no map changes a clip; name one with --clip"),
        (["gradcam", "cia", "--clip", "there"], "--clip there: none of the 6 clips"),
        (["gradcam", "cia", "--clip", "there5", "--frame", "6"], "--frame 6: the network sees frames 1 to 5"),
        (["gradcam", "cia", "--clip", "there5", "--class", "fly"], "--class fly: no class of label"),
        (["gradcam", "cia", "--out", "x.jpeg"], "--out x.jpeg: the suffix says the format; end the name in .png, .pdf, .svg"),
        (["gradcam", "cia", "--out", "."], "--out .: is a folder"),
    ],
)
def test_a_mistake_is_one_line(runs, tmp_path, arguments, message):
    root = runs["cia"].parents[2]
    words = [runs.get(word, root if word == "ROOT" else word) for word in arguments]
    run = figure(*words, cwd=tmp_path)
    assert run.returncode == 2 and message in run.stderr and run.stderr.count("\n") == 1, run.stderr


def test_the_frames_of_a_clip_lie_under_its_maps(tmp_path):
    """A feature file of cia-extract's, whose clips are described at frames 0 … 4; frame t of the video has grey 8·t."""
    make_dataset(tmp_path / "f.h5", "here", seed=1)
    make_dataset(tmp_path / "f.h5", "there", seed=2)
    runner.run(request(tmp_path / "f.h5", tmp_path / "runs", "cia", epochs=1), lambda message: None)
    (folder,) = files.find([tmp_path / "runs"])
    run, said = figures.opened(folder), []
    encode(tmp_path / "there8.mp4", 12).rename(tmp_path / "there8.avi")
    shown = clip_maps.grad_cam(run, clip_maps.Wanted(clip="there8", frames=(1, 4)), said.append)
    assert [round(float(picture.mean()) / 8) for picture in shown.pictures] == [0, 3] and not said
    assert shown.rows == ["frame 0", "frame 3"]
    shown = clip_maps.grad_cam(run, clip_maps.Wanted(clip="there5"), said.append)
    assert shown.pictures == [None] * 5 and "there5.avi: no such file" in said[0]


def test_names_of_any_kind_are_drawn_as_text(tmp_path):
    odd = ['<b>"x"&', "a$\\frac{1}{2}$", "🎬 عربي", "\u202ex", "y" * 300]
    points = np.arange(10.0).reshape(5, 2)
    panels = {name: [(points, odd), (points + 1, odd)] for name in odd[:2]}
    figures.drawing.save(figures.drawing.scatter(panels, odd[:2]), tmp_path / "x.svg")
    text = (tmp_path / "x.svg").read_text()
    assert "&lt;b&gt;" in text and "frac{1}{2}" in text and "\u202e" not in text and "y" * 61 not in text
    maps = {"consensus": np.ones((1, 7, 7))}
    drawn = figures.drawing.maps_over_frames([None], maps, ["frame 0"], odd[2] + odd[1])
    figures.drawing.save(drawn, tmp_path / "y.png")
    assert Image.open(tmp_path / "y.png").width > 300
