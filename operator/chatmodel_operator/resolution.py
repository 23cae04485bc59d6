"""What a source is resolved to: the engine, the image, the memory it takes, whether that fits.

Called by `verdicts` and `desired`. Pure. Nothing is converted on the cluster: an engine loads one
of the formats that inspection found, or the revision is refused.
"""

import dataclasses

from chatmodel_operator import quantities
from chatmodel_operator.api.chatmodelrevision import ChatModelRevisionSpec, Inspection, Source
from chatmodel_operator.api.instanceclass import InstanceClassSpec
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.settings import Embedded, Settings

# Formats an engine loads, by the names the runtime's inspection gives them.
FORMATS = {
    "Transformers": ("safetensors",),
    "VLLM": ("safetensors",),
    "OpenVINO": ("openvino", "gguf"),
}
# What serving takes beside weights and cache: an interpreter with torch 265 MiB before any weight
# is loaded, both processes of OpenVINO 190 MiB with the smallest model and 325 with SmolLM2.
BASE_BYTES = 256 * 1024**2
# OpenVINO holds the tensors of a GGUF file as read and once more as packed; an IR's are mapped.
GGUF_COPIES = 2
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


def explain_engine(spec: ChatModelRevisionSpec) -> str | None:
    """Return why a revision has its engine, from what stands in it; None before it has one."""
    source, size = spec.source, spec.instance_class
    if spec.engine is None or size is None or source.mode == "mock":
        return None
    if source.engine != "Auto":
        return f"spec.engine is {source.engine}"
    facts = []
    if spec.inspection is not None:
        facts.append(f"the model has {', '.join(spec.inspection.formats)}")
    if source.quantization != "None":
        facts.append(f"spec.quantization is {source.quantization}")
    has = size.accelerator.resource_name if size.accelerator is not None else "no accelerator"
    facts.append(f"its class has {has}")
    if size.accelerator is not None and spec.engine == "Transformers":
        facts.append("the operator's settings named no image for VLLM")
    return f"Auto: {', '.join(facts)}"


def required_memory(inspection: Inspection, source: Source) -> int:
    """Return the least bytes that serving takes: weights, one full context, the process itself."""
    generation = source.generation
    tokens = PROMPT_TOKENS + generation.max_new_tokens
    if inspection.thinking:
        tokens += generation.max_thinking_tokens
    weights = inspection.weight_bytes * (GGUF_COPIES if inspection.formats == ["gguf"] else 1)
    return weights + (inspection.kv_bytes_per_token or 0) * tokens + BASE_BYTES


def find_problem(
    source: Source, inspection: Inspection, instance_class: InstanceClassSpec, settings: Settings
) -> Problem | None:
    """Return why an inspected model cannot be served in a class; None when it can be tried."""
    engine = choose_engine(source, tuple(inspection.formats), instance_class, settings)
    if isinstance(engine, Problem):
        return engine
    needed = required_memory(inspection, source)
    accelerator = instance_class.accelerator
    on_cpu = engine == "OpenVINO"  # whatever else its class has
    if accelerator is not None and accelerator.memory is not None and not on_cpu:
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
    wanted = (source.model_id, source.quantization)
    same = [e for e in settings.embedded if (e.model_id, e.quantization) == wanted]
    for entry in same:
        if source.model_revision in (None, "main", entry.commit):
            return entry
    known = ", ".join(e.commit for e in same) or "none"
    what = source.model_id if source.quantization == "None" else " in ".join(map(str, wanted))
    text = f"no image with {what} at {source.model_revision} inside; commits: {known}"
    return Problem(Reason.EmbeddedImageMissing, text)


def read_embedded(entry: Embedded) -> Inspection:
    """Return what the administrator says of a model inside an image."""
    return Inspection(
        commit=entry.commit,
        total_bytes=entry.weight_bytes,
        weight_bytes=entry.weight_bytes,
        formats=list(entry.formats),
        chat_template=True,
        thinking=False,
    )
