"""What holds up a claim, or a pod that has a node: of volumes only events tell.

Used by `cluster`. The events of one object are read at most once a minute.
"""

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from chatmodel_operator import observed, reading
from chatmodel_operator.api_client import ApiClient, path_of

Object = Mapping[str, Any]
# What is pending this long has its events read.
PENDING_SECONDS, EVENTS_SECONDS = 10.0, 60.0
OF_VOLUMES = frozenset({"FailedAttachVolume", "FailedMount"})


class Troubles:
    """What was read, and when."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._seen: dict[str, tuple[datetime.datetime, str]] = {}

    async def find(self, claim: Object | None, pods: Iterable[Object]) -> dict[str, str]:
        """Return by uid what holds up a ChatModel's claim, and the pods that mount it."""
        if claim is None:
            return {}
        waiting = [claim] if (claim.get("status") or {}).get("phase") == "Pending" else []
        waiting += [pod for pod in pods if reading.read_pod(pod).is_held_up]
        return {item["metadata"]["uid"]: await self._of(item, item is claim) for item in waiting}

    async def _of(self, item: Object, is_claim: bool) -> str:
        meta, now = item["metadata"], self._client.now()
        created = observed.parse_time(meta["creationTimestamp"])
        assert created is not None
        if (now - created).total_seconds() < PENDING_SECONDS:
            return ""
        self._seen = {uid: seen for uid, seen in self._seen.items() if _is_fresh(seen[0], now)}
        if (seen := self._seen.get(meta["uid"])) is not None:
            return seen[1]
        path, name = path_of("Event", meta["namespace"]), f"regarding.name={meta['name']}"
        body = await self._client.request("GET", path, fieldSelector=name)
        mine = [e for e in body.get("items") or [] if e["regarding"].get("uid") == meta["uid"]]
        text = _of_claim(mine) if is_claim else _of_pod(mine)
        self._seen[meta["uid"]] = (now, text)
        return text


def _is_fresh(read: datetime.datetime, now: datetime.datetime) -> bool:
    return (now - read).total_seconds() < EVENTS_SECONDS


def _of_claim(events: list[dict[str, Any]]) -> str:
    warnings = [event for event in events if event.get("type") == "Warning"]
    return str(warnings[-1].get("note", "")) if warnings else ""


def _of_pod(events: list[dict[str, Any]]) -> str:
    """Return what is said of volumes, unless something else was said after it."""
    last = max(events, key=_order_of, default=None)
    is_told = last is not None and last.get("reason") in OF_VOLUMES
    return str(last.get("note", "")) if last is not None and is_told else ""


def _order_of(event: Object) -> tuple[datetime.datetime, bool]:
    """Return the second of an event: some have no finer time, and a trouble is not to be missed."""
    series = event.get("series") or {}
    text = series.get("lastObservedTime") or event.get("deprecatedLastTimestamp")
    text = text or event.get("eventTime") or event["metadata"]["creationTimestamp"]
    moment = observed.parse_time(text)
    assert moment is not None
    return moment.replace(microsecond=0), event.get("reason") in OF_VOLUMES
