"""ChatModelRevision objects: as first created, and what is filled in once."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

from chatmodel_operator import resolution
from chatmodel_operator.api.chatmodelrevision import (
    KIND,
    SET_ONCE,
    ChatModelRevisionSpec,
    Inspection,
    Source,
)
from chatmodel_operator.api.fields import GROUP, VERSION
from chatmodel_operator.api.instanceclass import InstanceClassSpec
from chatmodel_operator.desired import pod
from chatmodel_operator.desired.metadata import Manifest, build_metadata
from chatmodel_operator.observed import ChatModel, Revision
from chatmodel_operator.settings import Settings

RENDERER_VERSION = importlib.metadata.version("chatmodel-operator")


def build_revision(
    chatmodel: ChatModel,
    *,
    name: str,
    number: int,
    source: Source,
    instance_class: InstanceClassSpec | None,
    settings: Settings,
    commit: str | None = None,
    files: Sequence[str] | None = None,
    template: Mapping[str, Any] | None = None,
) -> Manifest:
    """Return a new revision, with its template when nobody has to be asked what the model is.

    `commit` is known for one that repeats another, `files` and `template` for one that was lost.
    """
    spec = ChatModelRevisionSpec.model_validate(
        {
            "chat_model_name": chatmodel.name,
            "number": number,
            "source": source,
            "instance_class": instance_class,
            "commit": commit,
            "files": list(files) if files is not None else None,
            "template": dict(template) if template is not None else None,
        }
    )
    whole = _complete(chatmodel.name, name, spec, settings) if template is None else None
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": build_metadata(chatmodel, name, name),
        "spec": (whole or spec).dump(),
    }


def build_bearings(chatmodel: ChatModel, name: str) -> Manifest:
    """Return what tells whose a revision is: all of it that may be written again."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": build_metadata(chatmodel, name, name),
    }


def build_preparation(
    chatmodel: ChatModel,
    revision: Revision,
    inspection: Inspection | None,
    instance_class: InstanceClassSpec | None,
    settings: Settings,
) -> Manifest:
    """Return the spec fields that can be filled in now: class, inspection, files, template."""
    chosen = revision.spec.instance_class or instance_class
    if chosen is None:
        return {}
    found = revision.spec.inspection or inspection
    spec = revision.spec.model_copy(update={"instance_class": chosen, "inspection": found})
    whole = _complete(chatmodel.name, revision.name, spec, settings)
    if whole is None:
        return {"instanceClass": chosen.dump()}
    body = whole.dump()
    return {key: body[key] for key in SET_ONCE if key in body}


def _complete(
    chatmodel: str, name: str, spec: ChatModelRevisionSpec, settings: Settings
) -> ChatModelRevisionSpec | None:
    """Return the spec with engine and template; None while class or model are not known.

    None also for what cannot be served: `verdicts.fail_what_cannot_be_served` says why.
    """
    source, size, known = spec.source, spec.instance_class, _what_is_known(spec, settings)
    if size is None or (known is None and source.mode != "mock"):
        return None
    if known is not None and resolution.find_problem(source, known, size, settings) is not None:
        return None
    formats = tuple(known.formats) if known is not None else ()
    engine = resolution.choose_engine(source, formats, size, settings)
    found: dict[str, Any] = {"engine": engine, "renderer_version": RENDERER_VERSION}
    if known is not None:
        found |= {"commit": known.commit, "files": known.files}
    whole = spec.model_copy(update=found)
    template = pod.build_template(chatmodel, name, whole, settings)
    return whole.model_copy(update={"template": template})


def _what_is_known(spec: ChatModelRevisionSpec, settings: Settings) -> Inspection | None:
    """Return what inspection, or the administrator, says of a model; None of a mock."""
    if spec.source.cache_strategy != "Embedded":
        return spec.inspection
    entry = resolution.find_embedded(spec.source, settings)
    return None if isinstance(entry, resolution.Problem) else resolution.read_embedded(entry)
