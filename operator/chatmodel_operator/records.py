"""What must be written on revisions before anything is done: the rules, in their order.

Called by `rollout`. Pure. Each rule is named by what it writes; the first that has something to
write is the only one that speaks in a pass, and its own record makes it silent in the next.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

from chatmodel_operator import receipts, standing, verdicts
from chatmodel_operator.api.chatmodelrevision import (
    FAILED,
    VERIFIED,
    ChatModelRevisionStatus,
)
from chatmodel_operator.observed import Observed, parse_time
from chatmodel_operator.scene import Record, Scene

RULES: tuple[Callable[[Scene], Record | None], ...] = (
    receipts.restore_a_lost_receipt,
    verdicts.retry_a_failed_target,
    verdicts.fail_a_bad_target,
    verdicts.fail_what_cannot_be_served,
    verdicts.undo_a_swap_in_vain,
    verdicts.fail_a_late_target,
    verdicts.hold_the_deadline,
    verdicts.verify_a_baked_target,
    receipts.renew_a_returned_revision,
    receipts.open_the_wanted_attempt,
    receipts.record_what_is_staged,
    receipts.begin_a_swap,
    receipts.record_that_room_was_made,
    receipts.state_that_traffic_moves,
    receipts.state_that_traffic_has_left,
    receipts.retire_what_is_not_kept,
)

BEGINNING = ("verdict", "startedAt", "progressAt")


def next_record(scene: Scene) -> Record | None:
    """Return the first thing to write, or None when revisions say all there is to say."""
    for rule in RULES:
        if (record := rule(scene)) is not None:
            return complete(record)
    return None


def complete(record: Record) -> Record:
    """Return a record with the first attempt's times, which nobody has written so far.

    And without what it would clear although it is not there.
    """
    revision, there = record.revision, record.revision.status.dump()
    first = {key: there[key] for key in BEGINNING} if revision.is_blank else {}
    status = first | {
        key: value for key, value in record.status.items() if value is not None or key in there
    }
    return dataclasses.replace(record, status=status)


def as_written(observed: Observed, record: Record) -> Observed:
    """Return the picture as it will be once a record is written."""
    status = ChatModelRevisionStatus.model_validate(record.revision.status.dump() | record.status)
    changed = dataclasses.replace(record.revision, status=status, is_blank=False)
    revisions = tuple(changed if r is record.revision else r for r in observed.revisions)
    return dataclasses.replace(observed, revisions=revisions)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a rollout ended, and the seconds from its start to the verdict."""

    result: Literal["completed", "rolled_back", "failed"]
    seconds: float


def find_outcome(record: Record, cast: standing.Standing | None) -> Outcome | None:
    """Return the end of a rollout that a record states; None for every other record.

    `failed` has nothing to go back to, or is held. A lost verdict that is restored ends nothing.
    """
    status, before = record.status, record.revision.status
    verdict = status.get("verdict")
    ended = parse_time(status.get("failedAt" if verdict == FAILED else "verifiedAt"))
    started = parse_time(before.started_at)
    if verdict not in (VERIFIED, FAILED) or ended is None or started is None:
        return None
    seconds = (ended - started).total_seconds()
    if verdict == VERIFIED:
        return Outcome("completed", seconds)
    goes_back = cast is not None and cast.last_good is not None and "retiredAt" in status
    return Outcome("rolled_back" if goes_back else "failed", seconds)
