"""The pod template of a revision, and what it shares with the inspect Job.

The template is rendered once and stored in the revision; changing this file changes new revisions
only.
"""

import json
from typing import Any

from chatmodel_operator import names, resolution
from chatmodel_operator.api.chatmodel import SecretKeyRef
from chatmodel_operator.api.chatmodelrevision import ChatModelRevisionSpec
from chatmodel_operator.desired.metadata import Manifest
from chatmodel_operator.settings import Embedded, Settings

USER = 10001
FETCH_RESOURCES = {
    "requests": {"cpu": "100m", "memory": "128Mi"},
    "limits": {"memory": "512Mi"},
}
DEFAULT_CONCURRENT_REQUESTS = 8
# Room beside the weights for manifests and a file system's own blocks.
SPARE_BYTES = 64 * 1024 * 1024


def image_of(spec: ChatModelRevisionSpec, settings: Settings) -> str:
    """Return the runtime image of a revision: the engine's, or the one with the model inside."""
    if spec.source.cache_strategy == "Embedded" and spec.source.mode != "mock":
        entry = resolution.find_embedded(spec.source, settings)
        assert isinstance(entry, Embedded)
        return entry.image
    image = settings.images.of(str(spec.engine))
    assert image is not None
    return image


def fetch_image(settings: Settings) -> str:
    """Return the image of the Jobs that inspect and stage: it needs no engine."""
    return settings.images.mock


def build_template(
    chatmodel: str, revision: str, spec: ChatModelRevisionSpec, settings: Settings
) -> Manifest:
    """Return the pod template of a revision whose class, engine and commit are known."""
    assert spec.engine is not None and spec.instance_class is not None
    pod: Manifest = build_pod(chatmodel, settings) | spec.instance_class.pod_scheduling()
    pod["terminationGracePeriodSeconds"] = (
        settings.timings.drain_seconds + settings.timings.request_deadline_seconds + 5
    )
    # So that the server is not its namespace's first process: docs/decisions/0008.
    pod["shareProcessNamespace"] = True
    pod["containers"] = [_serve(chatmodel, revision, spec, settings)]
    if spec.source.auth.mode == "ApiKey":
        secret = {"secretName": names.api_key_secret(chatmodel), "optional": True}
        pod["volumes"].append({"name": "api-keys", "secret": secret})
    labels = names.child_labels(chatmodel, revision, names.ROLE_SERVE)
    if _is_on_claim(spec):
        pod |= claim_placement(chatmodel)
        pod["volumes"].append(claim_volume(chatmodel, read_only=True))
        labels[names.LABEL_CLAIM] = names.models_claim(chatmodel)
    elif spec.inspection is not None:
        size = spec.inspection.total_bytes * 11 // 10 + SPARE_BYTES
        pod["volumes"].append({"name": "models", "emptyDir": {"sizeLimit": str(size)}})
        pod["volumes"] += hub_token_volumes(spec.source.token_secret_ref)
        pod["initContainers"] = [_stage(chatmodel, revision, spec, settings)]
    return {"metadata": {"labels": labels}, "spec": pod}


def _is_on_claim(spec: ChatModelRevisionSpec) -> bool:
    return spec.source.cache_strategy == "Persistent" and spec.inspection is not None


def claim_volume(chatmodel: str, *, read_only: bool) -> Manifest:
    """Return the volume with the staged models."""
    claim = {"claimName": names.models_claim(chatmodel), "readOnly": read_only}
    return {"name": "models", "persistentVolumeClaim": claim}


def claim_placement(chatmodel: str) -> Manifest:
    """Return what keeps all pods of one claim on one node, as ReadWriteOnce asks.

    The first pod of all matches its own rule, which the scheduler lets pass.
    """
    labels = {names.LABEL_CLAIM: names.models_claim(chatmodel)}
    term = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
    rule = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    return {"affinity": {"podAffinity": rule}}


def build_pod(chatmodel: str, settings: Settings) -> Manifest:
    """Return what all our pods share: no rights, no root, nothing of the node."""
    return {
        "serviceAccountName": chatmodel,
        "automountServiceAccountToken": False,
        # A ChatModel named chat-api would inject CHAT_API_PORT=tcp://... into its own pods.
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }


def build_container(name: str, image: str, config: Manifest, settings: Settings) -> Manifest:
    """Return a container of the runtime image that runs one command with one configuration."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": [config["command"]],
        "env": [{"name": names.ENV_CONFIG, "value": json.dumps(config, sort_keys=True)}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }


def hub_config(ref: SecretKeyRef | None, settings: Settings) -> Manifest:
    """Return how a fetching container finds the hub and its token."""
    token_file = f"{names.HUB_TOKEN_DIR}/{ref.key}" if ref is not None else None
    hub = {"endpoint": settings.hub.endpoint, "tokenFile": token_file}
    return hub | ({"tokenPattern": settings.hub.token_pattern} if ref is not None else {})


def chosen_files(spec: ChatModelRevisionSpec) -> Manifest:
    """Return what a staging container fetches, and below which folder it puts that."""
    return {
        "modelID": spec.source.model_id,
        "commit": spec.commit,
        "quantization": spec.source.quantization,
        "files": spec.files,
        "modelsRoot": names.MODELS_ROOT,
    }


def hub_token_volumes(ref: SecretKeyRef | None) -> list[Manifest]:
    """Return the volume with the hub token, if there is one."""
    if ref is None:
        return []
    items = [{"key": ref.key, "path": ref.key}]
    secret = {"secretName": ref.name, "optional": True, "items": items}
    return [{"name": "hub-token", "secret": secret}]


def hub_token_mounts(ref: SecretKeyRef | None) -> list[Manifest]:
    """Return the mount of the hub token, for containers that call the hub only."""
    if ref is None:
        return []
    return [{"name": "hub-token", "mountPath": names.HUB_TOKEN_DIR, "readOnly": True}]


def _stage(
    chatmodel: str, revision: str, spec: ChatModelRevisionSpec, settings: Settings
) -> Manifest:
    config = {
        "command": "stage",
        "chatModel": chatmodel,
        "revision": revision,
        **chosen_files(spec),
        "hub": hub_config(spec.source.token_secret_ref, settings),
    }
    image = image_of(spec, settings)
    container = build_container(names.CONTAINER_STAGE, image, config, settings)
    container["resources"] = FETCH_RESOURCES
    container["volumeMounts"].append({"name": "models", "mountPath": names.MODELS_ROOT})
    container["volumeMounts"] += hub_token_mounts(spec.source.token_secret_ref)
    return container


def _serve(
    chatmodel: str, revision: str, spec: ChatModelRevisionSpec, settings: Settings
) -> Manifest:
    assert spec.instance_class is not None
    source = spec.source
    image = image_of(spec, settings)
    config = _serve_config(chatmodel, revision, spec, settings)
    container = build_container(names.CONTAINER_SERVE, image, config, settings)
    container["env"].append({"name": "HF_HUB_OFFLINE", "value": "1"})
    container["resources"] = spec.instance_class.pod_resources()
    container["ports"] = [
        {"name": names.PUBLIC_PORT_NAME, "containerPort": names.PUBLIC_PORT, "protocol": "TCP"},
        {
            "name": names.MANAGEMENT_PORT_NAME,
            "containerPort": names.MANAGEMENT_PORT,
            "protocol": "TCP",
        },
    ]
    container |= _probes()
    if source.auth.mode == "ApiKey":
        mount = {"name": "api-keys", "mountPath": names.API_KEYS_DIR, "readOnly": True}
        container["volumeMounts"].append(mount)
    if spec.inspection is not None:
        mount = {"name": "models", "mountPath": names.MODELS_ROOT, "readOnly": True}
        container["volumeMounts"].append(mount)
    return container


def _serve_config(
    chatmodel: str, revision: str, spec: ChatModelRevisionSpec, settings: Settings
) -> dict[str, Any]:
    source, timings, size = spec.source, settings.timings, spec.instance_class
    assert size is not None
    folder = None
    if source.model_id is not None and spec.commit is not None:
        folder = names.model_dir(source.model_id, spec.commit, source.quantization)
    context = {"source": source.patient_context.source, "url": source.patient_context.url}
    origins = list(settings.network.allowed_origins)
    rate = settings.limits.requests_per_minute_per_key
    return {
        "command": "serve",
        "chatModel": chatmodel,
        "revision": revision,
        "mode": source.mode,
        "modelID": source.model_id,
        "commit": spec.commit,
        "engine": spec.engine,
        "modelDir": folder,
        "generation": source.generation.dump(),
        "patientContext": context,
        "auth": {"mode": source.auth.mode, "keysDir": names.API_KEYS_DIR},
        "threads": size.threads,
        "limits": {
            "maxConcurrentRequests": size.max_concurrent_requests or DEFAULT_CONCURRENT_REQUESTS,
            "maxQueuedRequests": 32,
            "requestDeadlineSeconds": timings.request_deadline_seconds,
            "drainSeconds": timings.drain_seconds,
            "maxConnectionAgeSeconds": timings.max_connection_age_seconds,
            **({"requestsPerMinutePerKey": rate} if rate is not None else {}),
        },
        **({"allowedOrigins": origins} if origins else {}),
    }


def _probes() -> Manifest:
    """Return the probes: alive while loading, ready after a real generation.

    Loading happens beside the event loop, so that liveness needs no budget for it; what loads for
    ever is caught by the progress deadline.
    """

    def get(path: str) -> Manifest:
        return {"httpGet": {"path": path, "port": names.MANAGEMENT_PORT_NAME}}

    return {
        "startupProbe": get("/livez")
        | {"periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 120},
        "livenessProbe": get("/livez")
        | {"periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 3},
        "readinessProbe": get("/readyz")
        | {"periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 3},
    }
