"""What the events of a pod that hangs on its node say, whichever way their times are written."""

from typing import Any

import pytest

from chatmodel_operator import troubles

Body = dict[str, Any]
UID = "u-1"
POD: Body = {
    "metadata": {
        "name": "story-1",
        "namespace": "team",
        "uid": UID,
        "creationTimestamp": "2026-01-01T12:00:00Z",
        "labels": {},
    },
    "status": {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True"}],
    },
}
CLAIM: Body = {"metadata": {"uid": "c-1"}, "status": {"phase": "Bound"}}


class Server:
    """An API server that has events, and counts how often it is asked."""

    def __init__(self, *events: Body, second: int = 30) -> None:
        self.events, self.second, self.asked = events, second, 0

    def now(self) -> Any:
        return troubles.observed.parse_time(f"2026-01-01T12:00:{self.second:02}Z")

    async def request(self, *_: str, **__: str) -> Body:
        self.asked += 1
        return {"items": list(self.events)}


def event(reason: str, uid: str = UID, **times: Any) -> Body:
    meta = {"creationTimestamp": "2026-01-01T12:00:00Z"}
    return {"metadata": meta, "regarding": {"uid": uid}, "reason": reason, "note": reason} | times


def at(second: str) -> str:
    return f"2026-01-01T12:00:{second}Z"


FAILED = event("FailedAttachVolume", deprecatedLastTimestamp=at("05"))


@pytest.mark.parametrize(
    ("events", "told"),
    [
        pytest.param([], "", id="none"),
        pytest.param([FAILED], "FailedAttachVolume", id="it fails"),
        pytest.param(
            [FAILED, event("Scheduled", eventTime=at("05.700000"))],
            "FailedAttachVolume",
            id="within the second of another",
        ),
        pytest.param(
            [FAILED, event("SuccessfulAttachVolume", deprecatedLastTimestamp=at("09"))],
            "",
            id="it is attached by now",
        ),
        pytest.param(
            [
                event("Pulling", deprecatedLastTimestamp=at("07")),
                event("FailedMount", eventTime=at("01.0"), series={"lastObservedTime": at("08.0")}),
            ],
            "FailedMount",
            id="said again and again",
        ),
        pytest.param([event("FailedMount", uid="u-0")], "", id="of an earlier pod of that name"),
    ],
)
async def test_the_last_that_is_said_of_a_pod_counts(events: list[Body], told: str) -> None:
    server = Server(*events)
    found = await troubles.Troubles(server).find(CLAIM, [POD])  # type: ignore[arg-type]
    assert found == {UID: told}


async def test_events_are_read_after_ten_seconds_and_once_a_minute() -> None:
    server = Server(FAILED, second=9)
    asking = troubles.Troubles(server)  # type: ignore[arg-type]
    assert await asking.find(CLAIM, [POD]) == {UID: ""}
    assert server.asked == 0
    for server.second in (10, 40, 59):
        assert await asking.find(CLAIM, [POD]) == {UID: "FailedAttachVolume"}
    assert server.asked == 1


async def test_without_a_claim_nobody_is_asked() -> None:
    server = Server(FAILED)
    assert await troubles.Troubles(server).find(None, [POD]) == {}  # type: ignore[arg-type]
    assert server.asked == 0
