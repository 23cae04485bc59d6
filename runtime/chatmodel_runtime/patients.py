"""Where patients come from: nowhere, the demo patients shipped here, or the origin's patient API.

Called by `triage`. Never logs; a record number leaves this module only inside the lookup.
"""

import asyncio
import importlib.resources
import json
import urllib.parse
from typing import Any, Protocol

import httpx2

Summary = dict[str, Any]
TIMEOUT_SECONDS = 30.0
MAX_SUMMARY = 4 * 1024 * 1024  # bytes


class PatientNotFound(Exception):
    """There is no such patient."""


class PatientSourceDown(Exception):
    """The patient API does not answer, or not with a summary."""


class PatientSource(Protocol):
    """Finds the summary of a patient; None means that no patient data is used at all."""

    async def find(self, mrn: str) -> Summary | None:
        """Return the summary. Raises `PatientNotFound` or `PatientSourceDown`."""

    async def close(self) -> None:
        """Close connections."""


class NoPatients:
    """Questions are answered without patient data."""

    async def find(self, mrn: str) -> Summary | None:
        """Return None for everybody."""
        return None

    async def close(self) -> None:
        """Nothing to close."""


class DemoPatients:
    """Invented patients, each under two spellings of its number."""

    def __init__(self) -> None:
        text = importlib.resources.files("chatmodel_runtime").joinpath("data/patients.json")
        entries = json.loads(text.read_text())
        self._summaries = {mrn: entry["summary"] for entry in entries for mrn in entry["mrns"]}

    async def find(self, mrn: str) -> Summary | None:
        """Return the demo patient of that number."""
        if mrn not in self._summaries:
            raise PatientNotFound
        summary: Summary = self._summaries[mrn]
        return summary

    async def close(self) -> None:
        """Nothing to close."""


class HttpPatients:
    """The origin's patient API: `GET {url}/patients/{mrn}/summary`."""

    def __init__(self, url: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._timeout = timeout_seconds
        # No proxy and no password of the environment: a record number goes to this host only.
        self._client = httpx2.AsyncClient(base_url=url, timeout=timeout_seconds, trust_env=False)

    async def find(self, mrn: str) -> Summary | None:
        """Return the patient's summary; redirects are not followed."""
        if not mrn.strip("."):
            raise PatientNotFound  # dots would be another path
        try:
            async with asyncio.timeout(self._timeout):
                body = json.loads(await self._get(mrn))
        except (httpx2.HTTPError, TimeoutError, ValueError, RecursionError):
            # Not "from": the cause's text holds the URL, and that the record number.
            raise PatientSourceDown from None
        if not isinstance(body, dict):
            raise PatientSourceDown
        return body

    async def _get(self, mrn: str) -> bytes:
        path = f"/patients/{urllib.parse.quote(mrn, safe='')}/summary"
        async with self._client.stream("GET", path) as response:
            if response.status_code == 404:
                raise PatientNotFound
            response.raise_for_status()
            body = bytearray()
            async for part in response.aiter_bytes():
                body += part
                if len(body) > MAX_SUMMARY:
                    raise PatientSourceDown
            return bytes(body)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
