"""Pickles: what numpy writes is read as it is, and no file can run code, crash the reader or take its memory."""

import io
import json
import pickle

import numpy as np
import pytest
from cia_extract.common import safe_pickle
from cia_extract.common.errors import DataError

from tests import hostile

ARRAYS = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    np.arange(24, dtype=">i2").reshape(2, 3, 4).transpose(2, 0, 1),
    np.array([True, False]),
    np.array(["é", "abc"]),
    np.array([b"x", b"yz"]),
    np.array(2.5, np.float16),
    np.zeros((0, 3), np.uint8),
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol_come_back_as_they_were(protocol):
    for array in ARRAYS:
        read = safe_pickle.load(io.BytesIO(pickle.dumps(array, protocol)))
        assert read.dtype == array.dtype and read.shape == array.shape
        np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_python_values_come_back_as_they_were(protocol):
    content = {"a": [1, -(2**70), 2.5, None, True], "é": (b"\xff", "ü", ()), 3: {"x": {}}, None: [[]]}
    assert safe_pickle.load(io.BytesIO(pickle.dumps(content, protocol))) == content
    assert safe_pickle.load(io.BytesIO(pickle.dumps([np.float64(2.5), np.int64(3), np.str_("é")], protocol))) == [2.5, 3, "é"]


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_numpy_1s_and_2s_names_are_read_by_either(module):
    ours = np.empty(0).__reduce__()[0].__module__.encode()
    data = pickle.dumps(np.arange(3.0), 2)
    assert ours in data
    np.testing.assert_array_equal(safe_pickle.load(io.BytesIO(data.replace(ours, module.encode()))), np.arange(3))


def test_python_2s_pickles_are_read_and_its_bytes_are_not_guessed_to_be_text():
    values = "".join(f"\\x{byte:02x}" for byte in np.array([1.5], "<f8").tobytes())
    data = hostile.array_pickle("f8", 8, 0, f"S'{values}'\n").replace(b"S'|'", b"S'<'")
    np.testing.assert_array_equal(safe_pickle.load(io.BytesIO(data)), [1.5])
    assert safe_pickle.load(io.BytesIO(b"(lp0\nS'abc'\naS'caf\\xe9'\na.")) == ["abc", b"caf\xe9"]


def test_a_value_that_is_shared_is_built_once():
    shared = np.ones(3)
    first, second = safe_pickle.load(io.BytesIO(pickle.dumps([shared, shared])))
    assert first is second


@pytest.mark.parametrize("attack", hostile.pickles_that_attack())
def test_a_pickle_that_attacks_is_refused_in_one_line(attack):
    with pytest.raises(DataError) as error:
        safe_pickle.load(io.BytesIO(hostile.pickles_that_attack()[attack]))
    assert str(error.value).isprintable() and len(str(error.value)) < 300


ATTACKS = """
import io, json, time
from cia_extract.common import safe_pickle
from tests import hostile
before = hostile.peak_mb()
cases = [*hostile.pickles_that_attack().values(), hostile.huge_place()]
counts = hostile.attempts(lambda data: safe_pickle.load(io.BytesIO(data)), cases)
print(json.dumps(counts | {"mb": hostile.peak_mb() - before}))
"""


def test_no_attack_takes_all_memory_or_ends_the_process():
    """3 GB of address space; Python's own reader asks for 64 GB of it for one of these files of 10 bytes."""
    counts = json.loads(hostile.in_its_own_process(ATTACKS, memory_gb=3))
    assert counts["read"] == 1 and counts["refused"] == len(hostile.pickles_that_attack())
    assert counts["mb"] < 900  # three million dictionaries: two million are made


NESTED = """
import io, json, pickle
import numpy as np
from cia_extract.common import safe_pickle
from tests import hostile
before = hostile.peak_mb()
cases = hostile.nested_anywhere(pickle.dumps({"x": np.ones((1, 2)).T, "n": np.float32(1)}, 2))
counts = hostile.attempts(lambda data: safe_pickle.load(io.BytesIO(data)), cases)
print(json.dumps(counts | {"cases": len(cases), "mb": hostile.peak_mb() - before}))
"""


def test_a_value_nested_without_end_is_refused_wherever_it_stands():
    counts = json.loads(hostile.in_its_own_process(NESTED, memory_gb=3))
    assert counts["cases"] > 50 and counts["refused"] > counts["cases"] / 2 and counts["mb"] < 300  # the rest is not looked at


FUZZ = """
import io, json, random, sys
import numpy as np
from cia_extract.common import safe_pickle
from tests import hostile
chance, count = random.Random(11), int(sys.argv[1])
sound = hostile.sound_pickles()
before = hostile.peak_mb()

def plain(value):
    if isinstance(value, np.ndarray):
        assert value.dtype.kind in "biufSU", value.dtype
        value.copy(), repr(value[:1] if value.ndim else value)
    elif isinstance(value, dict):
        [plain(item) for item in value.values()]
    elif isinstance(value, (list, tuple)):
        [plain(item) for item in value]
    else:
        assert value is None or isinstance(value, (bool, int, float, str, bytes)), type(value)

def cases():
    for _ in range(count):
        yield hostile.mutated(chance.choice(sound), chance.choice(sound), chance)
        yield hostile.improvised(chance)

counts = hostile.attempts(lambda data: plain(safe_pickle.load(io.BytesIO(data))), cases())
print(json.dumps(counts | {"mb": hostile.peak_mb() - before}))
"""


def fuzz(count: int) -> None:
    counts = json.loads(hostile.in_its_own_process(FUZZ, count, memory_gb=2, seconds=3000))
    assert counts["read"] + counts["refused"] == 2 * count
    assert counts["read"] > count / 50 and counts["refused"] > count / 2  # both ends are reached
    assert counts["mb"] < 200


def test_damaged_and_improvised_pickles_give_plain_data_or_one_line():
    fuzz(10_000)


@pytest.mark.slow
def test_many_damaged_and_improvised_pickles_give_plain_data_or_one_line():
    fuzz(400_000)
