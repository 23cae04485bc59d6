"""ChatModel: what should serve. Written by the team, never by the operator (but for its status)."""

from typing import Literal

import pydantic

from chatmodel_operator.api.fields import Body, cel

KIND = "ChatModel"
QWEN_MODEL_ID = "Qwen/Qwen3-4B-Thinking-2507"

Mode = Literal["mock", "qwen", "Qwen3-4B-Thinking-2507", "huggingface"]
Engine = Literal["Auto", "Transformers", "OpenVINO", "VLLM"]
Quantization = Literal["None", "Int8", "Int4"]
CacheStrategy = Literal["Ephemeral", "Persistent", "Embedded"]
# A DNS-1123 subdomain, as Kubernetes names most objects.
OBJECT_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"


class SecretKeyRef(Body):
    """A key of a Secret in the ChatModel's own namespace."""

    name: str = pydantic.Field(
        min_length=1,
        max_length=253,
        pattern=OBJECT_NAME,
        description="Name of a Secret in the same namespace.",
    )
    key: str = pydantic.Field(
        default="HF_TOKEN",
        pattern=r"^[A-Za-z0-9_][-._A-Za-z0-9]*$",
        max_length=253,
        description="Key of the Secret that holds the token. Default: HF_TOKEN.",
    )


class Model(Body):
    """Which model of the Hugging Face hub."""

    id: str | None = pydantic.Field(
        default=None,
        max_length=200,
        pattern=r"^(hf://)?[A-Za-z0-9][-A-Za-z0-9._]*/[A-Za-z0-9][-A-Za-z0-9._]*$",
        description=(
            "Model on the Hugging Face hub as org/name or hf://org/name. Required for mode"
            " huggingface; mode qwen always means Qwen/Qwen3-4B-Thinking-2507; mock ignores it."
        ),
    )
    revision: str = pydantic.Field(
        default="main",
        max_length=200,
        # Names between single slashes; none of them begins with a dot.
        pattern=r"^[A-Za-z0-9][-A-Za-z0-9._]*(/[A-Za-z0-9][-A-Za-z0-9._]*)*$",
        description=(
            "Commit, tag or branch. Resolved once per ChatModelRevision to a 40-hex commit, which"
            " is recorded; write a commit to follow a branch that moved. Default: main."
        ),
    )
    token_secret_ref: SecretKeyRef | None = pydantic.Field(
        default=None,
        description=(
            "Hub token for gated or private models. Mounted as a file, only into the containers"
            " that call the hub, never into the serving container."
        ),
    )


class Generation(Body):
    """Limits and sampling defaults of generated answers."""

    max_new_tokens: int = pydantic.Field(
        default=512, ge=1, le=32768, description="Most tokens of an answer. Default: 512."
    )
    max_thinking_tokens: int = pydantic.Field(
        default=1024,
        ge=0,
        le=65536,
        description="Most tokens a thinking model may think before it must answer. Default: 1024.",
    )
    temperature: float = pydantic.Field(
        default=0.7, ge=0, le=2, description="Sampling temperature; 0 is greedy. Default: 0.7."
    )
    top_p: float = pydantic.Field(
        default=0.9, gt=0, le=1, description="Nucleus sampling mass. Default: 0.9."
    )
    top_k: int = pydantic.Field(
        default=0, ge=0, le=1000, description="Sample from the k likeliest tokens; 0 is off."
    )


_CLAIM_FIELDS = ("size", "storageClassName", "accessMode", "reclaimPolicy")
_BOTH_PERSISTENT = "self.strategy != 'Persistent' || oldSelf.strategy != 'Persistent'"


class Cache(Body):
    """Where staged weights are kept."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=cel(
            (
                "self.strategy == 'Persistent' || !("
                + " || ".join(f"has(self.{name})" for name in _CLAIM_FIELDS)
                + ")",
                "size, storageClassName, accessMode and reclaimPolicy are for strategy Persistent",
            ),
            *(
                (
                    f"{_BOTH_PERSISTENT} || (has(self.{name}) == has(oldSelf.{name})"
                    f" && (!has(self.{name}) || self.{name} == oldSelf.{name}))",
                    f"{name} is immutable while the strategy is Persistent",
                )
                for name in ("storageClassName", "accessMode")
            ),
            (
                f"{_BOTH_PERSISTENT} || !has(oldSelf.size) || (has(self.size)"
                " && quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0)",
                "size can grow, not shrink",
            ),
        )
    )

    strategy: CacheStrategy = pydantic.Field(
        default="Ephemeral",
        description=(
            "Ephemeral: each pod downloads into its own volume. Persistent: one Job downloads into"
            " a PersistentVolumeClaim that the pods read. Embedded: the model is inside a runtime"
            " image the administrator named. Default: Ephemeral."
        ),
    )
    size: str | None = pydantic.Field(
        default=None,
        max_length=20,
        pattern=r"^[1-9][0-9]*(Mi|Gi|Ti)$",
        description="Size of the claim; it may grow. Default: three copies of the first model.",
    )
    storage_class_name: str | None = pydantic.Field(
        default=None,
        min_length=1,
        max_length=253,
        pattern=OBJECT_NAME,
        description="StorageClass of the claim. Default: the cluster's default class.",
    )
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] | None = pydantic.Field(
        default=None,
        description=(
            "ReadWriteOnce keeps all pods on one node; ReadWriteMany needs a StorageClass that"
            " shares volumes between nodes. Default: ReadWriteOnce."
        ),
    )
    reclaim_policy: Literal["Delete", "Retain"] | None = pydantic.Field(
        default=None,
        description=(
            "What becomes of the claim with the ChatModel: Delete, or Retain for a later ChatModel"
            " of the same name. Default: Delete."
        ),
    )


class Rollout(Body):
    """How one revision replaces another."""

    strategy: Literal["Auto", "Surge", "Recreate"] = pydantic.Field(
        default="Auto",
        description=(
            "Surge: the new revision starts beside the serving one. Recreate: the serving one"
            " stops first. Auto: as Surge, and as Recreate when the scheduler finds no room for"
            " both. Default: Auto."
        ),
    )
    failure_policy: Literal["Rollback", "Hold"] = pydantic.Field(
        default="Rollback",
        description=(
            "When a revision turns out bad under traffic: Rollback to the last good one, or Hold"
            " traffic where it is and say so. Before it has traffic, both withdraw it."
            " Default: Rollback."
        ),
    )
    paused: bool = pydantic.Field(
        default=False,
        description=(
            "Take no step forward: no new candidate, no switch, no retirement. Scaling, repair and"
            " going back still happen. Default: false."
        ),
    )
    pinned_revision: str | None = pydantic.Field(
        default=None,
        min_length=1,
        max_length=63,
        pattern=OBJECT_NAME,
        description=(
            "Rollback by hand: the name of a Verified ChatModelRevision of this ChatModel that"
            " shall serve, whatever the rest of spec says."
        ),
    )
    restart_token: str | None = pydantic.Field(
        default=None,
        max_length=253,
        description=(
            "Any text; another one starts the same model anew, as a new revision with the same"
            " commit."
        ),
    )
    capacity_wait_seconds: int = pydantic.Field(
        default=20,
        ge=1,
        le=3600,
        description=(
            "With Auto: seconds the scheduler must have found no room before the serving pods"
            " make room. Default: 20."
        ),
    )
    progress_deadline_seconds: int | None = pydantic.Field(
        default=None,
        ge=10,
        le=86400,
        description=(
            "Seconds without progress (a step left, or bytes moved) after which the candidate is"
            " given up. Default: computed from the bytes to download."
        ),
    )
    bake_seconds: int = pydantic.Field(
        default=60,
        ge=0,
        le=86400,
        description=(
            "Seconds a new revision is watched under traffic before it counts as good; the old"
            " pods stay warm until then. Default: 60."
        ),
    )
    history_limit: int = pydantic.Field(
        default=5,
        ge=1,
        le=50,
        description="How many revisions that neither serve nor are wanted are kept. Default: 5.",
    )


class PatientContext(Body):
    """Where the runtime finds the patient named by a triage request."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=cel(
            (
                "(has(self.source) && self.source == 'Http') == has(self.url)",
                "url is required with source Http, and only then",
            )
        )
    )

    source: Literal["None", "Demo", "Http"] = pydantic.Field(
        default="None",
        description="None, Demo (patients shipped with the runtime) or Http (the patient API).",
    )
    url: str | None = pydantic.Field(
        default=None,
        max_length=2048,
        pattern=r"^https?://[^\s/@?#]+(/[^\s?#]*)?$",
        description="Base URL of the patient API, as http://patients:8001. Only with source Http.",
    )


class Auth(Body):
    """Who may ask."""

    mode: Literal["ApiKey", "None"] = pydantic.Field(
        default="ApiKey",
        description=(
            "ApiKey: callers send a key of the Secret NAME-api-key, which the operator creates."
            " None: everybody who reaches the Service may ask. Default: ApiKey."
        ),
    )


class ChatModelSpec(Body):
    """Which model should serve, at which size, rolled out how."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=cel(
            (
                "self.mode != 'huggingface' || (has(self.model) && has(self.model.id))",
                "model.id is required for mode huggingface, as in"
                " model: {id: HuggingFaceTB/SmolLM2-135M-Instruct}",
            ),
            (
                "!has(self.engine) || self.engine != 'Transformers' || !has(self.quantization)"
                " || self.quantization == 'None'",
                "engine Transformers serves unquantized weights: set quantization None,"
                " or engine OpenVINO",
            ),
        )
    )

    mode: Mode = pydantic.Field(
        description=(
            "What answers: mock (no model), qwen (Qwen/Qwen3-4B-Thinking-2507, also written"
            " Qwen3-4B-Thinking-2507) or huggingface (the model named by model.id). Patching this"
            " one field switches."
        )
    )
    model: Model = pydantic.Field(default_factory=Model, description="Which model of the hub.")
    engine: Engine = pydantic.Field(
        default="Auto",
        description=(
            "What runs the model: Transformers and VLLM load safetensors, OpenVINO a published IR"
            " or a GGUF file. Auto takes what fits formats and class. Default: Auto."
        ),
    )
    quantization: Quantization = pydantic.Field(
        default="None",
        description="Picks a published file of that kind; nothing is converted. Default: None.",
    )
    cache: Cache = pydantic.Field(
        default_factory=Cache, description="Where staged weights are kept."
    )
    instance_class_name: str | None = pydantic.Field(
        default=None,
        min_length=1,
        max_length=253,
        pattern=OBJECT_NAME,
        description=(
            "Size of the pods: the name of an InstanceClass. Read when a revision is created."
            " Default: the class annotated as default."
        ),
    )
    replicas: int = pydantic.Field(
        default=1,
        ge=0,
        le=1000,
        description="Pods that serve. 0 stops serving and starts nothing. Default: 1.",
    )
    generation: Generation = pydantic.Field(
        default_factory=Generation, description="Limits and sampling of generated answers."
    )
    rollout: Rollout = pydantic.Field(
        default_factory=Rollout, description="How a new revision replaces the serving one."
    )
    patient_context: PatientContext = pydantic.Field(
        default_factory=PatientContext, description="Where patients named in requests are found."
    )
    auth: Auth = pydantic.Field(default_factory=Auth, description="Who may ask.")
