"""The operator may do what its code does, and nothing worth stealing."""

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from chatmodel_operator import names
from chatmodel_operator.api_client import PATHS

ROOT = pathlib.Path(__file__).parents[2]
CLUSTER_ROLE = "chatmodel-operator"
LEASES = ("coordination.k8s.io", "leases")
CORE, OURS, APPS, BATCH, EVENTS = "", "carepath.ai", "apps", "batch", "events.k8s.io"
WATCHED = {"list", "watch"}  # by kopf, in handlers.py
APPLIED = {"create", "patch"}  # applying what is not there creates it

# (group, resource) → verbs; every line is a request in cluster.py or a watch in handlers.py.
USED: dict[tuple[str, str], set[str]] = {
    (OURS, "chatmodels"): {"get"} | WATCHED,
    (OURS, "chatmodels/status"): {"patch"},
    (OURS, "chatmodelrevisions"): {"create", "patch", "delete"} | WATCHED,
    (OURS, "chatmodelrevisions/status"): {"patch"},
    (OURS, "instanceclasses"): WATCHED,
    (APPS, "deployments"): {"delete"} | APPLIED | WATCHED,
    (BATCH, "jobs"): {"create", "delete"} | WATCHED,
    (CORE, "pods"): WATCHED | {"delete"},  # one that was given up, with less grace
    (CORE, "services"): APPLIED | WATCHED,
    (CORE, "serviceaccounts"): APPLIED | WATCHED,
    (CORE, "secrets"): {"create"},
    (CORE, "persistentvolumeclaims"): {"delete"} | APPLIED | WATCHED,
    ("policy", "poddisruptionbudgets"): {"delete"} | APPLIED | WATCHED,
    ("networking.k8s.io", "networkpolicies"): APPLIED | WATCHED,
    (EVENTS, "events"): {"create", "list"},
}

# In the operator's own namespace, by leadership.py.
USED_AT_HOME = {LEASES: {"create", "get", "patch"}}

Rule = dict[str, Any]


def rules(source: str, kind: str = "ClusterRole") -> list[Rule]:
    documents = yaml.safe_load_all((ROOT / source).read_text())
    (role,) = (
        document
        for document in documents
        if document["kind"] == kind and document["metadata"]["name"] == CLUSTER_ROLE
    )
    return list(role["rules"])


def granted(of: list[Rule]) -> dict[tuple[str, str], set[str]]:
    """Return the verbs of every resource."""
    found: dict[tuple[str, str], set[str]] = {}
    for rule in of:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def faults(of: list[Rule]) -> Iterator[str]:
    """Yield what no operator should have: wildcards, secrets, ways to more rights."""
    for rule in of:
        if any("*" in word for words in rule.values() for word in words):
            yield "wildcard"
        if "secrets" in rule["resources"] and set(rule["verbs"]) - {"create"}:
            yield "secrets"
        if set(rule["verbs"]) & {"escalate", "bind", "impersonate"}:
            yield "rights"
        if set(rule["resources"]) & {"pods/exec", "pods/attach", "serviceaccounts/token"}:
            yield "ways in"


SOURCES = pytest.mark.parametrize("source", ["deploy/rbac.yaml", "deploy/install.yaml"])


@SOURCES
def test_the_operator_may_do_what_its_code_does_and_no_more(source: str) -> None:
    assert granted(rules(source)) == USED


@SOURCES
def test_at_home_the_operator_may_use_its_own_lease_and_no_other(source: str) -> None:
    of = rules(source, "Role")
    assert granted(of) == USED_AT_HOME
    unnamed = [rule for rule in of if rule.get("resourceNames") != [names.LEASE]]
    assert [rule["verbs"] for rule in unnamed] == [["create"]]


@SOURCES
@pytest.mark.parametrize("kind", ["ClusterRole", "Role"])
def test_the_operator_cannot_read_secrets_and_has_no_wildcard(source: str, kind: str) -> None:
    assert list(faults(rules(source, kind))) == []


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        pytest.param({"verbs": ["*"]}, "wildcard", id="every verb"),
        pytest.param({"resources": ["*"]}, "wildcard", id="every resource"),
        pytest.param({"apiGroups": ["*"]}, "wildcard", id="every group"),
        pytest.param({"resources": ["*/scale"]}, "wildcard", id="a part of every resource"),
        *(
            pytest.param({"resources": ["secrets"], "verbs": [verb]}, "secrets", id=f"{verb}s")
            for verb in ("get", "list", "watch", "patch")
        ),
        pytest.param({"verbs": ["bind"]}, "rights", id="giving itself rights"),
        pytest.param({"resources": ["pods/exec"]}, "ways in", id="a shell in a pod"),
    ],
)
def test_a_planted_fault_is_found(rule: Rule, fault: str) -> None:
    harmless = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
    assert list(faults([harmless | rule])) == [fault]


def test_the_table_speaks_of_every_kind_the_client_knows() -> None:
    known = {
        (prefix.split("/")[2] if "apis" in prefix else "", plural)
        for prefix, plural in PATHS.values()
    }
    assert known == {key for key in USED | USED_AT_HOME if "/" not in key[1]}
