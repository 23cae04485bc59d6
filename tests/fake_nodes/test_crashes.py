"""The operator killed with SIGKILL at every one of its writes: the end is the same.

One rollout is told without a kill first: a good model serves, a bad one is tried and refused. Its
writes are counted, and then it is told again, once for each write, with the operator killed right
after that write was done and before it heard so. CRASH_PHASES=before,after also kills it before.
"""

import concurrent.futures
import os
from typing import Any

from fake_nodes_story import tell
from kube import Body

PHASES = os.environ.get("CRASH_PHASES", "after").split(",")
AT_ONCE = 4


def test_the_end_is_the_same_wherever_the_operator_is_killed(
    operator: Any, undisturbed: tuple[Body, int]
) -> None:
    end, writes = undisturbed
    plans = [(kill, phase) for phase in PHASES for kill in range(1, writes + 1)]

    def play(plan: tuple[int, str]) -> str:
        kill, phase = plan
        with operator(kill=kill, phase=phase) as run:
            try:
                found = tell(run.kube)
            except AssertionError as error:
                return f"killed {phase} write {kill}: {error}"
            # A watch may save a write here and there: then there was nothing to kill at.
            killed = any("killed" in line for line in run.writes())
            if found != end:
                return f"killed {phase} write {kill}: ended with {found}"
            return "" if killed or kill > writes - 3 else f"nobody was killed at write {kill}"

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        failures = [failure for failure in pool.map(play, plans) if failure]
    print(f"{len(plans)} plans, {writes} writes, {len(failures)} failed")
    assert not failures, "\n".join(failures[:5])
