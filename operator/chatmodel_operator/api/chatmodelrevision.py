"""ChatModelRevision: the record of one thing that was or is to be served, with its verdict.

Written by the operator only. Spec fields are immutable or set once; the status is the receipt.
"""

from typing import Annotated, Any, Literal

import pydantic

from chatmodel_operator.api.chatmodel import (
    Auth,
    Engine,
    Generation,
    Mode,
    PatientContext,
    Quantization,
    SecretKeyRef,
)
from chatmodel_operator.api.chatmodelcache import CacheStrategy
from chatmodel_operator.api.chatmodelstatus import Download
from chatmodel_operator.api.fields import (
    ATOMIC,
    FREE_FORM,
    IMMUTABLE,
    NO_RULES,
    Body,
    Timestamp,
    cel,
)
from chatmodel_operator.api.instanceclass import InstanceClassSpec

KIND = "ChatModelRevision"

PENDING, VERIFIED, FAILED = "Pending", "Verified", "Failed"
# The status that a revision has from the API server before the operator has recorded anything.
NOT_RECORDED = {"verdict": PENDING}

# All of what is ever taken of a model is fewer files: of weights in parts the first stands for all.
Files = Annotated[
    list[Annotated[str, pydantic.Field(max_length=255)]], pydantic.Field(max_length=32)
]
FreeForm = Annotated[dict[str, Any], pydantic.Field(json_schema_extra=FREE_FORM | ATOMIC)]


class Source(Body):
    """What identifies a revision: the parts of a ChatModel's spec that pods depend on."""

    mode: Mode = pydantic.Field(description="mock, qwen or huggingface.")
    model_id: str | None = pydantic.Field(
        default=None, alias="modelID", description="Model on the hub, org/name; none for mock."
    )
    model_revision: str | None = pydantic.Field(
        default=None, description="Commit, tag or branch that was asked for."
    )
    engine: Engine = pydantic.Field(default="Auto", description="The engine asked for.")
    quantization: Quantization = pydantic.Field(
        default="None", description="The quantization asked for."
    )
    cache_strategy: CacheStrategy = pydantic.Field(
        default="Ephemeral", description="Where its weights are kept."
    )
    restart_token: str | None = pydantic.Field(
        default=None, description="The rollout.restartToken it was started for."
    )
    token_secret_ref: SecretKeyRef | None = pydantic.Field(
        default=None, description="Where the hub token is found, where pods fetch by themselves."
    )
    instance_class_name: str | None = pydantic.Field(
        default=None, description="The class that was asked for; none means the default."
    )
    generation: Generation = pydantic.Field(
        default_factory=Generation, description="Limits and sampling of generated answers."
    )
    patient_context: PatientContext = pydantic.Field(
        default_factory=PatientContext, description="Where patients are found."
    )
    auth: Auth = pydantic.Field(default_factory=Auth, description="Who may ask.")


class Inspection(Body):
    """What the hub says about the model, before anything is downloaded."""

    commit: str = pydantic.Field(
        pattern=r"^[0-9a-f]{40}$", description="Commit that the requested revision resolved to."
    )
    files: Files | None = pydantic.Field(
        default=None, description="Files that were chosen: of weights in parts the first."
    )
    total_bytes: int = pydantic.Field(ge=0, description="Bytes of all files to download.")
    weight_bytes: int = pydantic.Field(ge=0, description="Bytes of the weights among them.")
    kv_bytes_per_token: int | None = pydantic.Field(
        default=None, ge=0, description="Bytes of key-value cache one token takes."
    )
    formats: list[str] = pydantic.Field(description="Weight formats found, as safetensors.")
    chat_template: bool = pydantic.Field(description="Whether it has a chat template.")
    thinking: bool = pydantic.Field(description="Whether it thinks before it answers.")


SET_ONCE = (
    "commit",
    "inspection",
    "engine",
    "files",
    "instanceClass",
    "template",
    "rendererVersion",
)


class ChatModelRevisionSpec(Body):
    """What was asked for, and what it was resolved to. Every field is written at most once."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=cel(
            *(
                (
                    f"!has(oldSelf.{name}) || (has(self.{name}) && self.{name} == oldSelf.{name})",
                    f"{name} is set once",
                )
                for name in SET_ONCE
            )
        )
    )

    chat_model_name: str = pydantic.Field(
        description="The ChatModel this belongs to.", json_schema_extra=IMMUTABLE
    )
    number: int = pydantic.Field(
        ge=1, description="1, 2, 3 and so on.", json_schema_extra=IMMUTABLE
    )
    source: Source = pydantic.Field(
        description="What identifies this revision.", json_schema_extra=IMMUTABLE | ATOMIC
    )
    instance_class: InstanceClassSpec | None = pydantic.Field(
        default=None, description="Copy of the InstanceClass.", json_schema_extra=ATOMIC | NO_RULES
    )
    commit: str | None = pydantic.Field(
        default=None, pattern=r"^[0-9a-f]{40}$", description="The model's commit."
    )
    inspection: Inspection | None = pydantic.Field(
        default=None,
        description="What the hub says about the model.",
        json_schema_extra=ATOMIC,
    )
    files: Files | None = pydantic.Field(
        default=None,
        description=(
            "The model's files to stage, chosen by inspection: of weights in parts the first, whose"
            " name says how many there are."
        ),
    )
    engine: Literal["Mock", "Transformers", "OpenVINO", "VLLM"] | None = pydantic.Field(
        default=None, description="The engine that serves it."
    )
    template: FreeForm | None = pydantic.Field(
        default=None,
        description="The pod template itself: a newer operator applies it byte for byte.",
    )
    renderer_version: str | None = pydantic.Field(
        default=None, description="Version of the operator that rendered the template."
    )


class Verification(Body):
    """The operator's own requests to a pod of this revision."""

    failures: int = pydantic.Field(default=0, description="Wrong answers running.")
    reason: str | None = pydantic.Field(default=None, description="Why the last one failed.")
    message: str | None = pydantic.Field(default=None, description="What was seen.")
    tokens: int | None = pydantic.Field(default=None, description="Tokens of the good answer.")
    seconds: float | None = pydantic.Field(default=None, description="Seconds it took.")


class Staged(Body):
    """Where and when the weights were put completely, and verified."""

    time: Timestamp = pydantic.Field(description="When the stage Job had finished.")
    claim_uid: str = pydantic.Field(
        alias="claimUID", description="UID of the claim they are on: a new claim is empty."
    )


class ChatModelRevisionStatus(Body):
    """The verdict and the receipt. A time that is absent has not come, or was taken back."""

    verdict: Literal["Pending", "Verified", "Failed"] | None = pydantic.Field(
        default=None, description="Pending, Verified (served and stood its bake) or Failed."
    )
    reason: str | None = pydantic.Field(
        default=None, description="One CamelCase word; the documentation lists them."
    )
    message: str | None = pydantic.Field(default=None, description="A sentence with numbers.")
    retry: str | None = pydantic.Field(
        default=None, description="The annotation carepath.ai/retry at the verdict."
    )
    token_secret_ref: SecretKeyRef | None = pydantic.Field(
        default=None, description="The model.tokenSecretRef at the verdict."
    )
    started_at: Timestamp | None = pydantic.Field(
        default=None,
        description="When this attempt began; without it the first one began with this object.",
    )
    progress_at: Timestamp | None = pydantic.Field(
        default=None, description="When a step was last left, or bytes last moved."
    )
    staged: Staged | None = pydantic.Field(
        default=None, description="Its weights on the claim, with cache strategy Persistent."
    )
    swap_started_at: Timestamp | None = pydantic.Field(
        default=None, description="Since when the serving pods make room for it."
    )
    room_made_at: Timestamp | None = pydantic.Field(
        default=None, description="When the last serving pod had stopped."
    )
    swap_undone_at: Timestamp | None = pydantic.Field(
        default=None, description="When the serving pods got their room back; no second swap."
    )
    answered_at: Timestamp | None = pydantic.Field(
        default=None, description="When a pod answered the operator's request rightly."
    )
    serving_at: Timestamp | None = pydantic.Field(
        default=None, description="When traffic was sent to it."
    )
    replaced: str | None = pydantic.Field(
        default=None, description="The revision that had the traffic before it."
    )
    verified_at: Timestamp | None = pydantic.Field(
        default=None, description="When it had stood its bake; the newest is the last good."
    )
    failed_at: Timestamp | None = pydantic.Field(default=None, description="When it was found bad.")
    retired_at: Timestamp | None = pydantic.Field(
        default=None, description="When its pods were given up; ends the attempt."
    )
    seconds: int | None = pydantic.Field(
        default=None, description="Seconds from the start of the attempt to the traffic."
    )
    outage_seconds: int | None = pydantic.Field(
        default=None, description="Seconds from the end of the last serving pod to the traffic."
    )
    verification: Verification | None = pydantic.Field(
        default=None, description="The operator's own requests to it."
    )
    download: Download | None = pydantic.Field(default=None, description="How far the download is.")
