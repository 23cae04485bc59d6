"""One telling of a story: films in fixed order, schedules in seeded random order with kills.

The operator keeps no memory between passes, so a pass is a function of the state of the world:
each state is looked at by the real reconciler once, and the checks of `invariants` run on every
write it makes there. A schedule that comes to a known state goes on with what is known.
"""

import dataclasses
import functools
import json
import random
from typing import Any

import composing
import invariants
import stories
import tiny_cluster
from tiny_table import TABLE
from tiny_world import CHATMODEL, SERVICE, World

from chatmodel_operator import names

END = 240.0
ORDERS = 20  # schedules of one story: they share many states
TICK = 0.1  # seconds; time moves at least by this
LIMIT = 30_000  # states remembered
_passes: dict[Any, tuple[tiny_cluster.Pass, str]] = {}
_steps: dict[Any, tuple[bool, World]] = {}
counts = {"states": 0, "passes": 0}


def clear() -> None:
    """Forget every known state; not in the middle of a story, whose bodies would lose their ids."""
    _passes.clear()
    _steps.clear()
    TABLE.clear()


@dataclasses.dataclass
class Teller:
    """Tells one story to its end."""

    story: stories.Story
    room: int | None = None
    chance: random.Random | None = None
    end: float = END

    def __post_init__(self) -> None:
        self.story = list(self.story)
        self.world = World(self.room)
        self.pause: float | None = None
        self.kills = 0

    def tell(self) -> World:
        """Tell the story to its end."""
        while self.world.seconds < self.end:
            while self.story and self.story[0][0] <= self.world.seconds:
                self.story.pop(0)[1](self.world)
            self.settle()
            self.world.seconds = self._next_moment()
        return self.world

    def _next_moment(self) -> float:
        """Return when something happens next: time that nobody waits for is left out."""
        moments = [at for at, _ in self.story[:1]] + [self.end]
        if self.pause is not None:
            moments.append(self.world.seconds + self.pause)
        if (death := self.world.next_death()) is not None:
            moments.append(death)
        return max(min(moments), self.world.seconds + TICK)

    def settle(self) -> None:
        """Let operator and controllers work until nothing moves, in order or at random."""
        moved = True
        for _ in range(500):
            if self.chance is not None:
                self._wander(self.chance)
            # Nothing moves any more when each has had its turn in vain.
            moved = self._look_until_told()
            moved |= self._step()
            self.check()
            if not moved:
                invariants.check_rest(self.world)
                return
        raise AssertionError("livelock: after 500 turns something still moves")

    def _look_until_told(self) -> bool:
        """Let the operator look as long as it wants to look again at once."""
        for count in range(200):
            if not self.look():
                return count > 0
            if self.pause != 0.0:
                return True
            self.check()
        raise AssertionError("livelock: after 200 passes the operator still wants another")

    def _wander(self, chance: random.Random) -> None:
        for _ in range(chance.randint(0, 4)):
            turn = chance.random()
            if turn < 0.4:
                self.look()
            elif moves := self.world.moves():
                self.world.move(chance.choice(moves))
            self.check()

    def look(self) -> bool:
        """Let the operator make one pass; return whether that changed anything."""
        world = self.world
        found, violation = _look(world)
        if violation:
            raise AssertionError(violation)
        writes = found.writes
        if self.chance is not None and writes and self.chance.random() < 0.05:
            # The operator dies before, between or after its writes; what it asked is forgotten.
            self.kills += 1
            for write in writes[: self.chance.randint(0, len(writes))]:
                write.carry_out(world)
            world.asked, world.answer = frozenset(), None
            return True
        for write in writes:
            write.carry_out(world)
        asked, world.asked = world.asked, world.asked | found.asked
        if found.forgets:
            world.answer = None
        self.pause = found.pause
        return bool(writes) or found.pause == 0.0 or asked != world.asked

    def _step(self) -> bool:
        """Let every controller do one thing; return whether one did."""
        world = self.world
        key = (world.key(), world.room, world.asked)
        known = _steps.get(key)
        if known is None:
            after = world.fork()
            known = _steps[key] = (after.step(), after)
        is_moved, after = known
        if is_moved:
            world.objects, world.pods = dict(after.objects), dict(after.pods)
            world.asked, world.answer = after.asked, after.answer
        return is_moved

    def check(self) -> None:
        """Check what must be true after every step."""
        invariants.check_state(self.world)


def _look(world: World) -> tuple[tiny_cluster.Pass, str]:
    key = world.key()
    counts["passes"] += 1
    known = _passes.get(key)
    if known is None:
        counts["states"] += 1
        found = tiny_cluster.look(world)
        known = _passes[key] = (found, _violation(world, found))
    return known


def _violation(world: World, found: tiny_cluster.Pass) -> str:
    """Return what is wrong with the writes of a pass, each seen in the world it meets."""
    before = world.fork()
    for write in found.writes:
        after = before.fork()
        write.carry_out(after)
        try:
            invariants.check_write(before, write, after)
            invariants.check_state(after)
        except AssertionError as error:
            return str(error)
        before = after
    return ""


def film(name: str) -> World:
    """Tell a story in its order."""
    return Teller(stories.STORIES[name], stories.ROOM.get(name)).tell()


@functools.lru_cache(4)
def _told(number: int) -> tuple[stories.Story, int | None, float, str]:
    """Return a story, its room, how long it is told, and how it ends when nobody disturbs it.

    Even numbers are the films in turn, odd ones stories drawn by lot.
    """
    if number % 2 == 0:
        name = list(stories.STORIES)[number // 2 % len(stories.STORIES)]
        story, room, end = stories.STORIES[name], stories.ROOM.get(name), END
    else:
        story, room = composing.compose(random.Random(number))
        end = story[-1][0] + 150
    return story, room, end, end_of(Teller(story, room, end=end).tell())


def schedule(seed: int) -> int:
    """Run one schedule, return the kills; ORDERS in a row tell one story in different orders."""
    if len(_passes) > LIMIT:
        clear()
    story, room, end, expected = _told(seed // ORDERS)
    teller = Teller(story, room, random.Random(seed), end=end)
    found = end_of(teller.tell())
    assert found == expected, f"it ended otherwise: {found} instead of {expected}"
    return teller.kills


def run_part(first: int, count: int) -> tuple[int, str]:
    """Run some schedules; return the kills, and the line that repeats what failed."""
    kills = 0
    for seed in range(first, first + count):
        try:
            kills += schedule(seed)
        except AssertionError as error:
            return kills, f"SEED={seed}: {error}"
    return kills, ""


def end_of(world: World) -> str:
    """Return what must not depend on the order of events."""
    status, service = world.objects[CHATMODEL]["status"], world.objects.get(SERVICE)
    found = {
        "conditions": [
            (c["type"], c["status"], c["reason"]) for c in status.get("conditions") or []
        ],
        "serving": status.get("serving"),
        "target": status.get("target"),
        "selector": service["spec"]["selector"][names.LABEL_REVISION] if service else None,
        "verdicts": {n: b["status"].get("verdict") for n, b in world.revisions().items()},
        "replicas": {
            name: body["spec"]["replicas"]
            for (kind, name), body in world.objects.items()
            if kind == "Deployment"
        },
    }
    return json.dumps(found, sort_keys=True)
