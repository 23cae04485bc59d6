"""Seeded schedules: films' stories and stories drawn by lot, in random order, with kills.

SCHEDULES says how many (default 2,000; `make schedules` runs more), on as many processes as there
are processors; SEED=n repeats one. The oracle: the invariants, and the end of an undisturbed run.
"""

import concurrent.futures
import multiprocessing
import os

import telling

SCHEDULES = int(os.environ.get("SCHEDULES", "2000"))
PART = 500


def test_order_and_crashes_do_not_change_the_end() -> None:
    if "SEED" in os.environ:
        assert telling.run_part(int(os.environ["SEED"]), 1)[1] == ""
        return
    firsts = range(0, SCHEDULES, PART)
    counts = [min(PART, SCHEDULES - first) for first in firsts]
    context = multiprocessing.get_context("spawn")
    workers = min(2, os.cpu_count() or 1, len(counts))
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        found = list(pool.map(telling.run_part, firsts, counts))
    failures = [line for _, line in found if line]
    assert not failures, f"{len(failures)} of {len(counts)} parts failed:\n" + "\n".join(failures)
    assert sum(kills for kills, _ in found), "nobody was killed: the schedules prove nothing"
