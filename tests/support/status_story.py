"""A true story of statuses as an audit log has it, for the tests of `recorded` and `audit`."""

from typing import Any

import recorded

Body = dict[str, Any]
AT, LATER = "2026-01-02T03:04:05Z", "2026-01-02T03:04:15Z"
WRITER = f"/apis/x?{recorded.WRITER}&force=true"


def condition(kind: str, status: str, reason: str, at: str = AT) -> Body:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "observedGeneration": 1,
        "lastTransitionTime": at,
    }


def event(version: int, kind: str, name: str, status: Body, uri: str = WRITER) -> Body:
    meta = {"namespace": "ns", "name": name, "uid": name, "generation": 1}
    body = {"kind": kind, "metadata": meta | {"resourceVersion": str(version)}, "status": status}
    return {
        "requestURI": uri,
        "objectRef": {"subresource": "status"},
        "responseStatus": {"code": 200},
        "responseObject": body,
    }


def story() -> list[Body]:
    """A revision is verified and Ready is told; another fails, and that is told."""
    bodies: list[Body] = []
    first, second = {"revision": "a-1"}, {"revision": "a-2"}
    for serving, target, ready, reason, more in (
        (None, first, "False", "Starting", []),
        (first, first, "True", "Serving", []),
        (first, second, "False", "RolledBack", ["Degraded", "Stalled"]),
    ):
        available = "True" if serving else "False"
        status: Body = {"observedGeneration": 1, "target": target}
        status |= {"serving": serving} if serving else {}
        status |= {"lastFailure": {"time": LATER, "message": "why"}} if more else {}
        status["conditions"] = [
            condition("Ready", ready, reason, AT if reason == "Starting" else LATER),
            condition("Available", available, "Serving", LATER if serving else AT),
            condition("Progressing", "False", reason),
            *(condition(kind, "True", reason, LATER) for kind in more),
        ]
        bodies.append(status)
    return [
        event(1, "ChatModel", "a", bodies[0]),
        event(2, "ChatModelRevision", "a-1", {"verdict": "Verified"}),
        event(3, "ChatModel", "a", bodies[1]),
        event(4, "ChatModel", "a", bodies[2]),
    ]
