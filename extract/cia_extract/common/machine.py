"""What of this machine is ours: cores and memory, within the limits of schedulers and containers (cgroups, versions 1 and 2).

https://docs.kernel.org/admin-guide/cgroup-v2.html and https://docs.kernel.org/admin-guide/cgroup-v1/memory.html. A limit holds
for a group and all below it, so that every group on the way up is asked. Without any, as on macOS, the machine is the limit.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")


def cores(root: Path = _ROOT) -> int:
    """How many this process may keep busy: those of its affinity mask, or fewer where its cgroups have a quota of CPU time.

    A quota is rounded down, to at least 1: what wants more is stopped in turns. `root` is where /proc and /sys lie.
    """
    return max(1, min([in_mask(), *map(int, _quotas(root))]))


def in_mask() -> int:
    """Cores of this process' affinity mask; on systems without one, all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory(root: Path = _ROOT) -> int:
    """Bytes that this process can take: those that the machine has free, or fewer where its cgroups have a limit."""
    import psutil

    return max(0, min([int(psutil.virtual_memory().available), *_rooms(root)]))


def multiplies_bf16(root: Path = _ROOT) -> bool:
    """Whether the processor has instructions for bf16, as `lscpu` lists them; True where Linux does not tell."""
    lines = _text(root / "proc/cpuinfo").splitlines()
    known = next((line for line in lines if line.startswith(("flags", "Features"))), "bf16")
    return "bf16" in known  # amx_bf16, avx512_bf16; on ARM bf16 itself


def _quotas(root: Path) -> Iterator[float]:
    """Cores' worth of CPU time that each cgroup grants."""
    for group in _groups(root, "cpu"):
        quota, _, period = _text(group / "cpu.max").partition(" ")  # version 2
        if not quota:
            quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):  # else "max", or −1
            yield int(quota) / int(period)


def _rooms(root: Path) -> Iterator[int]:
    """Bytes that each cgroup has left; the files that it has read and may forget at once count as free."""
    for group in _groups(root, "memory"):
        for limit, used, forgettable in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most, now = _text(group / limit), _text(group / used)
            if most.isdigit() and now.isdigit():
                counts = dict(line.split() for line in _text(group / "memory.stat").splitlines() if len(line.split()) == 2)
                yield int(most) - int(now) + int(counts.get(forgettable, 0))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process' cgroups that may limit it, from its own up to the topmost that is seen here.

    In a container its own path may be that of the host, of which nothing but the topmost folder is seen.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        mounted = root / "sys/fs/cgroup"
        if number != "0":  # version 1
            if controller not in controllers.split(","):
                continue
            mounted = next((place for place in (mounted / controller, mounted / controllers) if place.is_dir()), mounted)
        elif controllers:
            continue
        parts = PurePosixPath(path.lstrip("/")).parts
        for depth in range(len(parts), -1, -1):
            if ".." not in parts[:depth] and (folder := mounted.joinpath(*parts[:depth])).is_dir():
                yield folder


def _text(path: Path) -> str:
    """A small file of the kernel's, "" where there is none."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
