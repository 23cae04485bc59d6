"""A status tells no lie: rules for every status of a ChatModel that is ever written.

Used by `invariants`. Each rule returns what is wrong, or an empty text.
"""

from collections.abc import Callable

import tiny_cluster
from tiny_world import CHATMODEL, Raw, World

from chatmodel_operator.observed import format_time

Write = tiny_cluster.Write


def condition(status: Raw, kind: str) -> Raw | None:
    """Return a condition of a status."""
    return next((c for c in status.get("conditions") or [] if c["type"] == kind), None)


def _is(status: Raw, kind: str) -> bool:
    found = condition(status, kind)
    return found is not None and found["status"] == "True"


def ready_is_what_was_asked_for_and_serves(before: World, write: Write, after: World) -> str:
    """O4: Ready only when the target has the traffic, is verified and has a Ready pod."""
    if write.key != CHATMODEL or write.body is None or not _is(write.body["status"], "Ready"):
        return ""
    status, selected = write.body["status"], before.selected()
    serving, target = status.get("serving") or {}, status.get("target") or {}
    if serving.get("revision") != selected or target.get("revision") != selected:
        return f"Ready, and {selected} has the traffic"
    if before.status_of(selected).get("verdict") != "Verified":
        return f"Ready, and {selected} is not Verified"
    return "" if before.ready_pods(selected) else f"Ready, and {selected} has no Ready pod"


def never_current_before_traffic_is_served(before: World, write: Write, after: World) -> str:
    """Kstatus: Current only when something Ready serves, or nothing is to run."""
    if write.key != CHATMODEL or write.body is None:
        return ""
    status, meta = write.body["status"], write.body["metadata"]
    seen = status.get("observedGeneration") == meta["generation"]
    current = seen and _is(status, "Ready") and not _is(status, "Stalled")
    if not condition(status, "Ready"):
        return "a status without Ready counts as Current"
    if not current or before.ready_pods(before.selected()):
        return ""
    return "Current, and nothing serves"


def generations_are_the_one_that_was_seen(before: World, write: Write, after: World) -> str:
    """observedGeneration is the generation, in the status and in every condition."""
    if write.key != CHATMODEL or write.body is None:
        return ""
    status, generation = write.body["status"], before.objects[CHATMODEL]["metadata"]["generation"]
    found = {c["observedGeneration"] for c in status["conditions"]} | {status["observedGeneration"]}
    return "" if found == {generation} else f"generations {found} instead of {generation}"


def transitions_move_with_status_alone(before: World, write: Write, after: World) -> str:
    """lastTransitionTime moves when status does, and then to now."""
    if write.key != CHATMODEL or write.body is None:
        return ""
    for now in write.body["status"]["conditions"]:
        then = condition(before.objects[CHATMODEL]["status"], now["type"])
        same = then is not None and then["status"] == now["status"]
        kept = then["lastTransitionTime"] if same and then else format_time(before.now())
        if now["lastTransitionTime"] != kept:
            return f"{now['type']} moved at {now['lastTransitionTime']} instead of {kept}"
    return ""


def abnormal_ones_are_there_only_when_true(before: World, write: Write, after: World) -> str:
    """Stalled and Degraded are absent unless they are True."""
    if write.key != CHATMODEL or write.body is None:
        return ""
    for kind in ("Stalled", "Degraded"):
        found = condition(write.body["status"], kind)
        if found is not None and found["status"] != "True":
            return f"{kind} is there and {found['status']}"
    return ""


def available_is_what_has_ready_pods(before: World, write: Write, after: World) -> str:
    """Available says whether a Ready pod has the traffic."""
    if write.key != CHATMODEL or write.body is None:
        return ""
    said, selected = _is(write.body["status"], "Available"), before.selected()
    told = (write.body["status"].get("serving") or {}).get("revision")
    if told != selected:
        return ""  # traffic moved in this very pass: the next status tells
    return "" if said == bool(before.ready_pods(selected)) else f"Available is {said}: a lie"


def a_rollback_is_told(before: World, write: Write, after: World) -> str:
    """I6: RolledBack names both revisions and the time, and is Degraded and Stalled."""
    if write.key != CHATMODEL or write.body is None:
        return ""
    status = write.body["status"]
    ready = condition(status, "Ready")
    if ready is None or ready["reason"] != "RolledBack":
        return ""
    told = status.get("lastFailure") or {}
    whole = _is(status, "Degraded") and _is(status, "Stalled") and told.get("time")
    both = (status.get("serving") or {}).get("revision") != (status.get("target") or {}).get(
        "revision"
    )
    return "" if whole and both else "RolledBack, and not all of it is told"


WRITES: tuple[Callable[[World, Write, World], str], ...] = (
    ready_is_what_was_asked_for_and_serves,
    never_current_before_traffic_is_served,
    generations_are_the_one_that_was_seen,
    transitions_move_with_status_alone,
    abnormal_ones_are_there_only_when_true,
    available_is_what_has_ready_pods,
    a_rollback_is_told,
)
