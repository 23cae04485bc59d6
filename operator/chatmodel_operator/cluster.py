"""The only I/O to the API server: observe, create, apply, record, delete, status, events.

Called by `reconcile` and `questions`. Decides nothing but whether a write would change anything.
"""

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from chatmodel_operator import comparing, errors, names, observed, reading, reads, troubles
from chatmodel_operator.api.fields import GROUP, VERSION
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.api_client import (
    APPLY,
    JSON,
    MERGE,
    ApiClient,
    Connection,
    OnAnswer,
    path_of,
)

Manifest = dict[str, Any]
LISTED = ("ChatModelRevision", "Deployment", "Pod", "Job")
NAMED = ("Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy")
CLAIM_KIND = "PersistentVolumeClaim"
OUR_PLURALS = frozenset({"chatmodels", "chatmodelrevisions", "instanceclasses"})
MANAGER = {"fieldManager": names.FIELD_MANAGER}


class Cluster:
    """The API server, as far as this operator needs it."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        *,
        on_answer: OnAnswer = lambda *_: None,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self._client = ApiClient(
            connect, self._take_answer, on_answer=on_answer, may_write=may_write
        )
        self.reads = reads.Reads(self._client, (*LISTED, *NAMED, CLAIM_KIND))
        self._troubles = troubles.Troubles(self._client)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def now(self) -> datetime.datetime:
        """Return the API server's time."""
        return self._client.now()

    async def observe(
        self, namespace: str, name: str, *, live: bool = False
    ) -> observed.Observed | None:
        """Return one picture of a ChatModel and its children; None when it is gone.

        It comes from the cache, or is read live when that is asked for or the cache is behind.
        """
        found = await self.reads.read(namespace, name, live=live)
        if found is None:
            return None
        chatmodel = reading.read_chatmodel(found.chatmodel)
        # Pods belong to ReplicaSets and Jobs: their labels, which only we give, have to do.
        children = {
            (kind, item["metadata"]["name"]): item
            for kind, items in found.children.items()
            for item in items
            if kind != "Pod" and _is_ours(item, chatmodel)
        }
        claim = children.get((CLAIM_KIND, names.models_claim(name)))
        pods = found.children["Pod"]
        held_up = await self._troubles.find(claim, pods)
        return reading.read_picture(chatmodel, children, pods, found.classes, held_up)

    def forget(self, namespace: str, name: str) -> None:
        """Have the next picture of a ChatModel read live."""
        self.reads.cache.doubt((namespace, name))

    async def create(self, manifest: Manifest) -> bool:
        """Create an object; return False when its name is taken already."""
        path = path_of(manifest["kind"], manifest["metadata"]["namespace"])
        body = comparing.without_nulls(manifest)
        try:
            if manifest["kind"] == "ChatModelRevision":
                await self._write_whole("POST", path, body, JSON)
            else:
                await self._client.request("POST", path, body, JSON, **MANAGER)
        except errors.Conflict as error:
            if error.reason != "AlreadyExists":
                raise
            return False
        return True

    async def apply(
        self, manifest: Manifest, live: Mapping[str, Any] | None, *, guarded: bool = False
    ) -> bool:
        """Apply a manifest when it differs from the live object; return whether it was written.

        What is new is created, what differs is merged: that costs the API server less than a
        server-side apply, which is left for lists that others may have put something in.
        `guarded` carries uid and resourceVersion of the live object, so that an operator that was
        stopped and resumed can do no harm: the server answers 409 when the object has moved.
        Raises `Rejected` with reason NameConflict when somebody else's object has the name.
        """
        if live is not None and comparing.is_applied(manifest, live):
            return False
        if live is None:
            await self._apply_new(manifest)
            return True
        same = {key: live["metadata"][key] for key in ("uid", "resourceVersion") if guarded}
        change = comparing.build_change(manifest, live)
        if change is None:
            await self._send(manifest | {"metadata": manifest["metadata"] | same})
            return True
        meta = manifest["metadata"]
        path = path_of(manifest["kind"], meta["namespace"], meta["name"])
        body = change | {"metadata": change.get("metadata", {}) | same}
        try:
            await self._client.request("PATCH", path, body, MERGE, **MANAGER)
        except errors.Rejected as error:
            if error.reason != "NotFound":
                raise
            raise errors.Conflict(error.what, error.reason, error.message) from error
        return True

    async def _apply_new(self, manifest: Manifest) -> None:
        """Create what is not there; what has the name already is looked at before it is touched."""
        if not await self.create(manifest):
            await self._refuse_foreign(manifest)
            await self._send(manifest)

    async def _send(self, manifest: Manifest) -> None:
        meta = manifest["metadata"]
        path = path_of(manifest["kind"], meta["namespace"], meta["name"])
        body = comparing.without_nulls(manifest)
        await self._client.request("PATCH", path, body, APPLY, **MANAGER, force="true")

    async def record(
        self, namespace: str, revision: observed.Revision, part: str, body: Manifest
    ) -> None:
        """Merge `body` into a revision's spec or status, if the revision has not moved since.

        Raises `Rejected` with reason SchemaMismatch when the CRD has no such field.
        """
        subresource = "status" if part == "status" else ""
        path = path_of("ChatModelRevision", namespace, revision.name, subresource)
        meta = {"uid": revision.uid, "resourceVersion": revision.resource_version}
        await self._write_whole("PATCH", path, {"metadata": meta, part: body}, MERGE)

    async def note(self, namespace: str, revision: observed.Revision, status: Manifest) -> None:
        """Merge the answer to a side question into a revision's status, at any version."""
        path = path_of("ChatModelRevision", namespace, revision.name, "status")
        body = {"metadata": {"uid": revision.uid}, "status": status}
        await self._write_whole("PATCH", path, body, MERGE)

    async def delete(
        self, kind: str, namespace: str, name: str, uid: str, *, grace: int | None = None
    ) -> None:
        """Delete exactly this object, its dependents with it; that it is gone already is fine.

        `grace` is the seconds a pod has to end; of a pod that is ending it shortens them.
        """
        options: Manifest = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        } | ({"gracePeriodSeconds": grace} if grace is not None else {})
        try:
            await self._client.request("DELETE", path_of(kind, namespace, name), options)
        except errors.Rejected as error:
            if error.reason != "NotFound":
                raise

    async def patch_status(self, chatmodel: observed.ChatModel, status: Manifest) -> bool:
        """Write the ChatModel's status whole when it differs; return whether it was written.

        Only over what was seen: a write that was held up on its way, and made again meanwhile, must
        not bring an old status back. Raises `Conflict` when the ChatModel has moved.
        """
        before = chatmodel.raw.get("status") or {}
        if before == status:
            return False
        version = chatmodel.raw["metadata"]["resourceVersion"]
        seen = {"uid": chatmodel.uid, "resourceVersion": version}
        body = {"metadata": seen, "status": comparing.build_merge(before, status)}
        path = path_of("ChatModel", chatmodel.namespace, chatmodel.name, "status")
        await self._client.request("PATCH", path, body, MERGE, **MANAGER)
        return True

    async def post_event(self, event: Manifest) -> None:
        """Post an event."""
        await self._client.request("POST", path_of("Event", event["metadata"]["namespace"]), event)

    async def is_served(self) -> bool:
        """Say whether the API server knows our kinds."""
        try:
            body = await self._client.request("GET", f"/apis/{GROUP}/{VERSION}")
        except errors.Rejected:
            return False
        return OUR_PLURALS <= {item["name"] for item in body.get("resources") or []}

    async def _write_whole(self, method: str, path: str, body: Manifest, kind: str) -> None:
        """Write to a revision, or have the server say what of it its CRD does not know.

        An older CRD would drop that without a word, and passes would write it for ever.
        """
        try:
            await self._client.request(
                method, path, body, kind, **MANAGER, fieldValidation="Strict"
            )
        except errors.Rejected as error:
            words = error.message.partition("strict decoding error: ")[2].strip()
            if error.message.startswith("404 page not found"):
                words = "the API server has no such kind"
            if not words:
                raise
            raise errors.Rejected(error.what, Reason.SchemaMismatch, words) from error

    def _take_answer(self, *answer: Any) -> None:
        self.reads.take_answer(*answer)

    async def _refuse_foreign(self, manifest: Manifest) -> None:
        kind, wanted_meta = manifest["kind"], manifest["metadata"]
        namespace, name = wanted_meta["namespace"], wanted_meta["name"]
        there = await self._find(kind, namespace, name)
        if there is None:
            return
        what, meta = f"{kind} {namespace}/{name}", there["metadata"]
        owners = meta.get("ownerReferences") or []
        uids = {owner["uid"] for owner in wanted_meta["ownerReferences"]}
        if any(owner.get("controller") and owner["uid"] in uids for owner in owners):
            return
        wanted = wanted_meta["labels"][names.LABEL_CHATMODEL]
        has_label = (meta.get("labels") or {}).get(names.LABEL_CHATMODEL) == wanted
        if has_label and (owners or "deletionTimestamp" in meta):
            text = "is left from an earlier ChatModel of that name"
            raise errors.Rejected(what, Reason.WaitingForCleanup, text)
        if not has_label:
            raise errors.Rejected(what, Reason.NameConflict, "exists and is not ours")
        # Ours and nobody's: an orphan is adopted.

    async def _find(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """Return an object by listing it: a right that watching needs anyway."""
        selector = f"metadata.name={name}"
        body = await self._client.request("GET", path_of(kind, namespace), fieldSelector=selector)
        items = body.get("items") or []
        return dict(items[0]) if items else None


def _is_controlled(item: Mapping[str, Any], uid: str) -> bool:
    owners = item["metadata"].get("ownerReferences") or []
    return any(owner.get("controller") and owner["uid"] == uid for owner in owners)


def _is_ours(item: Mapping[str, Any], chatmodel: observed.ChatModel) -> bool:
    """Say whether an object is this ChatModel's, or has its label and no owner at all."""
    if _is_controlled(item, chatmodel.uid):
        return True
    meta = item["metadata"]
    label = (meta.get("labels") or {}).get(names.LABEL_CHATMODEL)
    return label == chatmodel.name and not meta.get("ownerReferences")
