"""What the operator renders, for tests that look at manifests: the same steps a pass takes."""

import json
from collections.abc import Iterator
from typing import Any

from pictures import CLASS, COMMIT, INSPECTION, SETTINGS, Body, chatmodel, make_revision

from chatmodel_operator import names
from chatmodel_operator.api.chatmodelrevision import Inspection
from chatmodel_operator.desired import deployment, job, revision, service
from chatmodel_operator.observed import Revision
from chatmodel_operator.settings import Embedded, Settings

TOKEN = {"name": "hub", "key": "token"}
MOCK: Body = {"mode": "mock"}
QWEN: Body = {"mode": "qwen"}
HUGGINGFACE: Body = {"mode": "huggingface", "model": {"id": "org/tiny", "revision": "v2"}}
GATED: Body = {
    "mode": "huggingface",
    "model": {"id": "hf://org/gated", "tokenSecretRef": TOKEN},
    "patientContext": {"source": "Http", "url": "http://patients.clinic:8001/api"},
    "auth": {"mode": "None"},
    "generation": {"maxNewTokens": 64, "maxThinkingTokens": 0, "temperature": 0, "topK": 20},
}

GGUF: Body = HUGGINGFACE | {"engine": "OpenVINO", "quantization": "Int4"}
PERSISTENT: Body = QWEN | {"cache": {"strategy": "Persistent"}}
EMBEDDED: Body = QWEN | {"cache": {"strategy": "Embedded"}}
BUILT_IN = SETTINGS.model_copy(
    update={
        "embedded": (
            Embedded(
                model_id="Qwen/Qwen3-4B-Thinking-2507",
                commit=COMMIT,
                weight_bytes=3_000_000_000,
                image="registry.test/qwen:1",
            ),
        )
    }
)


def prepared(spec: Body, settings: Settings = BUILT_IN) -> Revision:
    """Return a revision with everything filled in that a pass fills in."""
    bare = make_revision(1, filled={"template": None}, **spec)
    is_gguf = bare.spec.source.engine == "OpenVINO"
    formats = {"formats": ["gguf"], "files": ["tiny-Q4_0.gguf"]} if is_gguf else {}
    known = Inspection.model_validate(INSPECTION | formats)
    found = None if bare.is_mock or bare.is_embedded else known
    filled = revision.build_preparation(chatmodel(**spec), bare, found, CLASS, settings)
    return make_revision(1, filled=filled, **spec)


def template(spec: Body, settings: Settings = BUILT_IN) -> Body:
    """Return the pod template of a spec."""
    body = prepared(spec, settings).spec.template
    assert body is not None
    return body


def inspect_job(spec: Body, settings: Settings = SETTINGS) -> Body:
    return job.build_inspect_job(chatmodel(**spec), make_revision(1, **spec), settings)


def stage_job(spec: Body, keep: tuple[str, ...], settings: Settings = SETTINGS) -> Body:
    return job.build_stage_job(chatmodel(**spec), prepared(spec), keep, settings)


def containers(pod: Body) -> Iterator[Body]:
    """Yield the containers of a pod spec, init containers first."""
    yield from pod.get("initContainers", [])
    yield from pod["containers"]


def configs(pod: Body) -> Iterator[tuple[str, str]]:
    """Yield (command, configuration as JSON) of every container of a pod spec."""
    for container in containers(pod):
        for variable in container["env"]:
            if variable["name"] == names.ENV_CONFIG:
                yield container["args"][0], variable["value"]


def config(spec: Body, command: str, settings: Settings = BUILT_IN) -> dict[str, Any]:
    """Return the configuration that a spec's pods get for one command."""
    which = prepared(spec, settings)
    pods = [template(spec, settings)["spec"]]
    if not which.is_mock and not which.is_embedded:
        pods.append(inspect_job(spec, settings)["spec"]["template"]["spec"])
    if which.is_persistent:
        source = which.spec.source
        folder = names.model_folder(
            str(source.model_id), str(which.spec.commit), source.quantization
        )
        keep = (folder,)
        pods.append(stage_job(spec, keep, settings)["spec"]["template"]["spec"])
    found = dict(pair for pod in pods for pair in configs(pod))
    body = json.loads(found[command])
    assert isinstance(body, dict)
    return body


def manifests(spec: Body) -> list[Body]:
    """Return everything the operator writes for a spec, but the revision itself."""
    model, which = chatmodel(**spec), prepared(spec)
    made = [
        deployment.build_deployment(model, which, 1),
        service.build_service(model, which.name),
        service.build_service_account(model),
    ]
    return made if which.is_mock else [*made, inspect_job(spec)]
