"""Cores and memory within cgroups: fake trees of both versions, and a real quota where one can be set."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from cia_extract.common import machine

GIB = 1 << 30


def tree(root: Path, cgroup: str, **files: str) -> Path:
    """A root with /proc/self/cgroup and files below /sys/fs/cgroup; "__" in a name stands for "/"."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return root


@pytest.fixture(autouse=True)
def eight_cores_and_64_gib(monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)))
    free = type("Memory", (), {"available": 64 * GIB})()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8)]
)
def test_version_2_quota(tmp_path, quota, expected):
    root = tree(tmp_path, "0::/job/step\n", job__step__cpu_DOT_max=quota)
    assert machine.cores(root) == expected


def test_version_2_limits_of_all_groups_above_hold(tmp_path):
    """A scheduler limits the job, the step below it has none of its own, or a wider one."""
    files = {"job__cpu_DOT_max": "300000 100000", "job__step__cpu_DOT_max": "max 100000", "job__step__memory_DOT_max": "max"}
    files |= {"job__memory_DOT_max": str(8 * GIB), "job__memory_DOT_current": str(6 * GIB), "job__step__memory_DOT_current": "1"}
    root = tree(tmp_path, "0::/job/step\n", **files, job__memory_DOT_stat=f"anon {2 * GIB}\ninactive_file {4 * GIB}")
    assert machine.cores(root) == 3
    assert machine.free_memory(root) == 6 * GIB, "pages of files that were read can be had again"


def test_a_container_that_sees_its_own_group_at_the_top(tmp_path):
    """/proc has the path on the host, under which nothing lies here: Docker without a namespace for cgroups."""
    line = "11:cpu,cpuacct:/docker/0123\n4:memory:/docker/0123\n1:name=systemd:/docker/0123\n"
    files = {"cpu__cpu_DOT_cfs_quota_us": "150000", "cpu__cpu_DOT_cfs_period_us": "50000"}
    files |= {"memory__memory_DOT_limit_in_bytes": str(4 * GIB), "memory__memory_DOT_usage_in_bytes": str(3 * GIB)}
    root = tree(tmp_path, line, **files)
    assert machine.cores(root) == 3 and machine.free_memory(root) == GIB


def test_version_1_without_a_limit(tmp_path):
    line = "3:cpu:/a\n2:memory:/a\n0::/\n"
    files = {"cpu__a__cpu_DOT_cfs_quota_us": "-1", "cpu__a__cpu_DOT_cfs_period_us": "100000"}
    files |= {"memory__a__memory_DOT_limit_in_bytes": "9223372036854771712", "memory__a__memory_DOT_usage_in_bytes": "4096"}
    root = tree(tmp_path, line, **files)
    assert machine.cores(root) == 8 and machine.free_memory(root) == 64 * GIB


def test_a_group_over_its_limit_has_nothing_free(tmp_path):
    root = tree(tmp_path, "0::/\n", memory_DOT_max=str(GIB), memory_DOT_current=str(2 * GIB))
    assert machine.free_memory(root) == 0


@pytest.mark.parametrize("cgroup", ["", "0::/../../..\n", "no such thing", "0::/gone\n"])
def test_without_cgroups_the_machine_is_the_limit(tmp_path, cgroup):
    root = tree(tmp_path, cgroup)
    assert machine.cores(root) == 8 and machine.free_memory(root) == 64 * GIB
    assert machine.cores(tmp_path / "none") == 8


def test_a_real_quota_is_what_the_command_takes_for_its_cores(tmp_path):
    """In a cgroup of our own, made where this user may make one."""
    base = Path("/sys/fs/cgroup/cpu") if Path("/sys/fs/cgroup/cpu").is_dir() else Path("/sys/fs/cgroup")
    group = base / f"cia-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error.strerror}")
    try:
        try:
            if (group / "cpu.cfs_quota_us").exists():
                (group / "cpu.cfs_quota_us").write_text("100000")
            else:
                (group / "cpu.max").write_text("100000 100000")
        except OSError as error:
            pytest.skip(f"no quota can be set here: {error.strerror}")
        code = (
            f"import os; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
            "from cia_extract.common.machine import cores; print(cores())"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert run.stdout.strip() == "1", run
    finally:
        group.rmdir()


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("processor: 0\nflags\t\t: fpu avx2 avx512f\n", False),
        ("processor: 0\nflags\t\t: fpu avx512f avx512_bf16 amx_bf16\n", True),
        ("processor: 0\nFeatures\t: fp asimd\n", False),
        ("processor: 0\nFeatures\t: fp asimd i8mm bf16\n", True),
        ("processor: 0\n", True),
        (None, True),
    ],
)
def test_whether_a_processor_has_bf16(tmp_path, told, expected):
    (tmp_path / "proc").mkdir()
    if told is not None:
        (tmp_path / "proc/cpuinfo").write_text(told)
    assert machine.multiplies_bf16(tmp_path) == expected
