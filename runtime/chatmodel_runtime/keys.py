"""API keys: every value in the mounted Secret is valid, read again when the files change.

Called by `app`. Keys are kept as hashes and compared in constant time.
"""

import hashlib
import hmac
import os
import pathlib
import secrets
import stat
import time
from collections.abc import Mapping, MutableMapping
from typing import Any

from chatmodel_runtime.errors import TryAgain
from chatmodel_runtime.settings import Auth

Mark = tuple[int, int, int]
NOBODY = ""  # who asks where no key is needed
SETTLED_NS = 1_000_000_000


class ApiKeys:
    """The keys of one folder, or of one file with a key a line."""

    def __init__(self, auth: Auth) -> None:
        self._path: pathlib.Path | None = auth.keys_dir if auth.mode == "ApiKey" else None
        self._seen: tuple[tuple[str, Mark], ...] = ()
        self._digests: tuple[bytes, ...] = ()
        self._secret = secrets.token_bytes(32)
        self._paths: list[str] = []
        self._listed: int | None = None

    def check(self) -> None:
        """Raise `TryAgain` (ApiKeyMissing) when there is no key at all: nobody could ask."""
        if self._path is not None and not self._read():
            raise TryAgain("ApiKeyMissing", f"there is no API key in {self._path}")

    def find_owner(self, headers: Mapping[str, str]) -> str | None:
        """Return a word for the valid key in a request's headers (lower-case names), if any.

        It is the same for the same key as long as this process runs, and says nothing of the key.
        """
        if self._path is None:
            return NOBODY
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = headers.get("x-api-key") or (bearer if scheme.lower() == "bearer" else "")
        digest = hashlib.sha256(given.encode(errors="surrogateescape")).digest()
        found = [hmac.compare_digest(digest, known) for known in self._read()]
        if not given or not any(found):
            return None
        return hmac.digest(self._secret, digest, "sha256").hex()

    def _read(self) -> tuple[bytes, ...]:
        seen = self._look()
        if seen != self._seen:
            texts = [pathlib.Path(path).read_bytes() for path, _ in seen]
            lines = [line.strip() for text in texts for line in text.splitlines()]
            self._digests = tuple(hashlib.sha256(line).digest() for line in lines if line)
            self._seen = seen
        return self._digests

    def _look(self) -> tuple[tuple[str, Mark], ...]:
        """Return the files and their marks: for each request, so by few system calls."""
        marked = [(path, _mark(path)) for path in self._list()]
        return tuple((path, mark) for path, mark in marked if mark is not None)

    def _list(self) -> list[str]:
        """Return the files; they are looked for again once their folder has changed."""
        assert self._path is not None
        where = os.fspath(self._path)
        try:
            changed = os.stat(where).st_mtime_ns
            if changed != self._listed:
                # A mounted Secret has hidden folders that hold the versions its files point into.
                names = sorted(name for name in os.listdir(where) if not name.startswith("."))
                self._paths = [f"{where}/{name}" for name in names]
                # What changed just now may change once more within one tick of its clock.
                is_settled = time.time_ns() - changed > SETTLED_NS
                self._listed = changed if is_settled else None
        except NotADirectoryError:
            return [where]
        except FileNotFoundError:
            return []
        return self._paths


def note_owner(scope: MutableMapping[str, Any], owner: str) -> None:
    """Write down who asks, for the routes."""
    scope.setdefault("state", {})["owner"] = owner


def read_owner(scope: Mapping[str, Any]) -> str:
    """Return who asks."""
    return str(scope["state"]["owner"])


def _mark(path: str) -> Mark | None:
    """Return what is another once a file was replaced, even within one tick of its clock."""
    try:
        found = os.stat(path)
    except FileNotFoundError:  # it went, or points to what is not there
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
