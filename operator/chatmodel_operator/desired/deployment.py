"""The Deployment of one revision: candidate, serving, or kept at zero replicas."""

import json

from chatmodel_operator import names
from chatmodel_operator.desired.metadata import Manifest, build_metadata
from chatmodel_operator.observed import ChatModel, Revision, format_label_time


def build_deployment(chatmodel: ChatModel, revision: Revision, replicas: int) -> Manifest:
    """Return the Deployment of a revision with its stored template, byte for byte."""
    metadata = build_metadata(chatmodel, revision.name, revision.name, names.ROLE_SERVE)
    metadata["labels"] |= _stamp(revision)
    metadata["annotations"] = _receipt(revision)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 0,
            "selector": {"matchLabels": names.selector(chatmodel.name, revision.name)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "template": revision.spec.template,
        },
    }


def _stamp(revision: Revision) -> dict[str, str | None]:
    """Return the verdict and its time as labels: what is left when the revision object is lost.

    None takes away what was said of an earlier attempt.
    """
    status = revision.status
    at = status.failed_at if revision.is_failed else status.verified_at
    return {names.LABEL_VERDICT: status.verdict, names.LABEL_VERDICT_AT: format_label_time(at)}


def _receipt(revision: Revision) -> dict[str, str | None]:
    """Return the rest of it as annotations; values of labels are short and know few signs."""
    receipt: dict[str, str | None] = {
        names.ANNOTATION_NUMBER: str(revision.number),
        names.ANNOTATION_SOURCE: revision.source_text,
    }
    if revision.spec.commit is not None:
        receipt[names.ANNOTATION_COMMIT] = revision.spec.commit
    if revision.spec.files is not None:
        receipt[names.ANNOTATION_FILES] = json.dumps(revision.spec.files)
    failed = revision.is_failed
    receipt[names.ANNOTATION_REASON] = revision.status.reason if failed else None
    receipt[names.ANNOTATION_MESSAGE] = revision.status.message if failed else None
    return receipt
