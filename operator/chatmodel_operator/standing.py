"""Who stands where: target, wanted, serving and last good revision, and who gets the traffic.

Called by `verdicts` and `rollout`. Pure; knows the rules of choice and nothing of steps.

- *target*: the revision whose source equals the ChatModel's.
- *wanted*: the target, or the last good one when the target was found bad.
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

    @property
    def is_rolled_back(self) -> bool:
        """Whether the target was found bad and something else is wanted in its place."""
        return self.target.is_failed

    @property
    def is_baking(self) -> bool:
        """Whether the wanted revision has traffic and no verdict yet."""
        return (
            self.wanted is not None and self.wanted is self.serving and not self.wanted.is_verified
        )


def stand(observed: Observed, target: Revision, replicas: int) -> Standing:
    """Return the cast for a target."""
    wanted = _last_good(observed, besides=target) if target.is_failed else target
    return Standing(
        target=target,
        wanted=wanted,
        serving=observed.find(observed.selected),
        last_good=wanted if target.is_failed else _last_good(observed, besides=target),
        replicas=replicas,
    )


def _last_good(observed: Observed, besides: Revision) -> Revision | None:
    verified = [r for r in observed.revisions if r.is_verified and r is not besides]
    return max(verified, key=lambda r: (r.status.verified_at or "", r.number), default=None)


def choose(observed: Observed, standing: Standing) -> Revision | None:
    """Return the revision that should have the traffic now.

    Traffic moves only to a revision that answered a real request and has Ready pods: all wanted
    ones on the way forward, at least one on the way back. Until then it stays where it is, even on
    a revision found bad: that one may still answer some.
    """
    wanted, serving, last_good = standing.wanted, standing.serving, standing.last_good
    if wanted is None or wanted is serving or standing.replicas == 0:
        return serving
    needed = 1 if wanted.is_verified else standing.replicas
    if _can_serve(observed, wanted, needed):
        return wanted
    if serving is not None and serving.is_verified:
        return serving
    # What serves was abandoned before it was verified, or found bad.
    if last_good is not None and _can_serve(observed, last_good, 1):
        return last_good
    return serving


def _can_serve(observed: Observed, revision: Revision, needed: int) -> bool:
    return revision.is_answered and len(observed.ready_pods(revision)) >= needed


def settled_at(standing: Standing, timings: Timings) -> datetime.datetime | None:
    """Return when the clients of old pods have surely moved; None while a rollout is under way.

    Twice the maximum connection age after traffic reached a verified wanted revision.
    """
    wanted = standing.wanted
    if wanted is None or wanted is not standing.serving or not wanted.is_verified:
        return None
    moments = [parse_time(wanted.status.verified_at), parse_time(wanted.status.serving_at)]
    latest = max((m for m in moments if m is not None), default=None)
    if latest is None:
        return None
    return latest + datetime.timedelta(seconds=2 * timings.max_connection_age_seconds)


def keep(
    observed: Observed, standing: Standing, timings: Timings, now: datetime.datetime
) -> frozenset[str]:
    """Return the names of the revisions whose pods are needed, the warm last good included."""
    kept = {standing.wanted, standing.serving, choose(observed, standing)}
    settled = settled_at(standing, timings)
    if settled is None or now < settled:
        kept |= {r for r in observed.revisions if r.is_open and r.is_verified}
    return frozenset(r.name for r in kept if r is not None)
