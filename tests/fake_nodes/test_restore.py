"""Objects of an old backup on a cluster that has moved on: what they ask for serves, no data goes.

Made anew, they have other uids; what their owners and statuses were depends on who restores.
"""

from collections.abc import Callable
from typing import Any

import pytest
from fake_nodes_story import serving_pods
from fake_volumes import lose, persistent
from kube import Body, Kube, wait_for
from oracles import find_complaints, find_misplaced

# In this order they come back: whose they are, last. Secrets are in no backup of ours.
KINDS = ("serviceaccounts", "services", "networkpolicies", "deployments", "chatmodelrevisions")
MODEL, CLAIM = "story", "story-models"
OF_THE_SERVER = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields")


def back_up(kube: Kube) -> list[Body]:
    """Return a ChatModel and what it owns, as a backup has them."""
    label = f"carepath.ai/chatmodel={MODEL}"
    items = [item for kind in KINDS for item in kube.get(kind, "-l", label)["items"]]
    return [*items, kube.get("chatmodel", MODEL)]


def restore(kube: Kube, backup: list[Body], *, owners: bool, statuses: bool) -> None:
    """Create the objects of a backup again."""
    for item in backup:
        gone = OF_THE_SERVER if owners else (*OF_THE_SERVER, "ownerReferences")
        meta = {key: value for key, value in item["metadata"].items() if key not in gone}
        spec = {k: v for k, v in item.get("spec", {}).items() if not k.startswith("clusterIP")}
        body = {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": meta}
        kube.apply(body | ({"spec": spec} if spec else {}))
        if statuses and item["kind"].startswith("ChatModel"):
            kube.apply_status(item["kind"], meta["name"], item["status"])


@pytest.mark.fault("U7")
@pytest.mark.parametrize(
    ("owners", "statuses"),
    [
        pytest.param(False, False, id="without owners and statuses"),
        pytest.param(True, False, id="with owners that are gone"),
        pytest.param(False, True, id="with statuses, and another claim"),
    ],
)
def test_what_an_old_backup_asks_for_serves_and_no_data_is_deleted(
    operator: Any, volumes: Callable[[], str], owners: bool, statuses: bool
) -> None:
    with operator() as run:
        kube: Kube = run.kube
        kube.apply(persistent(MODEL, volumes(), reclaimPolicy="Retain"))
        kube.wait_for_reason(MODEL, "Serving", 120)
        backup, served = back_up(kube), kube.get("chatmodel", MODEL)["status"]["serving"]
        kube.patch(MODEL, {"model": {"id": "demo/good-2"}})
        kube.wait_for_reason(MODEL, "Serving")
        kube.run("delete", "chatmodel", MODEL)
        wait_for(lambda: serving_pods(kube, MODEL) == [], "the garbage collector")
        wait_for(lambda: kube.get("chatmodelrevisions")["items"] == [], "the garbage collector")
        if statuses:  # which name a claim that is no more
            replace_claim(kube, volumes)
        claim = kube.get("pvc", CLAIM)["metadata"]["uid"]
        before = len(run.writes())
        restore(kube, backup, owners=owners, statuses=statuses)
        # A restored status says Serving by itself: what was staged where tells who has looked.
        wait_for(lambda: staged_on(kube) == [claim], "the weights on the claim there is", 90)
        kube.wait_for_reason(MODEL, "Serving")
        assert kube.get("chatmodel", MODEL)["status"]["serving"] == served
        assert kube.get("pvc", CLAIM)["metadata"]["uid"] == claim
        after = run.writes()[before:]
        assert [w for w in after if w["verb"] == "DELETE" and "claims" in w["path"]] == []
        uid = kube.get("chatmodel", MODEL)["metadata"]["uid"]
        for item in back_up(kube)[:-1]:
            (owner,) = item["metadata"]["ownerReferences"]
            assert owner["uid"] == uid
        assert find_misplaced(after, kube.namespace) == []
        assert find_complaints(run.log()) == []


def staged_on(kube: Kube) -> list[str]:
    """Return the claim that each revision says its weights are on."""
    items = kube.get("chatmodelrevisions")["items"]
    return [r.get("status", {}).get("staged", {}).get("claimUID", "") for r in items]


def replace_claim(kube: Kube, volumes: Callable[[], str]) -> None:
    """Have the claim on another, empty volume."""
    old = kube.get("pvc", CLAIM)
    kube.run("delete", "pvc", CLAIM)
    lose(kube, old["spec"]["volumeName"])
    volumes()
    meta = {key: old["metadata"][key] for key in ("name", "labels")}
    spec = {key: value for key, value in old["spec"].items() if key != "volumeName"}
    kube.apply({"apiVersion": "v1", "kind": old["kind"], "metadata": meta, "spec": spec})
    wait_for(lambda: kube.get("pvc", CLAIM)["status"].get("phase") == "Bound", "the new claim")
