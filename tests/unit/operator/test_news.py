"""Which changes of an object are worth a pass: those that a pass can see."""

import copy
from typing import Any

import pytest

from chatmodel_operator import cache, names, reading

META: dict[str, Any] = {
    "name": "triage-1",
    "namespace": "clinic",
    "uid": "u",
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "labels": {names.LABEL_REVISION: "triage-1", names.LABEL_ROLE: "serve"},
}
POD: dict[str, Any] = {
    "metadata": META,
    "spec": {},
    "status": {"conditions": [{"type": "Ready", "status": "False"}]},
}
DEPLOYMENT: dict[str, Any] = {
    "metadata": META | {"generation": 1, "annotations": {}},
    "spec": {"replicas": 1, "template": {}},
    "status": {"replicas": 0},
}
QUOTA = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}


def changed(body: dict[str, Any], part: str, **fields: Any) -> cache.Stored:
    after = copy.deepcopy(body)
    after[part] |= fields
    return cache.Stored(after)


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        pytest.param("Pod", POD, changed(POD, "spec", nodeName="n"), id="a pod has a node"),
        pytest.param(
            "Pod", POD, changed(POD, "status", hostIP="10.0.0.1"), id="its node's address"
        ),
        pytest.param(
            "Deployment",
            DEPLOYMENT,
            changed(DEPLOYMENT, "status", replicas=1, readyReplicas=1, observedGeneration=1),
            id="a Deployment counts its pods",
        ),
    ],
)
def test_this_changes_nothing_for_a_pass(kind: str, before: Any, after: Any) -> None:
    assert not reading.is_news(kind, cache.Stored(before), after)


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        pytest.param("Pod", None, changed(POD, "spec"), id="a pod that is new"),
        pytest.param("Pod", POD, changed(POD, "metadata", uid="v"), id="another of the same name"),
        pytest.param("Pod", POD, changed(POD, "status", podIP="10.0.0.2"), id="a pod's address"),
        pytest.param(
            "Pod",
            POD,
            changed(POD, "status", conditions=[{"type": "Ready", "status": "True"}]),
            id="a pod is Ready",
        ),
        pytest.param(
            "Pod",
            POD,
            changed(POD, "metadata", deletionTimestamp="2026-01-01T00:00:00Z"),
            id="a pod is deleted",
        ),
        *(
            pytest.param(
                "Deployment", DEPLOYMENT, changed(DEPLOYMENT, part, **fields), id=f"its {name}"
            )
            for name, part, fields in (
                ("replicas", "spec", {"replicas": 2}),
                ("labels", "metadata", {"labels": {}}),
                ("annotations", "metadata", {"annotations": {names.ANNOTATION_NUMBER: "7"}}),
                ("owner", "metadata", {"ownerReferences": [{"uid": "other"}]}),
                ("end", "metadata", {"deletionTimestamp": "2026-01-01T00:00:00Z"}),
                ("refusal", "status", {"conditions": [QUOTA]}),
            )
        ),
        pytest.param("Service", DEPLOYMENT, changed(DEPLOYMENT, "status"), id="any other kind"),
    ],
)
def test_this_is_looked_at(kind: str, before: Any, after: Any) -> None:
    known = cache.Stored(before) if before is not None else None
    assert reading.is_news(kind, known, after)
