"""The inspect Job: it asks the hub what a model is, before anything is downloaded."""

from chatmodel_operator import names
from chatmodel_operator.desired import pod
from chatmodel_operator.desired.metadata import Manifest, build_metadata
from chatmodel_operator.failures import EXIT_BAD_MODEL, EXIT_CONFIG
from chatmodel_operator.observed import ChatModel, Revision
from chatmodel_operator.settings import Settings

TTL_SECONDS = 600
DEADLINE_SECONDS = 300


def build_inspect_job(chatmodel: ChatModel, revision: Revision, settings: Settings) -> Manifest:
    """Return the Job. It is created once; a Job's template cannot be changed."""
    labels = names.child_labels(chatmodel.name, revision.name, names.ROLE_INSPECT)
    no_retry = {
        "containerName": names.CONTAINER_INSPECT,
        "operator": "In",
        "values": [EXIT_CONFIG, EXIT_BAD_MODEL],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": build_metadata(
            chatmodel, names.inspect_job(revision.name), revision.name, names.ROLE_INSPECT
        ),
        "spec": {
            "backoffLimit": 3,
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "ttlSecondsAfterFinished": TTL_SECONDS,
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
                    {"action": "FailJob", "onExitCodes": no_retry},
                ]
            },
            "template": {
                "metadata": {"labels": labels},
                "spec": _pod(chatmodel, revision, settings),
            },
        },
    }


def _pod(chatmodel: ChatModel, revision: Revision, settings: Settings) -> Manifest:
    source = revision.spec.source
    assert revision.spec.instance_class is not None
    config = {
        "command": "inspect",
        "chatModel": chatmodel.name,
        "revision": revision.name,
        "modelID": source.model_id,
        "modelRevision": source.model_revision,
        "hub": pod.hub_config(source, settings),
    }
    image = pod.image_of(pod.engine_of(source), settings)
    container = pod.build_container(names.CONTAINER_INSPECT, image, config, settings)
    container["resources"] = pod.FETCH_RESOURCES
    container["volumeMounts"] += pod.hub_token_mounts(source)
    body = pod.build_pod(chatmodel.name, settings) | revision.spec.instance_class.pod_scheduling()
    body["restartPolicy"] = "Never"
    body["containers"] = [container]
    body["volumes"] += pod.hub_token_volumes(source)
    return body
