"""Two collections of features: their figures, the layouts they come in, and the causes that are named."""

import json
import re

import numpy as np
import pytest
import torch
from cia_extract import features
from cia_extract.common.errors import CiaError, DataError, UsageError
from cia_extract.comparison.compare import compare, lines
from cia_extract.comparison.diagnosis import HYPOTHESES
from cia_extract.features import writer
from cia_extract.networks import weights

from tests.conftest import RECIPE, make_dataset


def clips(count=4, frames=12, channels=64, seed=0):
    """{clip: [T, C]}: non-negative, alike within a clip, changing from frame to frame, as features are."""
    random = np.random.default_rng(seed)
    walk = random.normal(0, 0.15, (count, frames, channels)).cumsum(axis=1) + random.uniform(0, 1, (count, 1, channels))
    return {f"clip{i}": np.maximum(walk[i], 0).astype(np.float32) for i in range(count)}


def save(folder, arrays, suffix="_rgb"):
    folder.mkdir(parents=True, exist_ok=True)
    for clip, array in arrays.items():
        np.save(folder / f"{clip}{suffix}.npy", array)
    return folder


def diagnose(tmp_path, a, b, **options):
    return compare(save(tmp_path / "a", a), save(tmp_path / "b", b), **options)


# figures


def test_figures_against_their_definitions(tmp_path):
    a, b = clips(seed=1), clips(seed=2)
    comparison = diagnose(tmp_path, a, b)
    assert [row.clip for row in comparison.rows] == sorted(a) and {row.modality for row in comparison.rows} == {"rgb"}
    for row in comparison.rows:
        x, y = a[row.clip].astype(np.float64), b[row.clip].astype(np.float64)
        assert row.cosine == pytest.approx((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()), abs=1e-12)
        assert row.relative_l2 == pytest.approx(np.sqrt(((x - y) ** 2).sum() / (x * x).sum()), rel=1e-12)
        assert row.max_abs == abs(x - y).max() and row.maps_max_abs is None
        assert (row.frames_a, row.frames_b) == (12, 12)
    worst = min(comparison.rows, key=lambda row: row.cosine)
    assert comparison.summary["rgb"]["worst_clip"] == worst.clip and comparison.summary["rgb"]["clips"] == 4
    assert comparison.summary["rgb"]["median_cosine"] == np.median([row.cosine for row in comparison.rows])
    assert comparison.diagnosis == ["rgb: different, and neither a shift in time, a permutation nor a scale explains it"]


def test_maps_are_pooled_and_compared(tmp_path):
    random = np.random.default_rng(0)
    maps = random.uniform(0, 1, (5, 16, 7, 7)).astype(np.float32)
    moved = maps[:, :, ::-1]  # upside down: the same means, other maps
    row = diagnose(tmp_path, {"x": maps}, {"x": moved}).rows[0]
    assert row.max_abs < 1e-7 and row.maps_max_abs == abs(maps - moved).max() > 0.5
    np.save(tmp_path / "b" / "x_rgb.npy", maps.mean((2, 3)))
    row = compare(tmp_path / "a", tmp_path / "b").rows[0]
    assert row.max_abs < 1e-7 and row.maps_max_abs is None


def test_clips_of_one_side_alone_are_listed(tmp_path):
    a, b = clips(4), clips(4)
    del a["clip0"], b["clip3"]
    comparison = diagnose(tmp_path, a, b)
    assert (comparison.only_a, comparison.only_b) == (["clip3"], ["clip0"]) and len(comparison.rows) == 2
    assert comparison.diagnosis == ["rgb: identical"]


def test_json_has_no_nan(tmp_path):
    comparison = diagnose(tmp_path, {"x": np.ones((3, 8), np.float32)}, {"x": np.ones((3, 16), np.float32)})
    as_json = json.loads(json.dumps(comparison.as_dict(), allow_nan=False))
    assert as_json["rows"][0]["cosine"] is None and as_json["rows"][0]["clip"] == "x"
    assert as_json["diagnosis"] == ["rgb: 8 channels in A, 16 in B: these are different kinds of features"]


# causes seen in the numbers


@pytest.mark.parametrize("lag", [-3, -1, 1, 2])
def test_a_shift_in_time_is_named(lag, tmp_path):
    long = clips(frames=20, seed=3)
    noise = np.random.default_rng(0)
    a = {clip: x[4:16] for clip, x in long.items()}
    b = {clip: x[4 + lag : 16 + lag] + noise.normal(0, 0.005, (12, 64)) for clip, x in long.items()}
    (line,) = diagnose(tmp_path, a, b).diagnosis
    assert line.startswith(f"rgb: B is A shifted in time: frame t of B is frame t{lag:+d} of A")


def test_reversed_order_is_named(tmp_path):
    a = clips()
    assert diagnose(tmp_path, a, {c: x[::-1] for c, x in a.items()}).diagnosis == [
        "rgb: B is A with its frames in reversed order"
    ]


def test_scale_and_offset_are_named(tmp_path):
    a = clips()
    (line,) = diagnose(tmp_path, a, {c: 1.7 * x + 0.25 for c, x in a.items()}).diagnosis
    assert line == "rgb: B = 1.7 · A +0.25 explains 100.00 % of B"


def test_permuted_channels_are_named(tmp_path):
    a, order = clips(), np.random.default_rng(0).permutation(64)
    lines = diagnose(tmp_path, a, {c: x[:, order] for c, x in a.items()}).diagnosis
    assert lines == ["rgb: B has A's values with its channels permuted"]


def test_small_noise_is_no_permutation_and_no_scale(tmp_path):
    a, random = clips(), np.random.default_rng(0)
    b = {c: x + random.normal(0, 0.05, x.shape) for c, x in a.items()}
    assert diagnose(tmp_path, a, b).diagnosis == [
        "rgb: different, and neither a shift in time, a permutation nor a scale explains it"
    ]


@pytest.mark.parametrize(("change", "line"), [
    (lambda x: x.astype(np.float16), "the same up to rounding to float16"),
    (lambda x: x * np.float32(1 + 3e-6) + np.float32(2e-6), "the same up to numerical noise, as between libraries or devices"),
])  # fmt: skip
def test_rounding_is_named(change, line, tmp_path):
    a = clips()
    assert diagnose(tmp_path, a, {c: change(x) for c, x in a.items()}).diagnosis == [f"rgb: {line}"]


def test_other_numbers_of_frames(tmp_path):
    a = clips()
    comparison = diagnose(tmp_path, a, {c: x[::2] for c, x in a.items()})
    assert comparison.diagnosis == ["rgb: 12 frames a clip in A, 6 in B (4 of 4 clips); their means over time are compared"]
    row, x = comparison.rows[0], a["clip0"].astype(np.float64)
    assert (row.frames_a, row.frames_b) == (12, 6)
    assert row.max_abs == pytest.approx(abs(x.mean(0) - x[::2].mean(0)).max(), rel=1e-9)


def test_zero_and_nan_frames_are_named(tmp_path):
    a = clips()
    b = {c: x.copy() for c, x in a.items()}
    b["clip1"][3] = 0
    b["clip2"][4, 5] = np.nan
    comparison = diagnose(tmp_path, a, b)
    assert comparison.diagnosis[0] == "rgb: 2 clips have frames that are all zero or not finite: B's clip1, …"
    nan = comparison.rows[2]
    assert nan.clip == "clip2" and nan.cosine == pytest.approx(1, abs=1e-12) and nan.max_abs == 0
    b["clip2"][:] = np.nan
    assert np.isnan(diagnose(tmp_path, a, b).rows[2].cosine)


# collections


def test_feature_files(tmp_path):
    one = make_dataset(tmp_path / "a.h5", "here", seed=1, clips_per_class=1)
    make_dataset(tmp_path / "a.h5", "there", seed=2, clips_per_class=1)
    make_dataset(tmp_path / "b.h5", "here", seed=1, clips_per_class=1)
    comparison = compare(tmp_path / "a.h5", tmp_path / "b.h5")  # the common dataset
    assert comparison.diagnosis == ["the recipes are the same", "rgb: identical", "flow: identical"]
    assert len(comparison.rows) == 2 * len(one) and all(row.maps_max_abs == 0 for row in comparison.rows)
    make_dataset(tmp_path / "b.h5", "there", seed=3, clips_per_class=1)
    with pytest.raises(UsageError, match=r"a\.h5: several datasets in it; choose with --dataset from: here, there"):
        compare(tmp_path / "a.h5", tmp_path / "b.h5")
    other = compare(tmp_path / "a.h5", tmp_path / "b.h5", "there")
    assert other.summary["rgb"]["median_relative_l2"] > 0.05
    with pytest.raises(UsageError, match="no dataset nowhere in it"):
        compare(tmp_path / "a.h5", tmp_path / "b.h5", "nowhere")
    make_dataset(tmp_path / "c.h5", "elsewhere", seed=1, clips_per_class=1)
    make_dataset(tmp_path / "d.h5", "here", seed=1, clips_per_class=1)
    with pytest.raises(DataError, match=r"no clip in common \(here0 in .*d\.h5, elsewhere0 in .*c\.h5\)"):
        compare(tmp_path / "d.h5", tmp_path / "c.h5")


def test_differing_recipes_come_first(tmp_path):
    columns = {"clip": ["x"], "path": ["x.avi"], "label": ["l"], "split": ["train"]}
    for name, change in (("a", {"edge": "replicate"}), ("b", {"edge": "zero"})):
        recipe = RECIPE | {"dataset": "d", "modalities": ["rgb"], "frames": 2} | change
        with writer.RowWriter(
            writer.begin_or_continue(tmp_path / f"{name}.h5", "d", columns, recipe, tmp_path, overwrite=False)
        ) as rows:
            rows.write_row(0, "rgb", np.ones((2, 1024, 7, 7), np.float32))
    assert compare(tmp_path / "a.h5", tmp_path / "b.h5").diagnosis == [
        "the recipes differ in edge: replicate → zero",
        "rgb: identical",
    ]


def test_an_unfinished_clip_is_not_compared(tmp_path):
    make_dataset(tmp_path / "a.h5", "d", seed=1, clips_per_class=1)
    b = make_dataset(tmp_path / "b.h5", "d", seed=1, clips_per_class=1)
    with writer.RowWriter(b) as rows:
        rows._mark(1, "rgb", features.TO_DO)
    comparison = compare(tmp_path / "a.h5", tmp_path / "b.h5")
    assert [(row.clip, row.modality) for row in comparison.rows] == [
        ("d0", "rgb"),
        ("d2", "rgb"),
        ("d0", "flow"),
        ("d1", "flow"),
        ("d2", "flow"),
    ]


@pytest.fixture
def plain(tmp_path):
    """A plain folder of two clips and modalities, against which other layouts are compared."""
    rgb, flow = clips(2, frames=5, seed=4), clips(2, frames=5, seed=5)
    save(tmp_path / "plain", rgb)
    save(tmp_path / "plain", flow, "_flow")
    np.save(tmp_path / "plain" / "clip0_fps.npy", np.array(25.0))
    np.save(tmp_path / "plain" / "clip0_timestamps_ms.npy", np.arange(5))
    return tmp_path / "plain", {"rgb": rgb, "flow": flow}


def write(layout, folder, arrays):
    for modality, of_clips in arrays.items():
        for clip, x in of_clips.items():
            name = {
                "modality folders": f"{modality}/{clip}.npy",
                "class folders": f"{modality.upper()}/Jump/{clip}.npy",
                "suffixes inside classes": f"Jump/{clip}_{modality}.npy",
                "npz": f"{modality}/{clip}.npz",
                "npz by modality": f"{modality}/{clip}.npz",
                "pt": f"{clip}_{modality}.pt",
                "pt in half precision": f"{clip}_{modality}.pt",
                "piergiaj": f"{modality}/{clip}.npy",
            }.get(layout, f"{modality}/{clip}/img_{{:05d}}.npy")
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            match layout:
                case "npz":
                    np.savez(path, x)
                case "npz by modality":
                    np.savez(path, fps=np.array([25.0]), **{modality: x})
                case "pt":
                    torch.save({"features": torch.from_numpy(x)}, path)
                case "pt in half precision":
                    torch.save(torch.from_numpy(x).bfloat16(), path)
                case "piergiaj":
                    np.save(path, x[:, None, None, :])
                case "one file a frame":
                    for t, frame in enumerate(x, 8):  # 8 … 12: as text, 10 would come first without its zeros
                        np.save(str(path).format(t), frame)
                case "one map a frame":
                    for t, frame in enumerate(x, 8):
                        np.save(str(path.with_name(f"{t}.npy")), np.repeat(frame, 4).reshape(-1, 2, 2))
                case _:
                    np.save(path, x)
    return folder


@pytest.mark.parametrize("layout", [
    "modality folders", "class folders", "suffixes inside classes", "npz", "npz by modality", "pt", "pt in half precision",
    "piergiaj", "one file a frame", "one map a frame",
])  # fmt: skip
def test_layouts_in_use(layout, plain, tmp_path):
    folder, arrays = plain
    comparison = compare(folder, write(layout, tmp_path / "other", arrays))
    assert [(row.clip, row.modality, row.frames_b) for row in comparison.rows] == [
        (f"clip{i}", modality, 5) for modality in ("rgb", "flow") for i in (0, 1)
    ]
    assert (comparison.only_a, comparison.only_b) == ([], [])
    if layout == "pt in half precision":  # 8 bits
        assert all(0 < row.max_abs < 0.02 for row in comparison.rows)
    else:
        assert comparison.diagnosis == ["rgb: identical", "flow: identical"]


def test_one_vector_a_clip_and_no_modality(tmp_path):
    vectors = {clip: x[0] for clip, x in clips().items()}
    folder = save(tmp_path / "a", vectors, suffix="")
    comparison = compare(folder, folder)
    assert comparison.diagnosis == ["features: identical"] and comparison.rows[0].frames_a == 1
    comparison = compare(folder, save(tmp_path / "b", vectors))  # *_rgb.npy
    assert comparison.diagnosis == ["rgb: identical"]
    save(tmp_path / "b", vectors, "_flow")
    with pytest.raises(UsageError, match=r"a: rgb, flow or audio\? Name the files \*_rgb\.npy"):
        compare(folder, tmp_path / "b")


def test_a_feature_file_against_a_folder_named_by_files(tmp_path):
    """The clip ids of the file are d0, …; those who used other tools name their files after the videos."""
    data = make_dataset(tmp_path / "a.h5", "d", seed=1, clips_per_class=1)
    save(tmp_path / "b" / "jump", {f"d{i}": np.asarray(data.array("rgb/maps")[i]) for i in range(3)})
    comparison = compare(tmp_path / "a.h5", tmp_path / "b")
    assert len(comparison.rows) == 3 and all(row.maps_max_abs == 0 and row.cosine > 1 - 1e-6 for row in comparison.rows)
    assert comparison.diagnosis == ["rgb: the same up to rounding to float16"]


class Hostile:
    def __reduce__(self):
        return (print, ("executed",))


def test_errors_are_one_line(tmp_path, capsys):
    good = save(tmp_path / "good", clips(1))

    def fails(path, kind, words):
        with pytest.raises(kind) as caught:
            compare(good, path)
        assert isinstance(caught.value, CiaError) and words in str(caught.value) and "\n" not in str(caught.value)

    fails(tmp_path / "none.h5", DataError, "none.h5: no such file")
    (tmp_path / "empty").mkdir()
    fails(tmp_path / "empty", DataError, "empty: no features in it (.npy, .npz, .pt, .pth, .t7, .pkl, .pickle)")
    fails(save(tmp_path / "other", {"x": np.ones((2, 64))}), DataError, "no clip in common (clip0 in ")
    fails(save(tmp_path / "flow", clips(1), "_flow"), DataError, "no modality in common")
    fails(
        save(tmp_path / "pickled", {"clip0": np.array([Hostile()], dtype=object)}),
        DataError,
        "clip0_rgb.npy: not an array, or a pickle",
    )
    torch.save(Hostile(), (tmp_path / "pickled" / "clip0_rgb.npy").with_suffix(".pt"))
    (tmp_path / "pickled" / "clip0_rgb.npy").unlink()
    fails(tmp_path / "pickled", DataError, "clip0_rgb.pt: not plain tensors of torch.save")
    assert "executed" not in capsys.readouterr().out
    fails(save(tmp_path / "deep", {"clip0": np.ones((1, 2, 3, 4, 5))}), DataError, "float64 [1, 2, 3, 4, 5] is not [T, C]")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "clip0_rgb.npy").write_text("no array")
    fails(tmp_path / "text", DataError, "clip0_rgb.npy: not an array")
    twice = save(tmp_path / "twice", clips(1))
    np.savez(twice / "clip0_rgb.npz", np.ones((2, 64)))
    fails(twice, DataError, "clip0_rgb.npy and clip0_rgb.npz are the same clip")
    (tmp_path / "two").mkdir()
    np.savez(tmp_path / "two" / "clip0_rgb.npz", a=np.ones(3), b=np.ones(3))
    fails(tmp_path / "two", DataError, "clip0_rgb.npz: holds a, b; save the features alone")


# causes found by extracting again


@pytest.fixture(scope="module")
def i3d_features(shared, kinetics):
    """Reextract with the real network: two windows of one clip, the first overhanging the clip's beginning. Cached."""
    from cia_extract import clips as video
    from PIL import Image

    images = [frame.image for frame in video.decode(shared / "clips/ucf101/Punch/v_Punch_g01_c01.avi", 0, 2)]
    small = [np.asarray(Image.fromarray(image).resize((340, 256), Image.Resampling.BILINEAR))[16:240, 58:282] for image in images]
    done = {}

    def extract(clip, modality, changes):
        assert (clip, modality) == ("punch", "rgb")
        key = str(changes)
        if key not in done:
            network = weights.build("i3d", "rgb", kinetics, eps=changes.get("bn_eps"))
            low, high = changes.get("pixel_range", (-1.0, 1.0))
            windows = []
            for centre in (2, 30):
                first = centre - 8 + changes.get("window_shift", 0)
                window = np.stack([small[min(max(t, 0), len(small) - 1)] for t in range(first, first + 16)])
                x = window.astype(np.float32) / 255 * (high - low) + low
                if changes.get("edge") == "zero":
                    x[[t < 0 for t in range(first, first + 16)]] = 0
                windows.append(x[..., ::-1] if changes.get("channel_order") == "bgr" else x)
            batch = torch.from_numpy(np.stack(windows).transpose(0, 4, 1, 2, 3).copy())
            with torch.inference_mode():
                done[key] = network.maps(batch).mean((2, 3)).numpy()
        return done[key]

    return extract


@pytest.mark.parametrize(
    ("name", "changes"), [(name, changes) for name, modalities, changes in HYPOTHESES if "rgb" in modalities]
)
def test_the_change_of_recipe_that_turns_a_into_b_is_named(name, changes, i3d_features, tmp_path):
    """Also with B rounded to float16, as files of features are."""
    a, b = (i3d_features("punch", "rgb", these) for these in ({}, changes))
    comparison = diagnose(tmp_path, {"punch": a}, {"punch": b.astype(np.float16)}, reextract=i3d_features)
    (line,) = comparison.diagnosis
    figures = re.fullmatch(rf"rgb: B matches A re-extracted with {re.escape(name)} \(cosine (\S+) against (\S+), punch\)", line)
    assert figures and 1 - float(figures[1]) < 0.25 * (1 - float(figures[2]))


def test_no_cause_is_named_if_no_change_explains_b(i3d_features, tmp_path):
    a = i3d_features("punch", "rgb", {})
    b = a[:, np.random.default_rng(0).permutation(1024)]
    lines = diagnose(tmp_path, {"punch": a}, {"punch": b}, reextract=i3d_features).diagnosis
    assert lines == [
        "rgb: B has A's values with its channels permuted",
        "rgb: none of the 7 changes of recipe that were tried on punch explains B",
    ]
    stranger = a[::-1]
    (line,) = diagnose(tmp_path, {"punch": stranger}, {"punch": b}, reextract=i3d_features).diagnosis
    assert line.startswith("rgb: punch extracted again differs from A")


def test_changes_of_flow(tmp_path):
    """Swapped components are tried on flow alone, channel order on RGB alone; the network here is one random projection."""
    random = np.random.default_rng(0)
    motion, projection, asked = random.normal(size=(3, 2, 50)), random.normal(size=(100, 64)), []

    def extract(clip, modality, changes):
        asked.append(changes)
        x = motion[:, ::-1] if changes.get("flow_order") == "yx" else motion
        return np.maximum(x.reshape(3, 100) @ projection, 0)

    save(tmp_path / "a", {"x": extract("x", "flow", {})}, "_flow")
    save(tmp_path / "b", {"x": extract("x", "flow", {"flow_order": "yx"})}, "_flow")
    lines = compare(tmp_path / "a", tmp_path / "b", reextract=extract).diagnosis
    assert len(lines) == 1 and lines[0].startswith("flow: B matches A re-extracted with flow components swapped (y, x)")
    assert {"flow_order": "yx"} in asked and not any("channel_order" in changes for changes in asked)


EXTREMES = {
    "plain": np.random.default_rng(0).normal(size=(5, 8)),
    "not a number": np.full((5, 8), np.nan),
    "infinite": np.full((5, 8), np.inf),
    "beyond float64 once squared": -np.random.default_rng(1).random((5, 8)) * 1e308,
    "the smallest": np.full((5, 8), 5e-324),
    "zero": np.zeros((5, 8)),
    "int64": np.random.default_rng(2).integers(-(2**63), 2**63 - 1, size=(5, 8)),
    "a vector": np.ones(8),
    "more channels": np.ones((5, 9)),
    "more frames": np.random.default_rng(3).normal(size=(50, 8)),
    "maps beyond float32": np.full((5, 8, 2, 2), 1e300),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("first", EXTREMES)
def test_extreme_values_are_compared_without_a_warning_or_an_error(first, tmp_path):
    a = save(tmp_path / "a", {"x": EXTREMES[first]})
    for number, (second, array) in enumerate(EXTREMES.items()):
        comparison = compare(a, save(tmp_path / f"b{number}", {"x": array}))
        assert len(comparison.rows) == 1 and comparison.diagnosis and json.dumps(comparison.as_dict())
        if first == second and first not in ("not a number", "infinite", "maps beyond float32"):
            assert comparison.diagnosis[-1] == "rgb: identical"


def test_a_clips_name_cannot_reach_the_terminal_as_an_escape_sequence(tmp_path):
    values = np.random.default_rng(0).normal(size=(2, 5, 64))
    a, b = (save(tmp_path / side, {"x\x1b[31m": values[0], f"{side}\n": values[1]}) for side in ("a", "b"))
    assert all(line.isprintable() for line in lines(compare(a, b)))
