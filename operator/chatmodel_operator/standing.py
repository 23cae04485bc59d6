"""Who stands where: target, wanted, serving and last good revision, and who gets the traffic.

Called by `scene`, `staging` and `rollout`. Pure; knows the rules of choice and
nothing of steps.

- *target*: the revision whose source equals the ChatModel's, or the pinned one.
- *wanted*: the target, or the last good one when the target was found bad and is not held.
- *serving*: the revision the Service selects.
- *last good*: the Verified revision, other than the wanted one, that was verified last; when the
  target is bad it is the wanted one.
"""

import dataclasses
import datetime

from chatmodel_operator.observed import Observed, Revision, parse_time
from chatmodel_operator.settings import Timings


@dataclasses.dataclass(frozen=True)
class Standing:
    """The cast of one pass. `replicas` is what the ChatModel asks for."""

    target: Revision
    wanted: Revision | None
    serving: Revision | None
    last_good: Revision | None
    replicas: int
    is_pinned: bool = False
    is_held: bool = False
    is_paused: bool = False

    @property
    def is_rolled_back(self) -> bool:
        """Whether the target was found bad and something else is wanted in its place."""
        return self.target.is_failed and not self.is_held

    @property
    def is_baking(self) -> bool:
        """Whether the wanted revision has traffic and no verdict yet."""
        return (
            self.wanted is not None
            and self.wanted is self.serving
            and not self.wanted.is_verified
            and not self.is_held
        )

    @property
    def is_swapping(self) -> bool:
        """Whether the serving pods make room for a wanted revision without traffic."""
        wanted = self.wanted
        return (
            wanted is not None
            and self.serving is not None
            and wanted is not self.serving
            and wanted.status.swap_started_at is not None
            and wanted.status.swap_undone_at is None
        )


def stand(observed: Observed, target: Revision, *, is_pinned: bool = False) -> Standing:
    """Return the cast for a target."""
    spec = observed.chatmodel.spec
    assert spec is not None
    serving = observed.find(observed.selected)
    hold = spec.rollout.failure_policy == "Hold"
    is_held = hold and target.is_failed and target is serving
    last_good = _last_good(observed, besides=target)
    cast = Standing(
        target=target,
        wanted=last_good if target.is_failed and not is_held else target,
        serving=serving,
        last_good=last_good,
        replicas=spec.replicas,
        is_pinned=is_pinned,
        is_held=is_held,
    )
    # A swap under way is finished, or undone, first: nothing answers meanwhile.
    return dataclasses.replace(cast, is_paused=spec.rollout.paused and not cast.is_swapping)


def _last_good(observed: Observed, besides: Revision) -> Revision | None:
    verified = [r for r in observed.revisions if r.is_verified and r is not besides]
    return max(verified, key=lambda r: (r.status.verified_at or "", r.number), default=None)


def choose(observed: Observed, standing: Standing) -> Revision | None:
    """Return the revision that should have the traffic now.

    Traffic moves only to a revision that answered a real request and has Ready pods: enough of
    them on the way forward, at least one on the way back. Until then it stays where it is, even on
    a revision found bad: that one may still answer some.
    """
    wanted, serving, last_good = standing.wanted, standing.serving, standing.last_good
    if wanted is None or wanted is serving or standing.replicas == 0:
        return serving
    if standing.is_paused and wanted is standing.target:
        return serving
    if _can_serve(observed, wanted, _needed(standing, wanted)):
        return wanted
    if serving is not None and serving.is_verified:
        return serving
    # What serves was abandoned before it was verified, or found bad.
    if last_good is not None and _can_serve(observed, last_good, 1):
        return last_good
    return serving


def _needed(standing: Standing, wanted: Revision) -> int:
    """Return how many pods of a wanted revision must be Ready before it gets the traffic."""
    if wanted.is_verified:
        return 1
    # Where not all fit beside the serving ones, half of them is what can be had.
    return -(-standing.replicas // 2) if standing.is_swapping else standing.replicas


def _can_serve(observed: Observed, revision: Revision, needed: int) -> bool:
    return revision.is_answered and len(observed.ready_pods(revision)) >= needed


def settled_at(standing: Standing, timings: Timings) -> datetime.datetime | None:
    """Return when the clients of old pods have surely moved; None while a rollout is under way.

    Twice the maximum connection age after traffic reached a verified wanted revision.
    """
    wanted = standing.wanted
    if wanted is None or wanted is not standing.serving or not wanted.is_verified:
        return None
    return moved_at(standing, timings)


def moved_at(standing: Standing, timings: Timings) -> datetime.datetime | None:
    """Return when the clients of whatever served before have surely moved; None without traffic.

    Twice the maximum connection age after traffic reached the serving revision, or after it was
    verified there.
    """
    serving = standing.serving
    if serving is None:
        return None
    moments = [parse_time(serving.status.serving_at), parse_time(serving.status.verified_at)]
    latest = max((m for m in moments if m is not None), default=None)
    if latest is None:
        return None
    return latest + datetime.timedelta(seconds=2 * timings.max_connection_age_seconds)


def keep(
    observed: Observed, cast: Standing, timings: Timings, now: datetime.datetime
) -> frozenset[str]:
    """Return the names of the revisions whose pods are needed.

    The wanted and the serving one, but of a ChatModel that is stopped the serving one alone; until
    the clients have moved, each Verified one with pods; and as long as a rollout is under way, the
    one it would be rolled back to. Rollouts that follow each other closely do not fill the nodes
    with what served before the last.
    """
    kept = {cast.serving, choose(observed, cast)}
    if cast.replicas > 0:  # an attempt that is stopped is begun anew, with all of its time
        kept.add(cast.wanted)
    moved = moved_at(cast, timings)
    if moved is None or now < moved or cast.is_paused:
        kept |= {r for r in observed.revisions if r.is_open and r.is_verified}
    elif cast.last_good is not None and cast.last_good.is_open:
        if settled_at(cast, timings) is None:
            kept.add(cast.last_good)
    return frozenset(r.name for r in kept if r is not None)
