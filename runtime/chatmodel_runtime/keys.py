"""API keys: every value in the mounted Secret is valid, read again when the files change.

Called by `app`. Keys are kept as hashes and compared in constant time.
"""

import hashlib
import hmac
import pathlib
from collections.abc import Mapping

from chatmodel_runtime.errors import TryAgain
from chatmodel_runtime.settings import Auth


class ApiKeys:
    """The keys of one folder, or of one file with a key a line."""

    def __init__(self, auth: Auth) -> None:
        self._path: pathlib.Path | None = auth.keys_dir if auth.mode == "ApiKey" else None
        self._seen: object = None
        self._digests: tuple[bytes, ...] = ()

    def check(self) -> None:
        """Raise `TryAgain` (ApiKeyMissing) when there is no key at all: nobody could ask."""
        if self._path is not None and not self._read():
            raise TryAgain("ApiKeyMissing", f"there is no API key in {self._path}")

    def allows(self, headers: Mapping[str, str]) -> bool:
        """Say whether a request's headers (lower-case names) carry a valid key."""
        if self._path is None:
            return True
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = headers.get("x-api-key") or (bearer if scheme.lower() == "bearer" else "")
        digest = hashlib.sha256(given.encode(errors="surrogateescape")).digest()
        found = [hmac.compare_digest(digest, known) for known in self._read()]
        return bool(given) and any(found)

    def _read(self) -> tuple[bytes, ...]:
        files = self._files()
        seen = tuple((path, _mark(path)) for path in files)
        if seen != self._seen:
            lines = [line.strip() for path in files for line in path.read_bytes().splitlines()]
            self._digests = tuple(hashlib.sha256(line).digest() for line in lines if line)
            self._seen = seen
        return self._digests

    def _files(self) -> list[pathlib.Path]:
        assert self._path is not None
        if self._path.is_file():
            return [self._path]
        # A mounted Secret has hidden folders that hold the versions its files point into.
        return sorted(p for p in self._path.glob("[!.]*") if p.is_file())


def _mark(path: pathlib.Path) -> tuple[int, int, int]:
    """Return what is another once a file was replaced, even within one tick of its clock."""
    found = path.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size
