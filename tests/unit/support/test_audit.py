"""The comparison of rights and requests, with both kinds of difference planted."""

import datetime
import json
import pathlib
from typing import Any

import audit
import pytest
import status_story
import yaml

Body = dict[str, Any]
AT = "2026-01-02T03:04:05.000000Z"
SINCE = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
GRANTS = audit.granted(yaml.safe_load_all((audit.ROOT / "deploy/rbac.yaml").read_text()))
ROLES = """
kind: ClusterRole
metadata: {name: main}
rules: [{apiGroups: [""], resources: [pods], verbs: [list, watch]}]
---
kind: ClusterRoleBinding
metadata: {name: main}
roleRef: {kind: ClusterRole, name: main}
subjects: [{kind: ServiceAccount, name: chatmodel-operator, namespace: chatmodel-system}]
---
kind: Role
metadata: {name: lease}
rules: [{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [patch]}]
---
kind: RoleBinding
metadata: {name: lease}
roleRef: {kind: Role, name: lease}
subjects: [{kind: ServiceAccount, name: chatmodel-operator}]
---
kind: ClusterRole
metadata: {name: people}
rules: [{apiGroups: [""], resources: [secrets], verbs: [get]}]
"""


def event(verb: str, resource: str, group: str = "", decision: str = "allow", **more: Any) -> Body:
    name, _, subresource = resource.partition("/")
    about = {"resource": name, "apiGroup": group, "subresource": subresource}
    return {
        "verb": verb,
        "user": {"username": audit.USER},
        "objectRef": {key: value for key, value in about.items() if value},
        "requestReceivedTimestamp": AT,
        "annotations": {"authorization.k8s.io/decision": decision},
    } | more


def everything() -> list[Body]:
    return [event(verb, resource, group) for group, resource, verb in GRANTS]


def test_rights_that_are_all_used_are_right() -> None:
    assert audit.faults(GRANTS, everything()) == []


def test_a_planted_right_that_nobody_uses_is_found() -> None:
    rights = GRANTS | {("apps", "daemonsets", "delete")}
    assert audit.faults(rights, everything()) == ["granted, but never used: delete daemonsets.apps"]


def test_a_planted_request_without_a_right_is_found() -> None:
    planted = event("list", "secrets", decision="forbid")
    assert audit.faults(GRANTS, [*everything(), planted]) == ["used, but not granted: list secrets"]


def test_a_request_refused_though_the_file_grants_it_is_found() -> None:
    # As when the cluster has older roles than the file.
    planted = event("list", "pods", decision="forbid")
    assert audit.faults(GRANTS, [*everything(), planted]) == ["refused, though granted: list pods"]


def test_a_log_without_the_operator_is_no_success() -> None:
    (sentence,) = audit.faults(GRANTS, [])
    assert "no request of the operator in this run" in sentence


def test_all_roles_of_the_operator_count_and_nobody_elses() -> None:
    assert audit.granted(yaml.safe_load_all(ROLES)) == {
        ("", "pods", "list"),
        ("", "pods", "watch"),
        ("coordination.k8s.io", "leases", "patch"),
    }


@pytest.mark.parametrize(
    ("of", "rights"),
    [
        pytest.param(
            event("patch", "chatmodels/status", "carepath.ai"),
            [("carepath.ai", "chatmodels/status", "patch")],
            id="a part of an object is a resource of its own",
        ),
        pytest.param(
            event("patch", "services", responseStatus={"code": 201}),
            [("", "services", "patch"), ("", "services", "create")],
            id="applying what is not there creates it",
        ),
        pytest.param({"verb": "get", "requestURI": "/apis"}, [], id="discovery needs none"),
        pytest.param(
            event("create", "selfsubjectreviews", "authentication.k8s.io"),
            [],
            id="asking who one is needs none",
        ),
    ],
)
def test_a_request_needs_a_right(of: Body, rights: list[audit.Right]) -> None:
    assert audit.rights_of(of) == rights


def test_only_this_runs_requests_of_the_operator_count(tmp_path: pathlib.Path) -> None:
    before = event("list", "old", requestReceivedTimestamp="2025-12-31T23:59:59.000000Z")
    other = event("list", "others", user={"username": "admin"})
    rotated, newest = event("list", "rotated"), event("list", "newest")
    lines = "".join(json.dumps(body) + "\n" for body in (before, other, newest))
    (tmp_path / "audit.jsonl").write_text(lines + '{"half": ')
    (tmp_path / "audit-2026-01-02.jsonl").write_text(json.dumps(rotated) + "\n")
    found = [body["objectRef"]["resource"] for body in audit.events(audit.read(tmp_path, SINCE))]
    assert sorted(found) == ["newest", "rotated"]


@pytest.mark.parametrize("planted", ["a right", "a lie", ""])
def test_the_tool_ends_as_it_found(
    planted: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [*everything(), *([event("list", "secrets")] if planted == "a right" else [])]
    found += [recorded_event(said, planted) for said in status_story.story()]
    (tmp_path / "audit.jsonl").write_text("".join(json.dumps(body) + "\n" for body in found))
    words = ["audit.py", "--since", SINCE.isoformat(), "--logs", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as end:
        audit.main()
    assert end.value.code == int(bool(planted))


def recorded_event(said: Body, planted: str) -> Body:
    """Return an event of the status story as the log has it, with a lie if one is to be planted."""
    if planted == "a lie" and said["responseObject"]["kind"] == "ChatModelRevision":
        said["responseObject"]["status"]["verdict"] = "Pending"
    return event("patch", "chatmodels/status", "carepath.ai") | said
