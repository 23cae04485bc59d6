"""The only I/O to the API server: observe, create, apply, record, delete, status, events.

Called by `reconcile` and `questions`. Decides nothing but whether a write would change anything.
"""

import asyncio
import datetime
import decimal
import re
from collections.abc import Callable, Mapping
from typing import Any

from chatmodel_operator import errors, names, observed
from chatmodel_operator.api import chatmodel as chatmodel_api
from chatmodel_operator.api.fields import GROUP, VERSION
from chatmodel_operator.api.instanceclass import DEFAULT_ANNOTATION, InstanceClassSpec
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.api_client import APPLY, JSON, MERGE, ApiClient, Connection, path_of

Manifest = dict[str, Any]
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|Ki|M|Mi|G|Gi|T|Ti|)")
_UNITS = {"m": decimal.Decimal("0.001"), "": decimal.Decimal(1)}
for _power, _unit in enumerate("kMGT", start=1):
    _UNITS[_unit] = decimal.Decimal(1000**_power)
    _UNITS[f"{_unit.upper()}i"] = decimal.Decimal(1024**_power)
LISTED = ("ChatModelRevision", "Deployment", "Pod", "Job")
NAMED = ("Service", "ServiceAccount")


class Cluster:
    """The API server, as far as this operator needs it."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._client = ApiClient(connect)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def now(self) -> datetime.datetime:
        """Return the API server's time."""
        return self._client.now()

    async def observe(self, namespace: str, name: str) -> observed.Observed | None:
        """Return one picture of a ChatModel and its children, read live; None when it is gone."""
        raw = await self._get("ChatModel", namespace, name)
        if raw is None:
            return None
        chatmodel = observed.read_chatmodel(raw)
        selector = f"{names.LABEL_CHATMODEL}={name}"
        lists, singles, classes = await asyncio.gather(
            asyncio.gather(*(self._list(kind, namespace, selector) for kind in LISTED)),
            asyncio.gather(*(self._get(kind, namespace, name) for kind in NAMED)),
            self._list("InstanceClass", None, ""),
        )
        found = dict(zip(LISTED, lists, strict=True))
        # Pods belong to ReplicaSets and Jobs: their labels, which only we give, have to do.
        live = {
            (kind, item["metadata"]["name"]): item
            for kind in LISTED
            for item in found[kind]
            if kind != "Pod" and _is_controlled(item, chatmodel.uid)
        }
        for kind, item in zip(NAMED, singles, strict=True):
            if item is not None and _is_controlled(item, chatmodel.uid):
                live[kind, name] = item
        return _picture(chatmodel, live, found["Pod"], classes)

    async def create(self, manifest: Manifest) -> bool:
        """Create an object; return False when its name is taken already."""
        meta = manifest["metadata"]
        path = path_of(manifest["kind"], meta["namespace"])
        try:
            await self._client.request(
                "POST", path, manifest, JSON, fieldManager=names.FIELD_MANAGER
            )
        except errors.Conflict as error:
            if error.reason != "AlreadyExists":
                raise
            return False
        return True

    async def apply(
        self, manifest: Manifest, live: Mapping[str, Any] | None, *, guarded: bool = False
    ) -> bool:
        """Apply a manifest when it differs from the live object; return whether it was written.

        `guarded` carries uid and resourceVersion of the live object, so that an operator that was
        stopped and resumed can do no harm: the server answers 409 when the object has moved.
        Raises `Rejected` with reason NameConflict when somebody else's object has the name.
        """
        # The items of a list do not say of what kind they are.
        body = {key: manifest[key] for key in manifest if key not in ("apiVersion", "kind")}
        if live is not None and is_part_of(body, live):
            return False
        meta = manifest["metadata"]
        kind, namespace, name = manifest["kind"], meta["namespace"], meta["name"]
        if live is None:
            await self._refuse_foreign(kind, namespace, name, manifest)
        elif guarded:
            same = {key: live["metadata"][key] for key in ("uid", "resourceVersion")}
            manifest = manifest | {"metadata": meta | same}
        path = path_of(kind, namespace, name)
        await self._client.request(
            "PATCH", path, manifest, APPLY, fieldManager=names.FIELD_MANAGER, force="true"
        )
        return True

    async def record(
        self, namespace: str, revision: observed.Revision, part: str, body: Manifest
    ) -> None:
        """Merge `body` into a revision's spec or status, if the revision has not moved since."""
        subresource = "status" if part == "status" else ""
        path = path_of("ChatModelRevision", namespace, revision.name, subresource)
        meta = {"uid": revision.uid, "resourceVersion": revision.resource_version}
        await self._client.request(
            "PATCH", path, {"metadata": meta, part: body}, MERGE, fieldManager=names.FIELD_MANAGER
        )

    async def note(self, namespace: str, revision: observed.Revision, status: Manifest) -> None:
        """Merge the answer to a side question into a revision's status, at any version."""
        path = path_of("ChatModelRevision", namespace, revision.name, "status")
        body = {"metadata": {"uid": revision.uid}, "status": status}
        await self._client.request("PATCH", path, body, MERGE, fieldManager=names.FIELD_MANAGER)

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        """Delete exactly this object, its dependents with it; that it is gone already is fine."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        try:
            await self._client.request("DELETE", path_of(kind, namespace, name), options)
        except errors.Rejected as error:
            if error.reason != "NotFound":
                raise

    async def patch_status(self, chatmodel: observed.ChatModel, status: Manifest) -> bool:
        """Write the ChatModel's status whole when it differs; return whether it was written."""
        if (chatmodel.raw.get("status") or {}) == status:
            return False
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": chatmodel_api.KIND,
            "metadata": {"name": chatmodel.name, "uid": chatmodel.uid},
            "status": status,
        }
        path = path_of("ChatModel", chatmodel.namespace, chatmodel.name, "status")
        await self._client.request(
            "PATCH", path, body, APPLY, fieldManager=names.FIELD_MANAGER, force="true"
        )
        return True

    async def post_event(self, event: Manifest) -> None:
        """Post an event."""
        await self._client.request("POST", path_of("Event", event["metadata"]["namespace"]), event)

    async def list_keys(self, namespaces: list[str | None]) -> list[tuple[str, str]]:
        """Return (namespace, name) of every ChatModel; None in `namespaces` means all of them."""
        lists = await asyncio.gather(*(self._list("ChatModel", n, "") for n in namespaces))
        return [
            (item["metadata"]["namespace"], item["metadata"]["name"])
            for part in lists
            for item in part
        ]

    async def _refuse_foreign(
        self, kind: str, namespace: str, name: str, manifest: Manifest
    ) -> None:
        there = await self._get(kind, namespace, name)
        uid = manifest["metadata"]["ownerReferences"][0]["uid"]
        if there is not None and not _is_controlled(there, uid):
            what = f"{kind} {namespace}/{name}"
            raise errors.Rejected(what, Reason.NameConflict, "exists and is not ours")

    async def _get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        try:
            return await self._client.request("GET", path_of(kind, namespace, name))
        except errors.Rejected as error:
            if error.reason != "NotFound":
                raise
            return None

    async def _list(self, kind: str, namespace: str | None, selector: str) -> list[Manifest]:
        path = path_of(kind, namespace)
        body = await self._client.request("GET", path, labelSelector=selector)
        return list(body.get("items") or [])


def _is_controlled(item: Mapping[str, Any], uid: str) -> bool:
    owners = item["metadata"].get("ownerReferences") or []
    return any(owner.get("controller") and owner["uid"] == uid for owner in owners)


def _picture(
    chatmodel: observed.ChatModel,
    live: dict[tuple[str, str], Manifest],
    pods: list[Manifest],
    classes: list[Manifest],
) -> observed.Observed:
    def of(kind: str) -> dict[str, Manifest]:
        return {name: item for (k, name), item in live.items() if k == kind}

    revisions = [observed.read_revision(item) for item in of("ChatModelRevision").values()]
    service = live.get(("Service", chatmodel.name), {"spec": {}})
    selected = (service["spec"].get("selector") or {}).get(names.LABEL_REVISION)
    chosen, problem = _choose_class(chatmodel, classes)
    return observed.Observed(
        chatmodel=chatmodel,
        instance_class=chosen,
        class_problem=problem,
        revisions=tuple(sorted((r for r in revisions if r is not None), key=lambda r: r.number)),
        deployments={n: observed.read_deployment(item) for n, item in of("Deployment").items()},
        pods=tuple(observed.read_pod(item) for item in pods),
        jobs={n: observed.read_job(item) for n, item in of("Job").items()},
        selected=None if selected == names.NO_REVISION else selected,
        live=live,
    )


def _choose_class(
    chatmodel: observed.ChatModel, classes: list[Manifest]
) -> tuple[InstanceClassSpec | None, str]:
    """Return the class a new revision gets, or why there is none."""
    wanted = chatmodel.spec.instance_class_name if chatmodel.spec is not None else None
    for item in classes:
        meta = item["metadata"]
        default = (meta.get("annotations") or {}).get(DEFAULT_ANNOTATION) == "true"
        if meta["name"] == wanted or (wanted is None and default):
            return InstanceClassSpec.model_validate(item["spec"]), ""
    known = ", ".join(sorted(item["metadata"]["name"] for item in classes)) or "none"
    if wanted is None:
        return None, f"no InstanceClass is annotated as default; there are: {known}"
    return None, f"there is no InstanceClass {wanted}; there are: {known}"


def is_part_of(wanted: Any, live: Any) -> bool:
    """Say whether everything in `wanted` is in `live` already; what the server added is ignored."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            key in live and is_part_of(value, live[key]) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(live, list)
            and len(wanted) == len(live)
            and all(is_part_of(a, b) for a, b in zip(wanted, live, strict=True))
        )
    return bool(wanted == live) or _is_same_quantity(wanted, live)


def _is_same_quantity(wanted: Any, live: Any) -> bool:
    """Say whether two texts are one quantity: the server writes 1024Mi as 1Gi, 1000m as 1."""
    if not (isinstance(wanted, str) and isinstance(live, str)):
        return False
    parsed = [_QUANTITY.fullmatch(text) for text in (wanted, live)]
    numbers = {decimal.Decimal(m[1]) * _UNITS[m[2]] for m in parsed if m is not None}
    return all(parsed) and len(numbers) == 1
