"""What the control groups of this process allow it, version 1 or 2: memory and processors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .reading import labelled, number, numbers, text

__all__ = ["GroupMemory", "allowed_processors", "memory_of_groups", "processors_of_groups"]

#: Version 1 writes "no limit" as the largest number of whole pages.
_NO_LIMIT = 1 << 60


class GroupMemory(NamedTuple):
    """Memory that a control group allows.

    Attributes:
        limit: bytes for all of its processes.
        used: bytes of it that are in use; what the kernel can take back at once (the cache of
            files) does not count.
        file: the file that holds the limit.
    """

    limit: int
    used: int
    file: str

    @property
    def available(self) -> int:
        """Bytes that are left."""
        return max(0, self.limit - self.used)


def memory_of_groups(root: Path) -> GroupMemory | None:
    """The tightest memory limit above this process; `None`: there is none."""
    found = []
    for folder in _folders(root, "memory"):
        limit = number(folder / "memory.max")
        if limit is not None:
            used = (number(folder / "memory.current") or 0) - _cache(folder, "inactive_file")
            found.append(GroupMemory(limit, max(0, used), _shown(root, folder / "memory.max")))
        limit = number(folder / "memory.limit_in_bytes")
        if limit is not None and limit < _NO_LIMIT:
            used = number(folder / "memory.usage_in_bytes") or 0
            used -= _cache(folder, "total_inactive_file")
            file = _shown(root, folder / "memory.limit_in_bytes")
            found.append(GroupMemory(limit, max(0, used), file))
    return min(found, key=lambda each: each.available, default=None)


def processors_of_groups(root: Path) -> float | None:
    """How many processors' time the tightest quota above this process is; `None`: any."""
    quotas = (
        numbers(folder / "cpu.max", 2)
        or _pair(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")
        for folder in _folders(root, "cpu")
    )
    # Without a quota there is "max" in place of its number, or -1.
    return min((each[0] / each[1] for each in quotas if each and min(each) > 0), default=None)


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's groups, up to the outermost that is visible.

    In a container the path may be that outside, while what is mounted is the container's own: so
    folders that do not exist are no error, the outermost of them always does.
    """
    mounted = root / "sys/fs/cgroup"
    for line in (text(root / "proc/self/cgroup") or "").splitlines():
        _number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            unified = mounted / "unified"
            top = unified if unified.is_dir() else mounted
        elif controller in controllers.split(","):
            top = next(
                (mounted / name for name in (controller, controllers) if (mounted / name).is_dir()),
                mounted / controller,
            )
        else:
            continue
        at = PurePosixPath(path)
        for each in (at, *at.parents):
            yield top / str(each).lstrip("/")


def _cache(folder: Path, name: str) -> int:
    for line in (text(folder / "memory.stat") or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return 0


def _pair(first: Path, second: Path) -> tuple[int, int] | None:
    one, other = number(first), number(second)
    return None if one is None or other is None else (one, other)


def _shown(root: Path, path: Path) -> str:
    return f"/{path.relative_to(root)}"


def allowed_processors(root: Path) -> int | None:
    """How many processors this process may run on."""
    for name, words in labelled(root / "proc/self/status"):
        if name == "Cpus_allowed_list" and words:
            return _listed(words[0])
    return None


def _listed(words: str) -> int | None:
    """How many numbers there are in `0-3,8`."""
    count = 0
    for word in words.split(","):
        first, _dash, last = word.partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            return None
        count += int(last or first) - int(first) + 1
    return count
