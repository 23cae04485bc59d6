"""The rare things the operator has rights for, each done once: see tests/support/audit.py."""

from typing import Any

from fake_nodes_story import good, start_good
from kube import Kube, wait_for


def names(kube: Kube, kind: str) -> list[str]:
    return [item["metadata"]["name"] for item in kube.get(kind)["items"]]


def test_a_claim_is_made_asked_about_and_given_up(operator: Any) -> None:
    with operator() as run:
        kube: Kube = run.kube
        cache = {"strategy": "Persistent", "size": "1Gi", "storageClassName": "not-there"}
        kube.apply(good("kept", cache=cache))
        ready = kube.wait_for_reason("kept", "StorageClassMissing", 120)
        assert "not-there" in ready["message"]
        assert names(kube, "pvc") == ["kept-models"]
        kube.patch("kept", {"cache": {"size": "2Gi"}})
        nothing = {"size": None, "storageClassName": None}
        kube.patch("kept", {"mode": "mock", "cache": {"strategy": "Ephemeral", **nothing}})
        kube.wait_for_reason("kept", "Serving")
        wait_for(lambda: not names(kube, "pvc"), "the claim to go")


def test_a_budget_comes_and_goes_with_the_second_replica(operator: Any) -> None:
    with operator() as run:
        kube: Kube = run.kube
        start_good(kube, "pair")
        kube.patch("pair", {"replicas": 2})
        wait_for(lambda: names(kube, "pdb") == ["pair"], "the disruption budget")
        kube.patch("pair", {"replicas": 1})
        wait_for(lambda: not names(kube, "pdb"), "the budget to go")


def test_revisions_beyond_the_history_limit_go(operator: Any) -> None:
    with operator() as run:
        kube: Kube = run.kube
        kube.apply(good("long", mode="mock", rollout={"bakeSeconds": 0, "historyLimit": 1}))
        kube.wait_for_reason("long", "Serving")
        for token in ("a", "b", "c"):
            before = names(kube, "chmr")
            kube.patch("long", {"rollout": {"restartToken": token}})
            wait_for(lambda old=before: serves_another(kube, "long", old), f"revision {token}")
        wait_for(lambda: len(names(kube, "chmr")) == 3, "the oldest revision to go")
        assert set(names(kube, "deployments")) == set(names(kube, "chmr"))


def serves_another(kube: Kube, name: str, old: list[str]) -> bool:
    serving = kube.get("chatmodel", name)["status"]["serving"]["revision"]
    return serving not in old and kube.ready(name).get("reason") == "Serving"
