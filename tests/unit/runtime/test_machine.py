"""Threads and memory from the cgroup's files, of both versions."""

import os
import pathlib

import pytest

from chatmodel_runtime.engines import machine
from chatmodel_runtime.errors import BadModel

GB = 10**9
QUOTA, PERIOD = "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"


def write(root: pathlib.Path, files: dict[str, str]) -> pathlib.Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "threads"),
    [
        pytest.param({"cpu.max": "100000 100000\n"}, 1, id="one"),
        pytest.param({"cpu.max": "50000 100000\n"}, 1, id="half a one is one"),
        pytest.param({"cpu.max": "max 100000\n"}, None, id="no limit"),
        pytest.param({"cpu.max": "99900000 100000\n"}, None, id="more than there are"),
        pytest.param({}, None, id="no cgroup"),
        pytest.param({QUOTA: "100000", PERIOD: "100000"}, 1, id="version 1"),
        pytest.param({QUOTA: "-1", PERIOD: "100000"}, None, id="version 1 without limit"),
    ],
)
def test_threads_are_what_the_quota_pays_for(
    tmp_path: pathlib.Path, files: dict[str, str], threads: int | None
) -> None:
    available = len(os.sched_getaffinity(0))
    assert machine.count_threads(write(tmp_path, files)) == (threads or available)


def test_memory_is_the_limit_or_the_machines(tmp_path: pathlib.Path) -> None:
    whole = machine.memory_limit(tmp_path)
    assert whole > GB / 2
    assert machine.memory_limit(write(tmp_path, {"memory.max": "max\n"})) == whole
    assert machine.memory_limit(write(tmp_path, {"memory.max": "1000000\n"})) == 1_000_000


def test_memory_of_version_1_may_be_unlimited(tmp_path: pathlib.Path) -> None:
    whole = machine.memory_limit(tmp_path)
    write(tmp_path, {"memory/memory.limit_in_bytes": "9223372036854771712\n"})
    assert machine.memory_limit(tmp_path) == whole


def test_the_kv_cache_takes_what_is_left_and_no_more_than_wished() -> None:
    assert machine.kv_tokens(8 * GB, GB, 20_000, wished=32_768) == 32_768
    tokens = machine.kv_tokens(2 * GB, GB, 20_000, wished=32_768)
    assert 1024 < tokens < 32_768
    assert tokens * 20_000 + GB + machine.OWN_BYTES < 2 * GB


def test_a_model_that_leaves_too_little_is_refused_with_both_numbers() -> None:
    numbers = r"needs 8\.\d\d GB, 8\.00 GB of it weights; 4\.00 GB may be used"
    with pytest.raises(BadModel, match=numbers) as caught:
        machine.kv_tokens(4 * GB, 8 * GB, 150_000, wished=32_768)
    assert caught.value.reason == "InsufficientMemory"


@pytest.mark.parametrize(
    ("names", "gpus"),
    [
        pytest.param((), 0, id="none"),
        pytest.param(("nvidiactl", "nvidia-uvm"), 0, id="the driver alone"),
        pytest.param(("nvidiactl", "nvidia0", "nvidia1", "nvidia10"), 3, id="three"),
    ],
)
def test_gpus_are_counted_by_their_devices(
    tmp_path: pathlib.Path, names: tuple[str, ...], gpus: int
) -> None:
    assert machine.count_gpus(write(tmp_path, dict.fromkeys(names, ""))) == gpus


@pytest.mark.parametrize(
    ("all_of_them", "one", "chosen"),
    [
        pytest.param([9, 0.02, 0.02, 0.02], [9, 0.03, 0.03], 4, id="all are faster"),
        pytest.param([9, 0.1, 0.06, 0.09], [9, 0.03, 0.03], 1, id="one is faster"),
        pytest.param(
            [9, 0.1, 0.09, 0.02], [9, 0.05, 0.05], 4, id="one busy moment decides nothing"
        ),
        pytest.param([9, 0.1, 0.03, 0.03], [9, 0.028, 0.028], 4, id="it is a tie"),
        pytest.param([9, 0.5], [], 4, id="steps are long"),
    ],
)
def test_one_thread_is_taken_where_all_are_slower(
    all_of_them: list[float], one: list[float], chosen: int
) -> None:
    left = {4: iter(all_of_them), 1: iter(one)}
    assert machine.choose_threads(4, lambda threads: next(left[threads])) == chosen


def test_where_there_is_one_thread_there_is_no_choice() -> None:
    asked: list[int] = []

    def time_step(threads: int) -> float:
        asked.append(threads)
        return 0.01

    assert (machine.choose_threads(1, time_step), asked) == (1, [1])
