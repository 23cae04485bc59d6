"""The Jobs that fetch: one inspects what a model is, one stages its weights on the claim.

They are created once; a Job's template cannot be changed.
"""

from chatmodel_operator import names
from chatmodel_operator.api.chatmodel import SecretKeyRef
from chatmodel_operator.desired import pod
from chatmodel_operator.desired.metadata import Manifest, build_metadata
from chatmodel_operator.failures import EXIT_BAD_MODEL, EXIT_CONFIG
from chatmodel_operator.observed import ChatModel, Revision
from chatmodel_operator.settings import Settings

TTL_SECONDS = 600
INSPECT_DEADLINE_SECONDS = 300


def build_inspect_job(chatmodel: ChatModel, revision: Revision, settings: Settings) -> Manifest:
    """Return the Job that asks the hub what a model is, before anything is downloaded."""
    source, token = revision.spec.source, _token(chatmodel, revision)
    config = {
        "command": "inspect",
        "chatModel": chatmodel.name,
        "revision": revision.name,
        "modelID": source.model_id,
        "modelRevision": revision.spec.commit or source.model_revision,
        "quantization": source.quantization,
        "hub": pod.hub_config(token, settings),
    }
    container = pod.build_container(
        names.CONTAINER_INSPECT, pod.fetch_image(settings), config, settings
    )
    body = _pod(chatmodel, revision, container, token, settings)
    name = names.inspect_job(revision.name)
    job = _job(chatmodel, revision, name, names.ROLE_INSPECT, body)
    job["spec"]["activeDeadlineSeconds"] = INSPECT_DEADLINE_SECONDS
    return job


def build_stage_job(
    chatmodel: ChatModel, revision: Revision, keep: tuple[str, ...], settings: Settings
) -> Manifest:
    """Return the Job that puts the weights on the claim and prunes what is not in `keep`.

    It has no deadline of its own: the rollout's is without progress, not without end.
    """
    token = _token(chatmodel, revision)
    config = {
        "command": "stage",
        "chatModel": chatmodel.name,
        "revision": revision.name,
        **pod.chosen_files(revision.spec),
        "keep": list(keep),
        "hub": pod.hub_config(token, settings),
    }
    container = pod.build_container(
        names.CONTAINER_STAGE, pod.fetch_image(settings), config, settings
    )
    container["ports"] = [
        {"name": names.MANAGEMENT_PORT_NAME, "containerPort": names.MANAGEMENT_PORT}
    ]
    container["volumeMounts"].append({"name": "models", "mountPath": names.MODELS_ROOT})
    body = _pod(chatmodel, revision, container, token, settings)
    body["volumes"].append(pod.claim_volume(chatmodel.name, read_only=False))
    body |= pod.claim_placement(chatmodel.name)
    name = names.stage_job(revision.name)
    job = _job(chatmodel, revision, name, names.ROLE_STAGE, body)
    claim = names.models_claim(chatmodel.name)
    job["spec"]["template"]["metadata"]["labels"][names.LABEL_CLAIM] = claim
    return job


def _token(chatmodel: ChatModel, revision: Revision) -> SecretKeyRef | None:
    """Return today's token: a Job that runs again takes the one that was corrected meanwhile."""
    if revision.spec.source.token_secret_ref is not None or chatmodel.spec is None:
        return revision.spec.source.token_secret_ref
    return chatmodel.spec.model.token_secret_ref


def _job(
    chatmodel: ChatModel, revision: Revision, name: str, role: str, body: Manifest
) -> Manifest:
    on_exit = {
        "containerName": body["containers"][0]["name"],
        "operator": "In",
        "values": [EXIT_CONFIG, EXIT_BAD_MODEL],
    }
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {"action": "FailJob", "onExitCodes": on_exit},
    ]
    labels = names.child_labels(chatmodel.name, revision.name, role)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": build_metadata(chatmodel, name, revision.name, role),
        "spec": {
            "backoffLimit": 3,
            "ttlSecondsAfterFinished": TTL_SECONDS,
            "podFailurePolicy": {"rules": rules},
            "template": {"metadata": {"labels": labels}, "spec": body},
        },
    }


def _pod(
    chatmodel: ChatModel,
    revision: Revision,
    container: Manifest,
    token: SecretKeyRef | None,
    settings: Settings,
) -> Manifest:
    assert revision.spec.instance_class is not None
    container["resources"] = pod.FETCH_RESOURCES
    container["volumeMounts"] += pod.hub_token_mounts(token)
    body = pod.build_pod(chatmodel.name, settings) | revision.spec.instance_class.pod_scheduling()
    body.pop("runtimeClassName", None)  # fetching needs no accelerator
    body["restartPolicy"] = "Never"
    body["containers"] = [container]
    body["volumes"] += pod.hub_token_volumes(token)
    return body
