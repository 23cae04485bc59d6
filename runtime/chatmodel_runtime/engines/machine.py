"""What the container may use: threads from its CPU quota, room for the KV cache, GPUs.

Called by engines and `commands`. Reads cgroup files of both versions and the names of devices.
"""

import math
import os
import pathlib
from collections.abc import Callable

from chatmodel_runtime.errors import BadModel

GIB = 2**30
MIN_KV_TOKENS = 1024
# Measured: the libraries and one step's activations, beside weights and KV cache.
OWN_BYTES = GIB // 2
SPARE = 0.2
TRIES, LONG_STEP = 2, 0.2
_CGROUP = pathlib.Path("/sys/fs/cgroup")
_DEVICES = pathlib.Path("/dev")
_UNLIMITED = 2**60  # version 1 says "no limit" as a number of pages near 2**63


def count_threads(root: pathlib.Path = _CGROUP) -> int:
    """Return how many threads the cgroup's CPU quota pays for, at least one.

    With more threads than quota a step takes 1.7 times as long (measured at a quota of one CPU).
    """
    available = len(os.sched_getaffinity(0))
    v2 = _words(root / "cpu.max")
    v1 = _words(root / "cpu/cpu.cfs_quota_us") + _words(root / "cpu/cpu.cfs_period_us")
    for words in (v2, v1):
        if len(words) == 2 and words[0].isdigit() and int(words[0]) > 0:
            return max(1, min(available, math.floor(int(words[0]) / int(words[1]))))
    return max(1, available)


def choose_threads(most: int, time_step: Callable[[int], float]) -> int:
    """Return `most` threads, or one where that takes a tenth less time: beside busy neighbours.

    `time_step` says how many seconds a step takes with so many threads. They take turns, so that a
    busy moment meets both; what is slow in the first steps of each does not count.
    """
    time_step(most)
    if most == 1 or time_step(most) > LONG_STEP:
        return most
    time_step(1)
    turns = [(time_step(most), time_step(1)) for _ in range(TRIES)]
    all_of_them, one = (sum(seconds) for seconds in zip(*turns, strict=True))
    return 1 if one < 0.9 * all_of_them else most


def count_gpus(root: pathlib.Path = _DEVICES) -> int:
    """Return how many GPUs of NVIDIA the container has been given."""
    return len(list(root.glob("nvidia[0-9]*")))


def memory_limit(root: pathlib.Path = _CGROUP) -> int:
    """Return the bytes the container may use: the cgroup's limit, else the machine's memory."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    words = _words(root / "memory.max") or _words(root / "memory/memory.limit_in_bytes")
    limit = int(words[0]) if words and words[0].isdigit() else _UNLIMITED
    return min(limit, machine) if limit < _UNLIMITED else machine


def kv_tokens(limit: int, weights: int, bytes_per_token: int, *, wished: int) -> int:
    """Return how many tokens the KV cache shall hold, at most `wished`.

    All sizes in bytes. Raises `BadModel` (InsufficientMemory) with the numbers when fewer than
    `MIN_KV_TOKENS` fit.
    """
    room = (limit - weights - OWN_BYTES) * (1 - SPARE)
    tokens = int(room // bytes_per_token)
    if tokens < min(MIN_KV_TOKENS, wished):
        needed = weights + OWN_BYTES + MIN_KV_TOKENS * bytes_per_token / (1 - SPARE)
        text = f"needs {_gb(needed)}, {_gb(weights)} of it weights; {_gb(limit)} may be used"
        raise BadModel("InsufficientMemory", text)
    return min(tokens, wished)


def _gb(count: float) -> str:
    return f"{count / 1e9:.2f} GB"


def _words(path: pathlib.Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
