"""Malicious files, and a separate process that reads them, so that a crash does not end the test run."""

import os
import pickle
import random
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]

# Protocol 0, as numpy writes it: an array of one value of the given type, with the dtype's state and the values' bytes.
ARRAY = (
    "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I1\ntcnumpy\ndtype\n(S'{type}'\nI0\nI1\ntR"
    "(I3\nS'|'\nNNNI{size}\nI1\nI{flags}\ntbI00\n{values}tb."
)


def array_pickle(type_: str = "O8", size: int = 8, flags: int = 0, values: str = "S'AAAAAAAA'\n") -> bytes:
    return ARRAY.format(type=type_, size=size, flags=flags, values=values).encode()


def pickles_that_attack() -> dict[str, bytes]:
    """{what it tries: the pickle}, all of which are to be refused."""
    proto = b"\x80\x04"
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20)
    return {
        "an array of objects whose flags are cleared: bytes as addresses": array_pickle(),
        "the same with all flags set": array_pickle(flags=255),
        "an array of records": array_pickle("V8"),
        "an array of objects in a list": array_pickle("O8", values="(lp0\nNa"),
        "an array of numbers beyond its bytes": array_pickle("f8", values="S'AAAA'\n"),
        "a dtype of a terabyte": array_pickle("S999999999999"),
        "code in a reduction": b"cos\nsystem\n(S'true'\ntR.",
        "code in an instance": b"(S'true'\nios\nsystem\n.",
        "code in an object": b"(cos\nsystem\nS'true'\no.",
        "an attribute of numpy": b"cnumpy\nload\n(S'x'\ntR.",
        "a state for a class": b"cnumpy\ndtype\n(N}S'__call__'\nNstb.",
        "a state for a number": b"I1\n(N}tb.",
        "an extension": b"\x82\x01.",
        "a persistent id": b"Pabc\n.",
        "a buffer from outside": b"\x80\x05\x97.",
        "a text longer than the file": proto + b"\x8d" + struct.pack("<Q", 1 << 40) + b".",
        "bytes longer than any memory": proto + b"\x8e" + struct.pack("<Q", (1 << 64) - 1) + b".",
        "a bytearray longer than the file": b"\x80\x05\x96" + struct.pack("<Q", 1 << 50) + b".",
        "a number of a million digits": b"I" + b"1" * 1_000_000 + b"\n.",
        "a number of a megabyte": proto + b"\x8b" + struct.pack("<I", 1 << 20) + b"\x01" * (1 << 20) + b".",
        "tuples a million deep": proto + b"N" + b"\x85" * 1_000_000 + b".",
        "lists a million deep": proto + b"]" * 500_000 + b"a" * 499_999 + b".",
        "a key a million deep": proto + b"}N" + b"\x85" * 1_000_000 + b"Ns.",
        "a key that doubles sixty times": proto + b"}N" + b"2\x86" * 60 + b"Ns.",
        "tuples that double sixty times": proto + b"N" + b"2\x86" * 60 + b".",
        "a list that holds itself": proto + b"]\x94h\x00a.",
        "a dictionary that holds itself": proto + b"}\x94X\x01\0\0\0ah\x00s.",
        "a tuple that holds itself": proto + b"]\x94h\x00\x85a.",
        "three million dictionaries": proto + b"(" + b"}" * 3_000_000 + b"l.",
        "a long text, a million times": proto + text + b"\x94(" + b"h\x00" * 900_000 + b"l.",
        "a long text encoded ten thousand times": b"\x80\x02"
        + text
        + b"q\x000c_codecs\nencode\nq\x010("
        + b"h\x01h\x00X\x06\0\0\0latin1\x86R" * 10_000
        + b"l.",
        "half a letter": b"X\x03\0\0\0\xed\xa0\x80.",
        "letters that do not exist": array_pickle("U1", 4, values="S'\\xff\\xff\\xff\\x7f'\n").replace(b"S'|'", b"S'<'"),
        "nothing": b"",
        "its end alone": b".",
        "no pickle": b"hello",
    }  # fmt: skip


def huge_place() -> bytes:
    """One value, remembered at a place for which Python's reader asks for 64 GB."""
    return b"\x80\x04Kar\xff\xff\xff\xff."


def sound_pickles() -> list[bytes]:
    """Pickles as people write them, under every protocol."""
    epic = {"features": {"RGB": np.ones((2, 3, 4), np.float32)}, "narration_ids": np.array(["a_0", "b_1"])}
    contents = [
        epic,
        [1, 2.5, "x", None, True, b"y"],
        np.arange(6.0).reshape(2, 3).T,
        {"a": {"b": np.float64(3)}},
        np.array([b"x"]),
    ]
    return [pickle.dumps(content, protocol) for content in contents for protocol in range(6)]


def mutated(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """A copy with a few bytes changed, removed, repeated, or followed by another's end."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(changed) + 1), chance.randint(1, 8)
        match chance.randrange(5):
            case 0:
                changed[at : at + 1] = chance.randbytes(1)
            case 1:
                del changed[at : at + length]
            case 2:
                changed[at:at] = changed[at : at + length]
            case 3:
                changed[at:] = other[chance.randrange(len(other)) :]
            case 4:
                changed[at : at + 4] = struct.pack("<I", chance.choice([0, 1, 255, 1 << 16, 1 << 31, (1 << 32) - 1]))
    return bytes(changed)


DEEP = b"N" + b"\x85" * 100_000
DOUBLING = b"N" + b"2\x86" * 60


def nested_anywhere(data: bytes) -> list[bytes]:
    """Copies of a pickle in which one value each is nested without end, deep or doubling: to hash or print it ends Python."""
    import pickletools

    places = [place for _, _, place in pickletools.genops(data)] + [len(data)]
    variants = []
    for begin, end, (opcode, _, _) in zip(places, places[1:], pickletools.genops(data), strict=False):
        if len(opcode.stack_after) == 1 and not opcode.stack_before:
            variants += [data[:begin] + nested + data[end:] for nested in (DEEP, DOUBLING)]
    return variants


NAMES = (
    b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy.core.multiarray\nscalar\n",
    b"cnumpy.core.numeric\n_frombuffer\n", b"c_codecs\nencode\n", b"ccollections\nOrderedDict\n", b"c__builtin__\nbytearray\n",
    b"c__builtin__\nset\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n", b"cpandas.core.frame\nDataFrame\n",
)  # fmt: skip
PARTS = (
    b"S'f4'\n", b"S'O8'\n", b"S'<'\n", b"S'|'\n", b"S'U3'\n", b"I0\n", b"I1\n", b"I-1\n", b"I3\n", b"I99999999999\n", b"F1e308\n",
    b"S'AAAABBBB'\n", b"C\x04abcd", b"X\x01\0\0\0a", b"I00\n", b"\x85", b"\x86", b"\x87", b"q\x00", b"h\x00", b"q\x01", b"h\x01",
    *(letter.encode("latin1") for letter in "N\x88]})(012tldRRRbb\x81suae\x94Q"),
)  # fmt: skip


def improvised(chance: random.Random) -> bytes:
    """A pickle of instructions in any order, most of which arrays need."""
    pool = [*NAMES, *PARTS * 3]
    return b"".join(chance.choice(pool) for _ in range(chance.randint(1, 40))) + b"."


def in_its_own_process(code: str, *arguments: object, memory_gb: float, seconds: float = 120) -> str:
    """What Python code prints. Fails where it ends otherwise than by itself, or asks for more memory or time than that."""

    def limits() -> None:
        import resource

        size = int(memory_gb * (1 << 30))
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    places = [str(ROOT), *(path for path in sys.path if path.endswith(("/extract", "/adapt")))]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([*places, os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, cwd=ROOT, env=environment, preexec_fn=limits, timeout=seconds,
    )  # fmt: skip
    assert run.returncode == 0, f"ended with {run.returncode} (negative: a signal): {run.stderr[-2000:]}"
    return run.stdout


def attempts(read: Callable[[bytes], object], cases: Iterable[bytes]) -> dict[str, int]:
    """How often bytes were read and refused; any other error than DataError goes on to the caller, with the bytes."""
    from cia_extract.common.errors import DataError

    counts = {"read": 0, "refused": 0}
    for data in cases:
        try:
            read(data)
            counts["read"] += 1
        except DataError as error:
            assert "\n" not in str(error) and str(error).isprintable(), (str(error), data[:300])
            counts["refused"] += 1
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__}: {error}; from {data[:300]!r}") from error
    return counts


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
