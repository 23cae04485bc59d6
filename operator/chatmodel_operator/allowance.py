"""What the administrator lets authors choose: models, commits, hosts of the patient API.

Called by `rollout`. Pure. What serves already is not stopped when the settings change.
"""

import fnmatch
import re
import urllib.parse

from chatmodel_operator.api.chatmodelrevision import Source
from chatmodel_operator.settings import Settings

_COMMIT = re.compile(r"[0-9a-f]{40}")


def find_refusal(source: Source, settings: Settings) -> str:
    """Return why the settings do not allow a source, with what they do allow; empty if they do."""
    allowed = settings.allowed
    model_id, revision = source.model_id, source.model_revision
    if model_id is not None and not _matches(model_id, allowed.models):
        return f"model {model_id} is not allowed; allowed are: {', '.join(allowed.models)}"
    if model_id is not None and allowed.commits_only and not _COMMIT.fullmatch(revision or ""):
        return f"model.revision {revision} is not allowed: write the 40-hex commit"
    url = source.patient_context.url
    host = (urllib.parse.urlsplit(url).hostname or "") if url is not None else ""
    if url is not None and not _matches(host, allowed.patient_api_hosts):
        hosts = ", ".join(allowed.patient_api_hosts)
        return f"patient API host {host} is not allowed; allowed are: {hosts}"
    return ""


def _matches(text: str, patterns: tuple[str, ...]) -> bool:
    """Say whether a text matches a pattern; `*` stands for anything, case counts."""
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)
