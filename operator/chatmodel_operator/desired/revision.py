"""ChatModelRevision objects: as first created, and what is filled in once."""

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from chatmodel_operator import resolution
from chatmodel_operator.api.chatmodelrevision import (
    KIND,
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


def build_revision(
    chatmodel: ChatModel,
    *,
    name: str,
    number: int,
    source: Source,
    instance_class: InstanceClassSpec | None,
    commit: str | None = None,
    template: Mapping[str, Any] | None = None,
) -> Manifest:
    """Return a new revision, before anything is known but what was asked for.

    `commit` is known for one that repeats another, `template` for one that was lost.
    """
    spec = ChatModelRevisionSpec.model_validate(
        {
            "chat_model_name": chatmodel.name,
            "number": number,
            "source": source,
            "instance_class": instance_class,
            "commit": commit,
            "template": dict(template) if template is not None else None,
        }
    )
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": build_metadata(chatmodel, name, name),
        "spec": spec.dump(),
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
    """Return the spec fields that can be filled in now: class, inspection, engine, template."""
    spec = revision.spec
    chosen = spec.instance_class or instance_class
    found = spec.inspection or inspection
    if chosen is None:
        return {}
    known = _what_is_known(revision, found, settings)
    if known is None:
        return {"instanceClass": chosen.dump()}
    commit, formats = known
    engine = resolution.choose_engine(spec.source, formats, chosen, settings)
    if isinstance(engine, resolution.Problem):
        return {"instanceClass": chosen.dump()}
    whole = spec.model_copy(
        update={
            "instance_class": chosen,
            "inspection": found,
            "commit": commit,
            "engine": engine,
            "renderer_version": importlib.metadata.version("chatmodel-operator"),
        }
    )
    template = pod.build_template(chatmodel.name, revision.name, whole, settings)
    once = ("instanceClass", "inspection", "commit", "engine", "rendererVersion")
    body = whole.dump()
    return {key: body[key] for key in once if key in body} | {"template": template}


def _what_is_known(
    revision: Revision, found: Inspection | None, settings: Settings
) -> tuple[str | None, tuple[str, ...]] | None:
    """Return commit and formats of the weights; None while nobody has said what they are."""
    if revision.is_mock:
        return None, ()
    if revision.is_embedded:
        entry = resolution.find_embedded(revision.spec.source, settings)
        return (entry.commit, entry.formats) if not isinstance(entry, resolution.Problem) else None
    return (found.commit, tuple(found.formats)) if found is not None else None
