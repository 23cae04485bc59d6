"""What identifies a revision: the part of a ChatModel's spec that its pods depend on.

Used by `observed` and `rollout`. Two specs with the same source are the same revision, whatever
else they say; a hash only names a new one.
"""

import hashlib
import json

from chatmodel_operator.api.chatmodel import QWEN_MODEL_ID, ChatModelSpec
from chatmodel_operator.api.chatmodelrevision import Source

QWEN_ALIASES = ("qwen", "Qwen3-4B-Thinking-2507")


def source_of(spec: ChatModelSpec) -> Source:
    """Return the source a spec asks for: aliases normalised, what a mode ignores left out."""
    model = spec.model
    model_id = (model.id or "").removeprefix("hf://") or None
    revision: str | None = model.revision
    mode = "qwen" if spec.mode in QWEN_ALIASES else spec.mode
    # A mock has nothing to keep, and no token to keep it with.
    strategy = None if mode == "mock" else spec.cache.strategy
    if mode == "mock":
        model_id, revision = None, None
    if mode == "qwen":
        # Another model's revision says nothing about this one.
        revision = revision if model_id in (None, QWEN_MODEL_ID) else "main"
        model_id = QWEN_MODEL_ID
    return Source.model_validate(
        {
            "mode": mode,
            "model_id": model_id,
            "model_revision": revision,
            # Pods that fetch by themselves mount the token: another one is another pod.
            "token_secret_ref": model.token_secret_ref if strategy == "Ephemeral" else None,
            "engine": "Auto" if mode == "mock" else spec.engine,
            "quantization": "None" if mode == "mock" else spec.quantization,
            "cache_strategy": strategy or "Ephemeral",
            "restart_token": spec.rollout.restart_token,
            "instance_class_name": spec.instance_class_name,
            "generation": spec.generation,
            "patient_context": spec.patient_context,
            "auth": spec.auth,
        }
    )


def is_restart_of(source: Source, other: Source) -> bool:
    """Say whether two sources differ in nothing but the restart token."""
    return source.model_copy(update={"restart_token": other.restart_token}) == other


def name_of(chatmodel: str, source: Source, taken: frozenset[str]) -> str:
    """Return a free name `<chatmodel>-<hash>`; equal sources give equal names while it is free."""
    body = source.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    for collisions in range(len(taken) + 1):
        digest = hashlib.sha256(f"{text}#{collisions}".encode()).hexdigest()[:8]
        if (name := f"{chatmodel}-{digest}") not in taken:
            return name
    raise AssertionError("more names are taken than there are revisions")
