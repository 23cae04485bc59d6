"""Manifests: what pods may and may not, where secrets go, and golden templates."""

import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pictures import CLASS, INSPECTION, SETTINGS, Body, chatmodel, make_revision, serving
from rendered import (
    GATED,
    HUGGINGFACE,
    MOCK,
    QWEN,
    containers,
    inspect_job,
    manifests,
    prepared,
    template,
)

from chatmodel_operator import comparing, names
from chatmodel_operator.api.chatmodelrevision import Inspection
from chatmodel_operator.desired import deployment, revision, service
from chatmodel_operator.settings import Settings

GOLDEN = pathlib.Path(__file__).parent / "golden"
SPECS = [
    pytest.param(MOCK, id="mock"),
    pytest.param(QWEN, id="qwen"),
    pytest.param(HUGGINGFACE, id="a public model"),
    pytest.param(GATED, id="a gated model"),
]
REAL = SPECS[1:]


def pods(spec: Body) -> Iterator[Body]:
    yield template(spec)["spec"]
    if spec["mode"] != "mock":
        yield inspect_job(spec)["spec"]["template"]["spec"]


def every(value: Any) -> Iterator[Any]:
    """Yield a value and everything inside it."""
    yield value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from every(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from every(inner)


def restricted_faults(pod: Body) -> list[str]:
    """Return what the restricted Pod Security Standard says against a pod."""
    faults = [key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        faults.append("runAsNonRoot")
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        faults.append("seccompProfile")
    for volume in pod["volumes"]:
        faults += sorted(volume.keys() - {"name", "emptyDir", "secret"})
    for container in containers(pod):
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            faults.append("allowPrivilegeEscalation")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            faults.append("capabilities")
        if own.get("readOnlyRootFilesystem") is not True:
            faults.append("readOnlyRootFilesystem")
    return faults


@pytest.mark.parametrize("spec", SPECS)
def test_pods_are_restricted(spec: Body) -> None:
    for pod in pods(spec):
        assert restricted_faults(pod) == []
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        pytest.param({"hostNetwork": True}, "hostNetwork", id="the node's network"),
        pytest.param({"securityContext": {}}, "runAsNonRoot", id="root"),
        pytest.param(
            {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}, "hostPath", id="the node"
        ),
        pytest.param(
            {"containers": [{"name": "x"}]}, "allowPrivilegeEscalation", id="a bare container"
        ),
    ],
)
def test_a_planted_fault_is_found(change: Body, fault: str) -> None:
    assert fault in restricted_faults(template(MOCK)["spec"] | change)


@pytest.mark.parametrize("spec", SPECS)
def test_secrets_come_as_files_only(spec: Body) -> None:
    for pod in pods(spec):
        for container in containers(pod):
            assert "envFrom" not in container
            assert all(set(variable) == {"name", "value"} for variable in container["env"])


@pytest.mark.parametrize("spec", SPECS)
def test_a_secret_that_is_missing_does_not_stop_a_pod(spec: Body) -> None:
    # A key or token that comes later is read later: a missing one ends in a reason of ours.
    found = [
        volume["secret"] for pod in pods(spec) for volume in pod["volumes"] if "secret" in volume
    ]
    assert all(secret["optional"] is True for secret in found)


@pytest.mark.parametrize("spec", SPECS)
def test_manifests_hold_names_of_secrets_and_nothing_else_of_them(spec: Body) -> None:
    for manifest in manifests(spec):
        assert not {"data", "stringData"} & {x for x in every(manifest) if isinstance(x, str)}


@pytest.mark.parametrize("spec", SPECS)
def test_what_is_sent_holds_no_null(spec: Body) -> None:
    # The server drops nulls: a manifest with one would differ from the live object for ever. Among
    # labels and annotations it means that there must be none.
    sent = map(comparing.without_nulls, manifests(spec))
    assert all(value is not None for manifest in sent for value in every(manifest))


def test_the_token_is_mounted_where_the_hub_is_called_and_nowhere_else() -> None:
    mounting = {
        container["name"]
        for pod in pods(GATED)
        for container in containers(pod)
        if any(mount["name"] == "hub-token" for mount in container["volumeMounts"])
    }
    assert mounting == {names.CONTAINER_STAGE, names.CONTAINER_INSPECT}


@pytest.mark.parametrize("spec", SPECS[:3])
def test_without_a_token_there_is_no_volume_for_it(spec: Body) -> None:
    assert all(volume["name"] != "hub-token" for pod in pods(spec) for volume in pod["volumes"])


def test_only_the_named_key_of_the_tokens_secret_is_mounted() -> None:
    for pod in pods(GATED):
        (secret,) = (v["secret"] for v in pod["volumes"] if v["name"] == "hub-token")
        assert secret["secretName"] == "hub"
        assert secret["items"] == [{"key": "token", "path": "token"}]


@pytest.mark.parametrize("spec", REAL)
def test_what_serves_is_offline_and_cannot_change_the_model(spec: Body) -> None:
    (serve,) = template(spec)["spec"]["containers"]
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in serve["env"]
    (mount,) = (m for m in serve["volumeMounts"] if m["name"] == "models")
    assert mount["readOnly"] is True


def test_api_keys_are_mounted_only_when_they_are_asked_for() -> None:
    def mounts(spec: Body) -> set[str]:
        return {m["name"] for c in containers(template(spec)["spec"]) for m in c["volumeMounts"]}

    assert "api-keys" in mounts(MOCK)
    assert "api-keys" not in mounts(GATED)


@pytest.mark.parametrize("spec", SPECS)
def test_every_mount_has_its_volume(spec: Body) -> None:
    for pod in pods(spec):
        volumes = {volume["name"] for volume in pod["volumes"]}
        used = {m["name"] for c in containers(pod) for m in c["volumeMounts"]}
        assert used == volumes


@pytest.mark.parametrize(("drain", "deadline"), [(10, 600), (0, 30)])
def test_a_pod_is_given_time_to_finish_what_it_took(drain: int, deadline: int) -> None:
    timings = {"drainSeconds": drain, "requestDeadlineSeconds": deadline}
    settings = Settings.model_validate({"timings": timings})
    grace = template(MOCK, settings)["spec"]["terminationGracePeriodSeconds"]
    assert grace == drain + deadline + 5


def test_a_mock_has_nothing_to_fetch() -> None:
    assert "initContainers" not in template(MOCK)["spec"]


@pytest.mark.parametrize("spec", SPECS)
def test_pods_go_where_their_class_says(spec: Body) -> None:
    for pod in pods(spec):
        assert pod["nodeSelector"] == {"pool": "models"}
        assert pod["tolerations"][0]["key"] == "models"
    (serve,) = template(spec)["spec"]["containers"]
    assert serve["resources"] == CLASS.resources.dump()


@pytest.mark.parametrize("spec", REAL)
def test_the_volume_has_room_for_the_model(spec: Body) -> None:
    found = prepared(spec).spec.inspection
    (volume,) = (v for v in template(spec)["spec"]["volumes"] if v["name"] == "models")
    assert found is not None
    assert int(volume["emptyDir"]["sizeLimit"]) > found.total_bytes


def test_the_service_selects_the_serving_pods_alone() -> None:
    which = prepared(MOCK)
    selector = service.build_service(chatmodel(), which.name)["spec"]["selector"]
    assert selector.items() <= template(MOCK)["metadata"]["labels"].items()
    labels = inspect_job(QWEN)["spec"]["template"]["metadata"]["labels"]
    assert not selector.items() <= labels.items()


def test_without_a_revision_the_service_selects_nothing() -> None:
    selector = service.build_service(chatmodel(), None)["spec"]["selector"]
    assert selector  # an empty selector would be no selector at all
    assert selector[names.LABEL_REVISION] == names.NO_REVISION
    for spec in (MOCK, QWEN):
        assert not selector.items() <= template(spec)["metadata"]["labels"].items()


@pytest.mark.parametrize("spec", SPECS)
def test_every_child_belongs_to_the_chatmodel(spec: Body) -> None:
    key = service.build_api_key_secret(chatmodel(), "secret")
    for manifest in [*manifests(spec), key]:
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("ChatModel", "triage", True)
        assert manifest["metadata"]["labels"][names.LABEL_CHATMODEL] == "triage"


def test_a_stored_template_is_applied_byte_for_byte() -> None:
    stored = {"metadata": {"labels": {"by": "an older operator"}}, "spec": {"unknown": [1, None]}}
    which = make_revision(1, filled={"template": stored})
    assert deployment.build_deployment(chatmodel(), which, 1)["spec"]["template"] == stored


def test_a_deployment_carries_the_verdict_of_its_revision() -> None:
    manifest = deployment.build_deployment(chatmodel(), make_revision(1, status=serving()), 3)
    assert manifest["spec"]["replicas"] == 3
    assert manifest["metadata"]["labels"][names.LABEL_VERDICT] == "Verified"
    at = manifest["metadata"]["labels"][names.LABEL_VERDICT_AT]
    assert re.fullmatch(r"[0-9]{8}T[0-9]{6}Z", at)  # a label's value has no colon
    assert names.ANNOTATION_COMMIT not in manifest["metadata"]["annotations"]


def test_before_the_inspection_only_the_class_is_filled_in() -> None:
    bare = make_revision(1, mode="qwen", filled={"instanceClass": None, "template": None})
    body = revision.build_preparation(chatmodel(mode="qwen"), bare, None, CLASS, SETTINGS)
    assert body == {"instanceClass": CLASS.dump()}


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(["config.json", "model.safetensors"], id="chosen"),
        pytest.param(None, id="an older runtime, which chooses when it stages"),
    ],
)
def test_the_files_that_inspection_chose_are_recorded_and_staged(said: list[str] | None) -> None:
    found = Inspection.model_validate(INSPECTION | {"files": said})
    bare = make_revision(1, mode="qwen", filled={"template": None})
    body = revision.build_preparation(chatmodel(mode="qwen"), bare, found, CLASS, SETTINGS)
    assert body.get("files") == said
    (stage,) = body["template"]["spec"]["initContainers"]
    (config,) = (json.loads(v["value"]) for v in stage["env"] if v["name"] == names.ENV_CONFIG)
    assert (config["files"], config["quantization"]) == (said, "None")


def test_without_a_class_nothing_is_filled_in() -> None:
    bare = make_revision(1, filled={"instanceClass": None, "template": None})
    assert revision.build_preparation(chatmodel(), bare, None, None, SETTINGS) == {}


@pytest.mark.parametrize("spec", SPECS)
def test_the_same_revision_renders_the_same_bytes(spec: Body) -> None:
    assert json.dumps(template(spec)) == json.dumps(template(spec))


@pytest.mark.parametrize("spec", [pytest.param(MOCK, id="mock"), pytest.param(QWEN, id="qwen")])
def test_a_template_is_as_it_was_looked_over(spec: Body) -> None:
    # GOLDEN_UPDATE=1 writes the files anew: read the difference before it is kept.
    path = GOLDEN / f"{spec['mode']}.yaml"
    text = yaml.safe_dump(template(spec), sort_keys=True, width=100)
    if os.environ.get("GOLDEN_UPDATE") == "1":
        path.write_text(text)
    assert path.read_text() == text
