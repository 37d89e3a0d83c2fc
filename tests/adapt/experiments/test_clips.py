"""Training the backbone on clips by the same loop: run folders, going on, and the same numbers as over its features."""

import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from cia_adapt import config
from cia_adapt.experiments import Request, directions, runner
from cia_adapt.footage import filling
from cia_adapt.results import table
from cia_adapt.runs import backbone, files, resume, state
from cia_adapt.training import train
from cia_extract import __version__, features
from cia_extract.common.errors import DataError, MismatchError, UsageError
from cia_extract.datasets import manifest, sources
from cia_extract.networks import weights

from tests.adapt.clips_of import request, trainer_of
from tests.adapt.runs_of import equal


@pytest.fixture
def no_decoding(monkeypatch):
    def refuse(jobs, workers):
        raise AssertionError("clips are decoded")

    monkeypatch.setattr(filling, "prepared_clips", refuse)


def quiet(message: str) -> None:
    pass


def test_a_run_trains_both_streams_from_the_cache_alone_and_is_read_again(tiny_clips, tmp_path, no_decoding):
    asked = request(tiny_clips, tmp_path)
    (result,) = runner.run(asked, quiet, quiet=True)
    folder = tmp_path / "demo-i3d/cia/day-night/seed0"
    trained, config_file = files.load_model(folder, "last"), files.read_config(folder)
    trainer, _ = trainer_of(asked)
    before = trainer.model.state_dict()
    for modality in ("rgb", "flow"):
        for name in ("conv.weight", "bn.running_mean", "bn.bias"):
            first = f"trunk.streams.{modality}.trunk.Conv3d_1a_7x7.{name}"
            assert not torch.equal(trained[first], before[first])
    assert config_file["setup"]["input"] == "clips" and result["parameters"] > 24_500_000
    assert runner.run(asked, quiet) == [files.read(folder)]  # finished before
    with pytest.raises(MismatchError, match=r"setup\.batch_norm: train → frozen"):
        runner.run(request(tiny_clips, tmp_path, batch_norm="frozen"), quiet)


def test_other_first_weights_make_another_run(tiny_clips, tmp_path, monkeypatch):
    from cia_adapt.experiments import clips

    runner.run(request(tiny_clips, tmp_path, "source-only", modalities=("rgb",), epochs=1), quiet, quiet=True)
    real = clips.weights.load
    monkeypatch.setattr(clips.weights, "load", lambda *asked: replace(real(*asked), sha256="other"))
    with pytest.raises(MismatchError, match="features"):
        runner.run(request(tiny_clips, tmp_path, "source-only", modalities=("rgb",), epochs=1), quiet)


def test_the_loss_falls(tiny_clips, tmp_path):
    """Down or right: the flow of six epochs tells."""
    asked = request(tiny_clips, tmp_path, "source-only", modalities=("flow",), epochs=8, lr=1e-3, dropout=0.0, jitter=False)
    trainer, evaluator = trainer_of(asked)
    outcome = train(trainer, evaluator, lambda metrics: None, with_validators=False)
    losses = [metrics["class_loss"] for metrics in outcome.history]
    assert losses[-1] < 0.7 * losses[0]


SLOW = pytest.mark.slow


def recorded(trainer, evaluator):
    """(the outcome of a run, its state after each epoch)."""
    packed = []
    outcome = train(
        trainer,
        evaluator,
        quiet,
        after_epoch=lambda outcome: packed.append(resume.pack(trainer, outcome, evaluator.target_labels, {})),
    )
    return outcome, packed


@pytest.mark.parametrize("method", ["cia", pytest.param("mmsada-fl", marks=SLOW)])
def test_a_resumed_run_is_the_same_bit_for_bit(tiny_clips, tmp_path, method):
    asked = request(tiny_clips, tmp_path, method, flip=True, dropout=0.5)
    trainer, evaluator = trainer_of(asked)
    straight, packed = recorded(trainer, evaluator)
    path = tmp_path / "state.safetensors"
    state.save(path, packed[0].tensors, packed[0].rest)
    again, evaluator = trainer_of(asked)
    outcome = resume.unpack(resume.Packed(*state.load(path)), again, evaluator.target_labels)
    resumed = train(again, evaluator, quiet, outcome)
    assert resumed.history == straight.history and equal(resumed.last.state, straight.last.state)
    assert straight.history[0]["class_loss"] != straight.history[1]["class_loss"]


@pytest.mark.parametrize("method", ["cia", pytest.param("concat", marks=SLOW), pytest.param("mmsada-fl", marks=SLOW)])
def test_a_frozen_backbone_gives_the_numbers_of_its_features(tiny_clips, tmp_path, method):
    """The same frames through the same network: once inside the model, once before it, as float32 maps in a feature file."""
    same = {"dropout": 0.5, "epochs": 3, "lr": 3e-3}
    frozen = {"freeze_until": "Mixed_5c", "jitter": False, "short_side": 64, "width": 80, "crop": 64} | same
    asked = request(tiny_clips, tmp_path / "clips", method, **frozen)
    asked = replace(asked, footage=replace(asked.footage, cache=tmp_path / "cache"))
    trainer, _ = trainer_of(asked)
    (over_clips,) = runner.run(asked, quiet, quiet=True)
    dataset = trainer.task.target_val.dataset
    columns = {name: dataset.columns[name] for name in ("clip",)} | labels_of(tiny_clips)
    with h5py.File(tmp_path / "feats.h5", "w") as file, torch.inference_mode():
        for column, values in columns.items():
            file[f"tiny/clips/{column}"] = np.array(values, dtype="S")
        trunk = trainer.model.trunk.eval()
        frames = {m: torch.from_numpy(np.array(dataset.array(f"{m}/frames"))) for m in ("rgb", "flow")}
        for modality, maps in trunk(frames).items():
            assert maps.shape == (24, 1, 1024, 2, 2)
            file[f"tiny/{modality}/maps"] = maps.numpy()
            file[f"tiny/{modality}/pooled"] = maps.mean((3, 4)).numpy()
    chosen = config.load("demo-i3d", method, {"input": "features", "segments": 1, "batch": 4} | same, chosen_sets(method))
    plain = Request(features=tmp_path / "feats.h5", chosen=chosen, sources=("day",), target="night", runs=tmp_path / "feats")
    (over_features,) = runner.run(plain, quiet, quiet=True)
    for name in ("last", "selected", "source_val"):
        assert over_clips[name] == over_features[name]
    histories = [files.read_metrics(tmp_path / place / "demo-i3d" / method / "day-night/seed0") for place in ("clips", "feats")]
    for a, b in zip(*histories, strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            if name != "advice":
                assert value == pytest.approx(b[name], rel=1e-4, abs=1e-4), name


def labels_of(path) -> dict[str, list[str]]:
    columns = manifest.read(path).columns
    return {name: list(columns[name]) for name in ("label", "split", "domain")}


def chosen_sets(method: str) -> list[str]:
    return ["sc.embedding=16"] if method == "cia" else []


def test_evaluation_averages_over_equidistant_samplings(tiny_clips, tmp_path):
    """Two samplings of 4 frames out of 8: the mean of what each says."""
    asked = request(tiny_clips, tmp_path, "source-only", modalities=("rgb",), test_clips=2)
    asked = replace(asked, footage=replace(asked.footage, cache=tmp_path / "cache"))
    trainer, evaluator = trainer_of(asked)
    clips = trainer.task.target_val
    assert clips.frames == 8
    mean = evaluator.predict(trainer.model, clips)
    trainer.model.eval()
    by_hand = []
    with torch.inference_mode():
        for frames in ([0, 2, 4, 6], [1, 3, 5, 7]):
            batch = clips.batch(np.arange(len(clips)), np.tile(frames, (len(clips), 1)))
            by_hand.append(trainer.model(batch).probabilities()[0])
    assert torch.allclose(mean.probabilities[0], torch.stack(by_hand).mean(0), atol=1e-5)
    assert not torch.allclose(by_hand[0], by_hand[1], atol=1e-5)
    draws = trainer.draws()
    seen = {int(frame) for draw in draws for row in draw.views[0][0] for frame in row}
    assert seen & {0, 2, 4, 6} and seen & {1, 3, 5, 7}  # training takes any frame of a segment


def test_what_does_not_go_together_is_told_before_anything_is_decoded(tiny_clips, tmp_path, no_decoding):
    with pytest.raises(UsageError, match=r"--crop 33: must not be larger than --short-side 32 or --width 40"):
        runner.run(request(tiny_clips, tmp_path, crop=33), quiet)
    with pytest.raises(UsageError, match="--modality audio: with --clips the backbone is trained on rgb and flow only"):
        runner.run(request(tiny_clips, tmp_path, modalities=("audio",)), quiet)
    with pytest.raises(UsageError, match="--freeze-until Mixed_9a: no such layer"):
        runner.run(request(tiny_clips, tmp_path, freeze_until="Mixed_9a"), quiet)
    with pytest.raises(UsageError, match="--batch-norm synchronised: works on GPUs only; take train or frozen here"):
        runner.run(request(tiny_clips, tmp_path, batch_norm="synchronised"), quiet)

    def uncached(method: str = "cia", **flags) -> Request:
        asked = request(tiny_clips, tmp_path, method)
        return replace(asked, footage=replace(asked.footage, cache=tmp_path / "cache", **flags))

    with pytest.raises(UsageError, match="--source dai: not in the file, which holds day, night; did you mean day"):
        runner.run(replace(uncached(), sources=("dai",)), quiet)
    with pytest.raises(UsageError, match="--target nigth: not in the file, which holds day, night; did you mean night"):
        runner.run(replace(uncached(), target="nigth"), quiet)
    with pytest.raises(DataError, match=r"weights nothing\.pth: no such file"):
        runner.run(uncached(weights=("rgb=nothing.pth",)), quiet)
    with pytest.raises(UsageError, match="--temporal trn: relates frames to each other and needs --segments 2 or more"):
        runner.run(uncached("trn"), quiet)
    assert not list(tmp_path.iterdir())
    with pytest.raises(AssertionError, match="clips are decoded"):  # what goes together is decoded
        runner.run(uncached(), quiet)


def test_target_clips_without_labels_cannot_be_the_source_and_this_is_told_before_anything_is_decoded(
    tiny_clips, tmp_path, no_decoding
):
    columns = manifest.read(tiny_clips).columns
    rows = [{name: values[i] for name, values in columns.items()} for i in range(len(columns["clip"]))]
    unlabelled = [row | {"label": "" if row["domain"] == "night" and row["split"] == "train" else row["label"]} for row in rows]
    manifest.check("tiny", unlabelled).write(tmp_path / "tiny.csv")
    asked = request(tmp_path / "tiny.csv", tmp_path / "runs")
    with pytest.raises(DataError, match=r"'night' has 8 of 8 training clips without a label.* name the labelled domain"):
        runner.run(replace(asked, sources=(), target=None), quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.csv"]


def test_auto_weights_fall_back_to_kinetics_and_say_what_is_worse(tiny_clips, tmp_path, monkeypatch):
    """As in cia-extract; without a network."""

    def refuse(name, say, tries):
        raise UsageError(f"weights {name}: cannot be downloaded")

    loaded = []

    def load(backbone, modality, choice, say):
        loaded.append((modality, choice))
        return random_weights(backbone, modality, "random", say)

    random_weights = weights.load
    monkeypatch.setattr(weights.cache, "get", refuse)
    monkeypatch.setattr(weights, "load", load)
    asked, said = request(tiny_clips, tmp_path), []
    list(directions.prepared(replace(asked, footage=replace(asked.footage, weights=("auto",))), said.append))
    assert loaded == [("rgb", "kinetics"), ("flow", "kinetics")]
    (line,) = [
        line for line in said if line.startswith("--weights auto: takes kinetics, which is worse: 68.4 % instead of 71.1 %")
    ]
    assert "never trained on flow" in line and "weights rgb_imagenet: cannot be downloaded" in line


def test_the_stamp_says_what_the_backbone_began_with(tiny_clips, tmp_path):
    runner.run(request(tiny_clips, tmp_path, "source-only", modalities=("rgb",), epochs=1), quiet, quiet=True)
    stamp = json.loads((tmp_path / "demo-i3d/source-only/day-night/seed0/stamp.json").read_text())
    assert stamp["backbone"]["rgb"]["name"] == "random" and len(stamp["backbone"]["rgb"]["sha256"]) == 64


def test_a_fine_tuned_stream_is_read_as_weights_with_its_provenance(tiny_clips, tmp_path):
    """The run's file gives cia-extract the network that the run selected, and says where it comes from."""
    asked = request(tiny_clips, tmp_path, "source-only", modalities=("flow",), lr=1e-3)
    (result,) = runner.run(asked, quiet, quiet=True)
    folder = tmp_path / "demo-i3d/source-only/day-night/seed0"
    path = folder / "backbone-flow.safetensors"
    loaded = weights.load("i3d", "flow", str(path), quiet)
    epoch = result["selected_epoch"]
    assert loaded.provenance == (
        f"fine-tuned on the labels of day (cia-adapt {__version__}, demo-i3d, source-only, seed 0, epoch {epoch}), from random "
        "(random values, seed 0: not a trained network)"
    )
    assert loaded.name == "file:backbone-flow.safetensors" and not (folder / "backbone-rgb.safetensors").exists()
    trainer, _ = trainer_of(asked)
    trainer.model.load_state_dict(files.load_model(folder, "selected"))
    network = weights.build("i3d", "flow", loaded)
    selected = trainer.model.trunk.eval().streams["flow"]
    frames = torch.randn(1, 2, 4, 32, 32)
    with torch.no_grad():
        assert torch.allclose(network(frames), selected(frames), atol=1e-5) and network(frames).abs().max() > 0.01
    assert result["backbone"] == "trained with the method, from flow random"
    assert table.backbones([result]) == ["backbone of source-only: trained with the method, from flow random"]
    again, _ = trainer_of(replace(asked, footage=replace(asked.footage, weights=(f"flow={path}",))))
    assert backbone.line(again) == f"trained with the method, from flow {loaded.name} ({loaded.provenance})"


def test_runs_over_fine_tuned_features_say_so(feature_file, tmp_path):
    """The feature file's recipe has the sentence; the result of a run over it, and so every table, repeats it."""
    stated = "fine-tuned on the labels of here (…)"
    path = tmp_path / "feats.h5"
    shutil.copyfile(feature_file, path)
    with h5py.File(path, "r+") as file:
        for group in file.values():
            recipe = json.loads(group.attrs["recipe"])
            recipe["weights"] = {"rgb": {"name": "file:x", "provenance": stated}, "flow": {"name": "f", "provenance": "no"}}
            group.attrs["recipe"] = json.dumps(recipe)
            group.attrs["recipe_sha256"] = features.provenance_sha256(recipe)
    chosen = config.load("demo", "source-only", {"epochs": 1})
    (result, _) = runner.run(Request(features=path, chosen=chosen, runs=tmp_path), quiet, quiet=True)
    assert result["backbone"] == f"rgb {stated}"


def ucf_clips(folder, path):
    """Six UCF clips of each of two classes, half of them as the other domain."""
    rows = []
    for label in ("Punch", "PushUps"):
        for number, clip in enumerate(sorted((folder / label).glob("*.avi"))):
            split = "val" if number // 2 == 2 else "train"
            domain = ("day", "night")[number % 2]
            rows.append({"clip": clip.stem, "path": f"{label}/{clip.name}", "label": label, "split": split, "domain": domain})
    manifest.check("ucf", rows).write(path)


def demo_clips(folder, path):
    """Two training clips of each of two of the demo's classes and domains, and one to validate, rendered."""
    everything = sources.find("demo", None, folder, 2, 0, 1, True).manifest
    rows = [{name: values[i] for name, values in everything.columns.items()} for i in range(len(everything))]
    names = {"studio": "day", "street": "night"}
    kept = [row | {"domain": names[row["domain"]]} for row in rows if row["label"] in ("slam_ball", "chop_wood")]
    manifest.check("demo", kept).write(path)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["ucf", "demo"])
def test_real_and_demo_clips_train_from_kinetics_weights_and_go_on_bit_for_bit(which, shared, tmp_path):
    """8 frames at 64 px."""
    folder = shared / "clips/ucf101" if which == "ucf" else tmp_path / "clips"
    (ucf_clips if which == "ucf" else demo_clips)(folder, tmp_path / "some.csv")
    asked = request(
        tmp_path / "some.csv", tmp_path, segments=8, short_side=64, width=80, crop=64, lr=1e-3, dropout=0.0, epochs=12, batch=2
    )
    asked = replace(asked, footage=replace(asked.footage, root=folder, weights=("kinetics",)))
    trainer, evaluator = trainer_of(asked)
    straight, packed = recorded(trainer, evaluator)
    losses = [metrics["class_loss"] for metrics in straight.history]
    assert losses[-1] < 0.8 * losses[0]
    again, evaluator = trainer_of(asked)
    resumed = train(again, evaluator, quiet, resume.unpack(packed[3], again, evaluator.target_labels))
    assert resumed.history == straight.history and equal(resumed.last.state, straight.last.state)


def test_half_precision_computes_the_same_up_to_its_rounding(tiny_clips, tmp_path):
    """The backbone's products in bfloat16 under autocast; parameters and losses stay float32."""
    asked = request(tiny_clips, tmp_path, "source-only", modalities=("rgb",), epochs=1, batch=8, dropout=0.0)
    losses = []
    for precision in ("fp32", "bf16"):
        trainer, evaluator = trainer_of(replace(asked, precision=precision))
        losses.append(trainer.epoch()["class_loss"])
        prediction = evaluator.predict(trainer.model, trainer.task.target_val)
        assert all(p.dtype == torch.float32 for p in trainer.parameters) and torch.isfinite(prediction.probabilities[0]).all()
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.02)
