"""ChatModel: what should serve. Written by the team, never by the operator (but for its status)."""

from typing import Literal

import pydantic

from chatmodel_operator.api.chatmodelcache import Cache
from chatmodel_operator.api.chatmodelrollout import Rollout
from chatmodel_operator.api.fields import OBJECT_NAME, Body, cel

KIND = "ChatModel"
QWEN_MODEL_ID = "Qwen/Qwen3-4B-Thinking-2507"

Mode = Literal["mock", "qwen", "Qwen3-4B-Thinking-2507", "huggingface"]
Engine = Literal["Auto", "Transformers", "OpenVINO", "VLLM"]
Quantization = Literal["None", "Int8", "Int4"]


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
        description=(
            "Which of the published weights: None takes unquantized ones, or the only ones there"
            " are; nothing is converted. Default: None."
        ),
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
