"""What the operator leaves of one ChatModel, as texts the floor writes for any other.

Taken from a live ChatModel: the fields the operator owns by the API server's own book
(`managedFields`), so that the floor writes the same objects, whatever the operator's version.
"""

import json
from typing import Any

import api

MANAGER = "chatmodel-operator"
NAME, NAMESPACE, UID = "samplemodel", "samplespace", "00000000-sample-uid"
KINDS = (
    "ChatModelRevision",
    "ServiceAccount",
    "Secret",
    "Service",
    "NetworkPolicy",
    "Deployment",
)
LABEL = "carepath.ai/chatmodel"


async def take(client: api.Api, chatmodel: api.Body) -> dict[str, Any]:
    """Return texts by kind, and the ChatModel's status, of a ChatModel that serves."""
    meta = chatmodel["metadata"]
    texts: dict[str, str] = {}
    for kind in KINDS:
        path, mine = api.path_of(kind, meta["namespace"]), f"{LABEL}={meta['name']}"
        found = (await client.request("GET", path, labelSelector=mine))["items"]
        if len(found) != 1:
            raise api.Refused(f"the sample has {len(found)} of kind {kind}")
        texts[kind] = json.dumps(_manifest(kind, found[0]))
        if kind == "ChatModelRevision":
            texts["revision"] = found[0]["metadata"]["name"]
            texts["revision status"] = json.dumps({"status": found[0]["status"]})
    texts["status"] = json.dumps({"status": chatmodel["status"]})
    return {
        key: text.replace(meta["uid"], UID).replace(meta["namespace"], NAMESPACE)
        for key, text in texts.items()
    }


def fill_in(text: str, chatmodel: api.Body) -> str:
    """Return a text of the sample for another ChatModel."""
    meta = chatmodel["metadata"]
    text = text.replace(NAME, meta["name"]).replace(NAMESPACE, meta["namespace"])
    return text.replace(UID, meta["uid"])


def _manifest(kind: str, live: api.Body) -> api.Body:
    """Return the part of a live object that the operator wrote, without its status."""
    owned: api.Body = {}
    for entry in live["metadata"]["managedFields"]:
        if entry["manager"] == MANAGER and not entry.get("subresource"):
            _merge(owned, _extract(live, entry["fieldsV1"]))
    identity = {key: live["metadata"][key] for key in ("name", "namespace")}
    owned["metadata"] = owned.get("metadata", {}) | identity
    return {"apiVersion": api.API_VERSIONS[kind], "kind": kind, **owned}


def _merge(into: api.Body, part: api.Body) -> None:
    for key, value in part.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _extract(live: Any, fields: api.Body) -> Any:
    """Return the part of `live` that a set of fields (FieldsV1) names."""
    names = [key for key in fields if key != "."]
    if not names:
        return live
    if names[0].startswith("k:"):
        keys = [(json.loads(name[2:]), fields[name]) for name in names]
        return [
            _extract(item, inner)
            for item in live
            for key, inner in keys
            if all(item.get(k) == v for k, v in key.items())
        ]
    if names[0].startswith("v:"):
        return [json.loads(name[2:]) for name in names]
    return {name[2:]: _extract(live[name[2:]], fields[name]) for name in names}
