"""Looking for a patient's data where none may be: what to plant, where to look, how.

The evidence of a run is everything that came out of a server: both streams, every answer but the
fields that may name a patient, the management port's answers, and what lies in its folders.
"""

import base64
import binascii
import dataclasses
import json
import pathlib
from typing import Any

from raw_http import Answer

MRN, QUERY, KEY = "MRN-CANARY-4711", "canary-query-0815", "canary-key-2342"
CONDITION = "canary-condition-3141"  # in the patient's record
SECRETS = (MRN, QUERY, KEY, CONDITION)
PLACES = ("standard output", "standard error", "answers", "management", "files")
# All that /triage may repeat: of a 200 these fields, of a patient's 404 the number.
MAY_NAME = ("patient_mrn", "query", "response")


def leaks(text: str | bytes) -> set[str]:
    """Return which secrets a text holds: as they are, or in hexadecimal or base64."""
    seen = text.encode() if isinstance(text, str) else text
    lower = seen.lower()
    return {
        secret
        for secret in SECRETS
        if secret.lower().encode() in lower
        or binascii.hexlify(secret.encode()) in lower
        or any(form in seen for form in _base64(secret.encode()))
    }


def _base64(secret: bytes) -> list[bytes]:
    """Return what a longer text's base64 holds of it, wherever in the text it begins."""
    forms = []
    for offset in range(3):
        whole = base64.b64encode(b"x" * offset + secret)
        forms.append(whole[(4 if offset else 0) : -4])
    return forms


@dataclasses.dataclass
class Evidence:
    """What came out of one server."""

    answers: list[bytes] = dataclasses.field(default_factory=list)
    management: list[bytes] = dataclasses.field(default_factory=list)
    statuses: list[int] = dataclasses.field(default_factory=list)

    def add(self, answer: Answer) -> Answer:
        """Keep an answer without the fields that may name a patient."""
        self.statuses.append(answer.status)
        self.answers.append(_without_fields(answer))
        return answer

    def find(self, stdout: pathlib.Path, stderr: pathlib.Path, folder: pathlib.Path) -> set[str]:
        """Return the places where a secret is; `folder` holds all that the server may write to."""
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        written = [b"\n".join([str(path).encode(), path.read_bytes()]) for path in files]
        seen = {
            "standard output": [stdout.read_bytes()],
            "standard error": [stderr.read_bytes()],
            "answers": self.answers,
            "management": self.management,
            "files": written,
        }
        assert tuple(seen) == PLACES
        return {place for place, texts in seen.items() if any(leaks(text) for text in texts)}


def _without_fields(answer: Answer) -> bytes:
    top = answer.raw[: len(answer.raw) - len(answer.body)]
    if answer.status not in (200, 404):
        return answer.raw
    try:
        body: dict[str, Any] = json.loads(answer.body)
    except ValueError:
        return answer.raw
    if answer.status == 200:
        body = {key: value for key, value in body.items() if key not in MAY_NAME}
    elif isinstance(body.get("detail"), dict):
        body["detail"].pop("patient_mrn", None)
    return top + json.dumps(body).encode()
