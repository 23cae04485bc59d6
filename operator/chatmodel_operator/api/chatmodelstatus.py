"""The status of a ChatModel: what serves, what was asked for, and why they differ."""

from typing import Any, Literal

import pydantic

from chatmodel_operator.api.conditions import READY, Condition
from chatmodel_operator.api.fields import Body, Timestamp
from chatmodel_operator.api.reasons import Reason

# What the API server fills in for a new object: without a Ready condition it would count as done
# for kstatus (`kubectl wait`, Flux, Argo CD) until the operator has looked at it.
NOT_SEEN: dict[str, Any] = {
    "observedGeneration": -1,
    "conditions": [
        {
            "type": READY,
            "status": "Unknown",
            "reason": Reason.Pending.value,
            "message": "no operator has looked at it yet",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
            "observedGeneration": -1,
        }
    ],
}


class RevisionRef(Body):
    """One ChatModelRevision, and what it serves."""

    revision: str = pydantic.Field(description="Name of the ChatModelRevision.")
    number: int = pydantic.Field(description="Its number: 1, 2, 3 and so on.")
    mode: str = pydantic.Field(description="Its mode.")
    model_id: str | None = pydantic.Field(
        default=None, alias="modelID", description="Its model on the hub, org/name."
    )
    commit: str | None = pydantic.Field(default=None, description="Its 40-hex commit.")


class ModelStatus(Body):
    """What is known about the target's model, and what serves it."""

    id: str = pydantic.Field(description="Model on the hub, org/name.")
    requested_revision: str = pydantic.Field(
        description="Commit, tag or branch that was asked for."
    )
    commit: str | None = pydantic.Field(default=None, description="The commit it resolved to.")
    total_bytes: int | None = pydantic.Field(default=None, description="Bytes to download.")
    weight_bytes: int | None = pydantic.Field(default=None, description="Bytes of the weights.")
    required_memory: int | None = pydantic.Field(
        default=None, description="Least bytes of memory a pod needs to serve it."
    )
    engine: str | None = pydantic.Field(default=None, description="The engine that serves it.")
    engine_message: str | None = pydantic.Field(
        default=None, description="Why this engine: the spec's word, or what Auto went by."
    )


class Download(Body):
    """How far the candidate's download is."""

    total_bytes: int = pydantic.Field(description="Bytes in all.")
    percent: int = pydantic.Field(description="Percent that has arrived, in steps of 5.")


class LastFailure(Body):
    """The last revision that was found bad."""

    revision: str = pydantic.Field(description="Name of the ChatModelRevision.")
    reason: str = pydantic.Field(description="One CamelCase word; the documentation lists them.")
    message: str = pydantic.Field(description="What was seen, with numbers.")
    time: Timestamp = pydantic.Field(description="When the verdict fell.")


class LastRollout(Body):
    """How the newest move of traffic went."""

    source: str | None = pydantic.Field(
        default=None, alias="from", description="The revision that served before, if any."
    )
    to: str = pydantic.Field(description="The revision that was rolled out.")
    result: Literal["Progressing", "Succeeded", "Failed"] = pydantic.Field(
        description="Progressing, Succeeded (verified after its bake) or Failed."
    )
    seconds: int | None = pydantic.Field(
        default=None, description="Seconds from the start of the attempt to the traffic."
    )
    outage_seconds: int | None = pydantic.Field(
        default=None,
        description="Seconds nothing could answer, when the serving pods had to make room.",
    )


class Cost(Body):
    """What the serving pods cost by the price of their InstanceClass."""

    hourly: str = pydantic.Field(description="An hour of all serving pods.")
    monthly: str = pydantic.Field(description="730 hours of them.")
    storage_monthly: str | None = pydantic.Field(
        default=None, description="A month of the claim, when the administrator set a price."
    )
    currency: str = pydantic.Field(description="ISO 4217 code.")


class ChatModelStatus(Body):
    """What serves, what was asked for, and why they differ."""

    observed_generation: int | None = pydantic.Field(
        default=None, description="The metadata.generation this status speaks of."
    )
    conditions: list[Condition] | None = pydantic.Field(
        default=None,
        description=(
            "Ready, Available, Progressing, ModelCached where a cache exists; Degraded and Stalled"
            " only while true."
        ),
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    serving: RevisionRef | None = pydantic.Field(
        default=None, description="The revision that traffic goes to."
    )
    target: RevisionRef | None = pydantic.Field(
        default=None, description="The revision that spec asks for."
    )
    replicas: int | None = pydantic.Field(default=None, description="Pods of the serving revision.")
    ready_replicas: int | None = pydantic.Field(default=None, description="Those that are Ready.")
    pods: str | None = pydantic.Field(default=None, description="Ready and wanted pods, as 1/1.")
    selector: str | None = pydantic.Field(
        default=None, description="Label selector of the serving pods, for autoscalers."
    )
    endpoint: str | None = pydantic.Field(
        default=None, description="URL of the service inside the cluster."
    )
    api_key_secret_name: str | None = pydantic.Field(
        default=None, description="Secret with the API key, key api-key."
    )
    model: ModelStatus | None = pydantic.Field(
        default=None, description="What is known about the target's model, and what serves it."
    )
    download: Download | None = pydantic.Field(
        default=None, description="Progress of the candidate's download; absent without one."
    )
    last_failure: LastFailure | None = pydantic.Field(
        default=None, description="The last revision that was found bad, and why."
    )
    rollback_revision: str | None = pydantic.Field(
        default=None, description="The last good revision, which a rollback would go to."
    )
    last_rollout: LastRollout | None = pydantic.Field(
        default=None, description="How the newest rollout went."
    )
    cost: Cost | None = pydantic.Field(
        default=None, description="What the serving pods cost; absent without a price."
    )
