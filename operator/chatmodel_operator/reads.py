"""The objects a pass is decided on: from the cache, or read live when it is not to be trusted.

Used by `cluster`. Every live read goes into the cache as well. Never takes an answer without
items for an empty list.
"""

import asyncio
import dataclasses
import time
from collections.abc import Iterable, Mapping
from typing import Any

from chatmodel_operator import cache, cputime, errors, names
from chatmodel_operator.api_client import JSON, ApiClient, Body, path_of, place_of

PAGE = "500"
CHATMODEL, CLASS = "ChatModel", "InstanceClass"


@dataclasses.dataclass(frozen=True)
class Found:
    """A ChatModel, what bears its label by kind, and all InstanceClasses."""

    chatmodel: cache.Object
    children: Mapping[str, list[cache.Object]]
    classes: list[cache.Object]


class Reads:
    """Reads of what is watched, and what keeps them fresh."""

    def __init__(self, client: ApiClient, children: Iterable[str]) -> None:
        self._client = client
        self._children = tuple(children)
        self.cache = cache.Cache((CHATMODEL, CLASS, *self._children))

    async def read(self, namespace: str, name: str, *, live: bool = False) -> Found | None:
        """Return a ChatModel's objects, or None when it is gone."""
        key = (namespace, name)
        if live or not self.cache.is_trusted(key, time.monotonic()):
            with cputime.Waiting():
                return await self._read_live(key)
        chatmodel = self.cache.get(CHATMODEL, namespace, name)
        if chatmodel is None:
            return None
        children = {kind: self.cache.children(kind, key) for kind in self._children}
        return Found(chatmodel, children, self.cache.all_of(CLASS))

    async def resync(self, namespaces: Iterable[str | None]) -> set[cache.Key]:
        """List every kind once; return the ChatModels there are, and those that had changed.

        Heals what a watch has missed: an object deleted in a gap has no event.
        """
        changed: set[cache.Key] = set()
        scopes: list[tuple[str, str | None]] = [(CLASS, None)]
        scopes += [(kind, n) for n in namespaces for kind in (CHATMODEL, *self._children)]
        for kind, namespace in scopes:
            items, version = await self._list(kind, namespace)
            changed |= self.cache.replace(kind, namespace, items, version)
        return changed | set(self.cache.keys())

    def take_answer(self, path: str, sent: Body | None, answer: dict[str, Any] | None) -> None:
        """Take the answer to a write of ours, None for a 409: the next pass sees what it did."""
        place = place_of(path)
        if place is None or place.kind not in self.cache.kinds:
            return
        if answer is None:
            meta = {"namespace": place.namespace, "name": place.name}
            meta |= (sent or {}).get("metadata") or {}
            if (owner := cache.owner_of(place.kind, {"metadata": meta})) is not None:
                self.cache.doubt(owner)
        elif answer.get("kind") == place.kind:
            self.cache.put_own(place.kind, answer, time.monotonic())
        elif answer.get("kind") == "Status" and place.name is not None:
            uid = (answer.get("details") or {}).get("uid", "")
            self.cache.bury((place.kind, place.namespace or "", place.name), uid)

    async def _read_live(self, key: cache.Key) -> Found | None:
        namespace, name = key
        known = self.cache.get(CHATMODEL, namespace, name)
        chatmodel = await self._get(namespace, name)
        if chatmodel is None:
            if known is not None:
                ref = (CHATMODEL, namespace, name)
                self.cache.bury(ref, known["metadata"]["uid"])
            self.cache.trust(key)
            return None
        self.cache.put(CHATMODEL, chatmodel, is_live=True)
        selector = f"{names.LABEL_CHATMODEL}={name}"
        (classes, _), *lists = await asyncio.gather(
            self._list(CLASS, None),
            *(self._list(kind, namespace, selector) for kind in self._children),
        )
        children = {}
        for kind, (items, version) in zip(self._children, lists, strict=True):
            children[kind] = items
            self.cache.replace_children(kind, key, items, version)
        self.cache.trust(key)
        return Found(chatmodel, children, classes)

    async def _get(self, namespace: str, name: str) -> cache.Object | None:
        try:
            return await self._client.request("GET", path_of(CHATMODEL, namespace, name))
        except errors.Rejected as error:
            if error.reason != "NotFound":
                raise
            return None

    async def _list(
        self, kind: str, namespace: str | None, selector: str = ""
    ) -> tuple[list[cache.Object], int]:
        """Return the objects of a kind, and the version of the listing."""
        path = path_of(kind, namespace)
        query = {"labelSelector": selector, "limit": PAGE}
        items: list[cache.Object] = []
        while True:
            body = await self._client.request("GET", path, None, JSON, **query)
            try:
                items += body["items"] or []
                meta = body["metadata"]
                version = int(meta["resourceVersion"])
            except (KeyError, TypeError, ValueError) as error:
                raise errors.Unavailable(f"GET {path}", "NoList", "not a list") from error
            if not meta.get("continue"):
                return items, version
            query["continue"] = meta["continue"]
