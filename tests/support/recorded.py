"""Every status that the operator wrote in a test run, held against what a status may say.

Used by `audit`. Reads the bodies of status writes from the API server's audit log, in the order of
their resourceVersions. What only a simulated cluster can tell (whether the pods were Ready) is
checked in films by `status_truths`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from chatmodel_operator.api.reasons import Reason

Body = dict[str, Any]
WRITER = "fieldManager=chatmodel-operator"
ABNORMAL = ("Stalled", "Degraded")
ALWAYS = ("Ready", "Available", "Progressing")


def conditions(status: Body) -> dict[str, Body]:
    """Return the conditions of a status by type."""
    return {c["type"]: c for c in status.get("conditions") or []}


def has_what_is_always_there(_: Body, now: Body) -> str:
    """A status without Ready would count as Current (kstatus)."""
    lacking = [kind for kind in ALWAYS if kind not in conditions(now["status"])]
    return f"it has no {', '.join(lacking)}" if lacking else ""


def speaks_of_one_generation(_: Body, now: Body) -> str:
    """The status and each condition speak of one generation, and of none that is still to come."""
    status = now["status"]
    found = {c["observedGeneration"] for c in status["conditions"]} | {status["observedGeneration"]}
    seen = max(found)
    ahead = seen > now["metadata"]["generation"]
    return f"it speaks of generations {sorted(found)}" if len(found) > 1 or ahead else ""


def abnormal_only_when_true(_: Body, now: Body) -> str:
    """Stalled and Degraded are absent unless they are True."""
    found = conditions(now["status"])
    wrong = [k for k in ABNORMAL if k in found and found[k]["status"] != "True"]
    return f"{', '.join(wrong)} is there and not True" if wrong else ""


def transitions_move_with_status(before: Body, now: Body) -> str:
    """O3: lastTransitionTime moves when a condition's status does, and never back."""
    then = conditions(before.get("status") or {})
    for kind, found in conditions(now["status"]).items():
        old = then.get(kind)
        if old is None:
            continue
        same = old["status"] == found["status"]
        if same and old["lastTransitionTime"] != found["lastTransitionTime"]:
            return f"{kind} moved without a change of its status"
        if found["lastTransitionTime"] < old["lastTransitionTime"]:
            return f"{kind} moved back in time"
    return ""


def ready_is_what_was_asked_for(_: Body, now: Body) -> str:
    """O4: Ready means that the target has the traffic, and nothing is wrong."""
    status, found = now["status"], conditions(now["status"])
    if found["Ready"]["status"] != "True":
        return ""
    names = [(status.get(part) or {}).get("revision") for part in ("serving", "target")]
    if names[0] is None or names[0] != names[1]:
        return f"Ready, but {names[0]} serves and {names[1]} was asked for"
    return "Ready and Stalled" if "Stalled" in found else ""


def a_rollback_is_told(_: Body, now: Body) -> str:
    """I6: RolledBack names both revisions, the failure and its time."""
    status, found = now["status"], conditions(now["status"])
    if found["Ready"]["reason"] != Reason.RolledBack:
        return ""
    told = status.get("lastFailure") or {}
    both = status["serving"]["revision"] != status["target"]["revision"]
    whole = both and told.get("time") and told.get("message") and {*ABNORMAL} <= {*found}
    return "" if whole else "RolledBack, and not all of it is told"


def reasons_are_published(_: Body, now: Body) -> str:
    """Every reason is in docs/reasons.md."""
    found = {c["reason"] for c in now["status"]["conditions"]} - {r.value for r in Reason}
    return f"{', '.join(sorted(found))} is no published reason" if found else ""


RULES: tuple[Callable[[Body, Body], str], ...] = (
    has_what_is_always_there,
    speaks_of_one_generation,
    abnormal_only_when_true,
    transitions_move_with_status,
    ready_is_what_was_asked_for,
    a_rollback_is_told,
    reasons_are_published,
)


def written(events: Iterable[Body]) -> list[Body]:
    """Return the status writes that were carried out, in the order of the API server."""
    found = [
        e
        for e in events
        if e.get("objectRef", {}).get("subresource") == "status"
        and e.get("responseStatus", {}).get("code") == 200
        and "responseObject" in e
    ]
    return sorted(found, key=lambda e: int(e["responseObject"]["metadata"]["resourceVersion"]))


def lies(events: Iterable[Body]) -> Iterator[str]:
    """Yield a sentence for each status of the operator that lies: its first lie."""
    last: dict[str, Body] = {}
    verdicts: dict[tuple[str, str], str] = {}
    for event in written(events):
        now = event["responseObject"]
        meta = now["metadata"]
        if now["kind"] == "ChatModelRevision":
            verdicts[meta["namespace"], meta["name"]] = now["status"].get("verdict", "none")
        if now["kind"] != "ChatModel":
            continue
        before, last[meta["uid"]] = last.get(meta["uid"], {}), now
        if WRITER not in event["requestURI"]:
            continue
        where = f"{meta['namespace']}/{meta['name']} at {meta['resourceVersion']}"
        wrong = next(([text] for rule in RULES if (text := rule(before, now))), [])
        if not wrong and conditions(now["status"])["Ready"]["status"] == "True":
            verdict = verdicts.get((meta["namespace"], now["status"]["serving"]["revision"]))
            wrong = [] if verdict == "Verified" else [f"Ready, and its revision is {verdict}"]
        yield from (f"{where}: {text}" for text in wrong)


def count(events: Iterable[Body]) -> int:
    """Return how many statuses of ChatModels the operator wrote."""
    return sum(
        e["responseObject"]["kind"] == "ChatModel" and WRITER in e["requestURI"]
        for e in written(events)
    )
