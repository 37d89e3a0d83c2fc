"""Mistyped names and silly values of every flag of `cia-adapt`: one line, exit code 2 or 3, and the name that was meant."""

import math
import re
from dataclasses import fields
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
from cia_adapt.cli import main
from cia_adapt.config import library, schema
from cia_adapt.experiments import memory
from cia_adapt.parts import registry
from cia_extract.common import settings
from cia_extract.common.errors import UsageError

from tests.command_line import in_this_process

WHOLE = ("seeds", "epochs", "batch", "segments")
REAL = ("lr", "dropout", "weight-decay", "clip-norm", "reversal")
COLUMNS = "clip,path,label,split\n"
LISTED = [f"{d}{i},p,{'abc'[i // 6]},{'val' if i % 3 == 2 else 'train'}\n" for d in ("here", "there") for i in range(18)]


def in_one_line(run, code: int, words: str) -> None:
    lines = [line for line in run.stderr.splitlines() if not line.startswith("note: ")]
    assert run.returncode == code, run.stderr
    assert len(lines) == 1 and words in lines[0] and "unexpected" not in lines[0] and run.stdout == ""


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("--features F --method cai", "cia"),
        ("--features F --method source_only", "source-only"),
        ("--features F --setup hu", "uh"),
        ("--features F --pooling max_", "max"),
        ("--features F --temporal tns", "tsn"),
        ("--features F --refinement mcc", "mc"),
        ("--features F --objectives advesarial", "adversarial"),
        ("--features F --head concatt", "concat"),
        ("--features F --optimiser adamw", "adam"),
        ("--features F --select source-val", "source_val"),
        ("--features F --supervision traget", "target"),
        ("--features F --set sc.scale=2", "scales"),
        ("--features F --set scc.scales=2", "sc"),
        ("--features F --set mc.mode=recalibrated", "recalibrate"),
        ("--features F --source hree", "here"),
        ("--features F --target There", "there"),
        ("--features F --manifest hree=x.csv", "here"),
        ("--features F --tier ramm", "ram"),
        ("--features F --precision bf61", "bf16"),
        ("--features F --train-split sorce=all", "source"),
        ("sweep --features F --method cai,cia", "cia"),
        ("sweep --features F --method cia --set scc.x=1", "sc"),
        ("methods cai", "cia"),
        ("bench F --setup dmeo", "demo"),
        ("table --which selectd", "selected"),
        ("table --format markdwn", "markdown"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_one_that_was_meant(small_file, tmp_path, words, meant):
    run = in_this_process(main, *(small_file if word == "F" else word for word in words.split()), cwd=tmp_path)
    in_one_line(run, 2, f"did you mean {meant}?")


@pytest.mark.parametrize(
    ("words", "meant"), [("--modality rbg", "rgb"), ("--labels lable", "label"), ("--train-split trian", "train")]
)
def test_a_mistyped_name_of_the_file_is_answered_too(small_file, tmp_path, words, meant):
    run = in_this_process(main, "--features", small_file, "--method", "dann", *words.split(), cwd=tmp_path)
    in_one_line(run, 3, f"did you mean {meant}?")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *((f"--{name}", value) for name in WHOLE for value in ("0", "-1", "1e9", "9" * 20, "x")),
        *((f"--{name}", value) for name in REAL for value in ("nan", "-1", "inf")),
        *(("--lambda-class", value) for value in ("nan", "-1", "x")),
        ("--seeds", "1000000000"),
        ("--segments", "1001"),
        ("--lr", "0"),
        ("--batch", "1"),
        ("--shared-features", "-1"),
        ("--shared-features", "65537"),
        *(("--set", f"adversarial.video={value}") for value in ("nan", "inf", "-inf", "-1", "1e99", "", "x", "[1]", "9" * 400)),
        *(("--set", f"adversarial.hidden={value}") for value in ("nan", "1.5", "-1", "9" * 5000)),
        *(("--set", value) for value in ("", "=", ".", ".=", "a.=1", ".b=1", "adversarial=1", "a.b.c=1", "adversarial.hiden=1")),
        *(("--objectives", value) for value in ("", ",", "none,adversarial", "adversarial,adversarial", "\x1b[31m")),
        *(("--labels", value) for value in ("", ",", "label,", "label,label")),
        *(("--train-split", value) for value in ("", "=", "source=", "source=a,source=b", "train,val")),
        *(("--method", value) for value in ("", "../cia", "cia.toml", "/dev/null", "\0", "x" * 5000)),
        *(("--setup", value) for value in ("", "../uh", "uh.toml", "\0")),
        *(("--device", value) for value in ("", "gpu", "meta", "cuda:99", "cpu:x")),
        *(("--precision", value) for value in ("", "fp16", "FP32")),
        *(("--tier", value) for value in ("", "hdf5", "disk")),
        *(("--source", value) for value in ("", "\0", "here/there")),
        *(("--map", value) for value in ("", "x", "=", "/=", "a/b/c/d=x")),
    ],
)  # fmt: skip
def test_a_silly_value_is_one_line_that_names_its_flag(small_file, tmp_path, flag, value):
    words = ["--features", small_file, "--method", "dann", "--setup", "demo", "--epochs", 1, flag, value]
    run = in_this_process(main, *words, cwd=tmp_path)
    in_one_line(run, 2, flag.removeprefix("--"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--batch", 1_000_000], ["--segments", 26], ["--shared-features", 0], ["--clip-norm", 0], ["--lambda-class", 0],
        ["--precision", "bf16"], ["--objectives", "none"], ["--seeds", 10_000], ["--labels", " label "],
    ],
)  # fmt: skip
def test_an_extreme_value_that_makes_sense_is_taken(small_file, tmp_path, words):
    command = [
        "--features",
        small_file,
        "--method",
        "dann",
        "--setup",
        "demo",
        "--source",
        "here",
        "--modality",
        "rgb",
        "--dry-run",
    ]
    assert in_this_process(main, *command, *words, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        ("--jobs 0", "jobs"),
        ("--jobs 1000000", "jobs"),
        ("--seeds 0", "seeds"),
        ("--ray localhost:1", "ray"),
        ("--method ,", "method"),
    ],
)
def test_a_sweep_with_a_silly_value_ends_at_once(small_file, tmp_path, words, flag):
    given = ["--method", "dann", "--modality", "rgb", "--source", "here", "--seeds", 1, *words.split()]
    run = in_this_process(main, "sweep", "--features", small_file, *given, cwd=tmp_path)
    in_one_line(run, 2, f"--{flag}")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        COLUMNS.encode(),
        b"\x00\xff\x00" * 100,
        b"\x89HDF\r\n\x1a\n" + bytes(100),
        "clip;label\n".encode("utf-16"),
        (COLUMNS + "".join(LISTED).replace(",a,", ",\u00e4,")).encode("latin-1"),
        (COLUMNS + "zz,p,a,train\n").encode(),  # no clip of the file
        (COLUMNS + LISTED[0]).encode(),  # of one domain only
        (COLUMNS + "".join(LISTED) + LISTED[0]).encode(),  # an id twice
        (COLUMNS + "".join(LISTED).replace(",a,", ",,")).encode(),
        (COLUMNS + "".join(LISTED).replace(",train", ",test")).encode(),
        (COLUMNS + "".join(LISTED))[:-9].encode(),
        b'"' * 10_000,
        ("clip," * 1000 + "\n").encode(),
    ],
)  # fmt: skip
def test_a_manifest_that_is_none_or_does_not_fit_is_one_line(small_file, tmp_path, content):
    (tmp_path / "m.csv").write_bytes(content)
    words = ["--features", small_file, "--method", "dann", "--modality", "rgb", "--manifest", tmp_path / "m.csv", "--dry-run"]
    run = in_this_process(main, *words, cwd=tmp_path)
    in_one_line(run, 3, "")
    check = in_this_process(main, "check", small_file, "--manifest", tmp_path / "m.csv")
    assert check.returncode in (0, 3) and "unexpected" not in check.stderr


@pytest.mark.parametrize("name", ["none.csv", ".", "", "="])
def test_a_manifest_that_is_no_file_is_one_line(small_file, tmp_path, name):
    run = in_this_process(main, "--features", small_file, "--method", "dann", "--manifest", name, cwd=tmp_path)
    in_one_line(run, 2 if name == "=" else 3, "")


def test_a_manifest_for_a_domain_without_a_finished_clip_is_one_line(small_file):
    from dataclasses import replace

    from cia_adapt.data import domains as data
    from cia_adapt.data import relabel
    from cia_extract.common.errors import DataError

    domains = data.find_domains(small_file)
    domains["here"] = replace(domains["here"], rows=domains["here"].rows[:0])
    path = small_file.with_name("listed.csv")
    path.write_text(COLUMNS + "".join(LISTED))
    with pytest.raises(DataError, match="'here' has no finished clip to label"):
        relabel.relabelled(domains, [str(path)], print)
    with pytest.raises(DataError, match="'here' has no finished clip; extract it first"):
        domains["here"].split("train")


@pytest.mark.parametrize(
    "setting", ["sc.embedding=99999999", "mc.ratio=0", "adversarial.hidden=99999999", "sc.embedding=999999999"]
)
def test_a_setting_that_no_machine_has_memory_for_or_that_leaves_nothing_is_said_before_training(small_file, tmp_path, setting):
    words = ["--features", small_file, "--method", "cia", "--setup", "demo", "--epochs", 1, "--set", setting]
    in_one_line(in_this_process(main, *words, cwd=tmp_path), 2, "")


def test_a_kernel_whose_size_overflows_is_said_before_training(small_file, tmp_path):
    words = ["--features", small_file, "--method", "att-flow", "--setup", "demo", "--set", "att_flow.kernel=999999999"]
    in_one_line(in_this_process(main, *words, "--modality", "rgb", "--modality", "flow", cwd=tmp_path), 2, "cannot be built")


def test_running_out_of_memory_is_a_line_with_advice_and_other_errors_stay_what_they_are():
    for error in (
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate"),
        RuntimeError("can't allocate memory: you"),
    ):
        with (
            pytest.raises(UsageError, match="cia a → b: not enough memory; take a smaller --batch"),
            memory.shortage_said("cia a → b"),
        ):
            raise error
    with pytest.raises(RuntimeError, match="shapes"), memory.shortage_said("x"):
        raise RuntimeError("shapes differ")


@pytest.mark.parametrize("cls", [schema.Setup, schema.Method])
def test_a_bad_value_of_any_field_is_one_line_that_quotes_its_flag(cls):
    """Every number has limits, so that no value reaches training that would end in an error of torch's."""
    for name, kind in get_type_hints(cls, include_extras=True).items():
        flag = f"--{name.replace('_', '-')}"
        if get_origin(kind) is Annotated:
            expected = rf"{flag} (-1|nan): give a (whole )?number from \S+ to \S+"
            bad = [-1] if get_args(kind)[0] is int else [-1.0, math.nan]
        elif settings.choices(kind):
            expected, bad = f"{flag} none: unknown, choose from .*", ["none"]
        else:
            assert kind not in (int, float), name
            continue
        for value in bad:
            with pytest.raises(UsageError) as error:
                library.load("uh", "cia", {name: value})
            assert re.fullmatch(expected, str(error.value).replace("-1.0", "-1")), error.value


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in registry.KINDS for name in registry.names(kind)])
def test_a_bad_value_of_any_setting_of_a_part_is_one_line_that_quotes_it(kind, name):
    for option in fields(registry.find(kind, name).Options):
        for value in (-1, math.nan, "none", [], 10**9):
            with pytest.raises(UsageError) as error:
                registry.options(kind, name, {option.name: value})
            assert str(error.value).startswith(f"--set {name}.{option.name}={settings.brief(value)}: ")
            assert re.search(": (give a |say true or false|unknown, choose from )", str(error.value))


def test_the_product_cites_no_page_that_is_not_in_it():
    adapt = Path(registry.__file__).parents[1]
    for file in [*adapt.rglob("*.py"), *adapt.rglob("*.toml")]:
        assert not re.search(r"\b(method|extraction|evaluation|design|style)\.md\b", file.read_text()), file
