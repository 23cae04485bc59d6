"""What a source is resolved to: the engine, the image, the memory it takes, whether that fits.

Called by `verdicts` and `desired`. Pure. Nothing is converted on the cluster: an engine loads one
of the formats that inspection found, or the revision is refused.
"""

import dataclasses

from chatmodel_operator import quantities
from chatmodel_operator.api.chatmodelrevision import Inspection, Source
from chatmodel_operator.api.instanceclass import InstanceClassSpec
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.settings import Embedded, Settings

# Formats an engine loads, by the names the runtime's inspection gives them.
FORMATS = {
    "Transformers": ("safetensors",),
    "VLLM": ("safetensors",),
    "OpenVINO": ("openvino", "gguf"),
}
# An interpreter with torch takes this much before any weight is loaded (measured: 265 MiB).
BASE_BYTES = 256 * 1024**2
PROMPT_TOKENS = 2048


@dataclasses.dataclass(frozen=True)
class Problem:
    """Why a source cannot be served as it is."""

    reason: Reason
    message: str


def choose_engine(
    source: Source,
    formats: tuple[str, ...],
    instance_class: InstanceClassSpec,
    settings: Settings,
) -> str | Problem:
    """Return the engine that serves a source, or why none does."""
    if source.mode == "mock":
        return "Mock"
    wanted = (source.engine,) if source.engine != "Auto" else _preferred(source, instance_class)
    have = ", ".join(formats) or "none"
    missing = []
    for engine in wanted:
        if not set(FORMATS[engine]) & set(formats):
            missing.append(f"{engine} loads {' or '.join(FORMATS[engine])}, the model has {have}")
        elif settings.images.of(engine) is None:
            missing.append(f"the operator's settings name no image for {engine}")
        elif source.quantization != "None" and engine == "Transformers":
            missing.append(f"Transformers has no {source.quantization}")
        else:
            return engine
    return Problem(Reason.EngineUnsupported, "; ".join(missing))


def _preferred(source: Source, instance_class: InstanceClassSpec) -> tuple[str, ...]:
    """Return the engines that Auto tries: the fastest first."""
    if instance_class.accelerator is not None:
        return ("VLLM", "Transformers")
    if source.quantization != "None":
        return ("OpenVINO",)
    return ("Transformers", "OpenVINO")


def required_memory(inspection: Inspection, source: Source) -> int:
    """Return the least bytes that serving takes: weights, one full context, the process itself."""
    generation = source.generation
    tokens = PROMPT_TOKENS + generation.max_new_tokens
    if inspection.thinking:
        tokens += generation.max_thinking_tokens
    return inspection.weight_bytes + (inspection.kv_bytes_per_token or 0) * tokens + BASE_BYTES


def find_problem(
    source: Source, inspection: Inspection, instance_class: InstanceClassSpec, settings: Settings
) -> Problem | None:
    """Return why an inspected model cannot be served in a class; None when it can be tried."""
    engine = choose_engine(source, tuple(inspection.formats), instance_class, settings)
    if isinstance(engine, Problem):
        return engine
    needed = required_memory(inspection, source)
    accelerator = instance_class.accelerator
    if accelerator is not None and accelerator.memory is not None:
        limit, what = quantities.parse_bytes(accelerator.memory) * accelerator.count, "accelerators"
    else:
        limit, what = quantities.parse_bytes(instance_class.resources.limits["memory"]), "pods"
    if needed <= limit:
        return None
    text = (
        f"the model needs at least {quantities.format_bytes(needed)} of memory, and the {what} of"
        f" its class have {quantities.format_bytes(limit)}"
    )
    return Problem(Reason.InsufficientMemory, text)


def find_embedded(source: Source, settings: Settings) -> Embedded | Problem:
    """Return the administrator's image for an Embedded source, or why there is none."""
    same = [e for e in settings.embedded if e.model_id == source.model_id]
    for entry in same:
        if source.model_revision in (None, "main", entry.commit):
            return entry
    known = ", ".join(e.commit for e in same) or "none"
    text = f"no image with {source.model_id} at {source.model_revision} inside; commits: {known}"
    return Problem(Reason.EmbeddedImageMissing, text)
