"""The Hugging Face hub: what a model is, and its files. The only importer of huggingface_hub.

Called by `model_manager`. Resolves names to commits, lists sizes before the first byte, fetches
single files with resumption. Errors become `BadModel` or `TryAgain` here, once.
"""

import contextlib
import dataclasses
import errno
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from chatmodel_runtime.errors import BadModel, TryAgain
from chatmodel_runtime.settings import Hub

ETAG_TIMEOUT = 10
LISTING_TRIES = 3
BUSY = frozenset({429, 500, 502, 503, 504})
LONGEST_PAUSE = 20.0


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A file of a model: bytes, and the sha256 where the hub promises one."""

    name: str
    size: int
    sha256: str | None


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a name resolved to."""

    commit: str
    files: tuple[RemoteFile, ...]


class HubClient:
    """One hub, with or without a token. The token stays in here."""

    def __init__(self, hub: Hub, token: str | None = None) -> None:
        os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
        os.environ["HF_HUB_DISABLE_XET"] = "1"
        os.environ.setdefault("HF_HOME", "/tmp/huggingface")
        import huggingface_hub

        self._library: Any = huggingface_hub
        self._token: str | bool = token or _read_token(hub) or False
        self._endpoint = hub.endpoint
        self._api = huggingface_hub.HfApi(endpoint=hub.endpoint, token=self._token)

    def list_files(self, model_id: str, revision: str) -> Listing:
        """Resolve a commit, tag or branch and list its files."""
        info = self._ask_for_listing(model_id, revision)
        files = tuple(
            RemoteFile(s.rfilename, s.size or 0, s.lfs.sha256 if s.lfs else None)
            for s in info.siblings or []
        )
        return Listing(str(info.sha), files)

    def _ask_for_listing(self, model_id: str, revision: str) -> Any:
        """Ask, and again when the hub is busy: at most `LISTING_TRIES` times."""
        for tries_left in reversed(range(LISTING_TRIES)):
            try:
                return self._api.model_info(
                    model_id, revision=revision, files_metadata=True, timeout=30
                )
            except Exception as error:
                if _status(error) not in BUSY or not tries_left:
                    raise self._translate(error, model_id, revision) from None
                time.sleep(_retry_after(error))
        raise AssertionError("the loop above returns or raises")

    def fetch(self, model_id: str, commit: str, name: str, folder: pathlib.Path) -> pathlib.Path:
        """Fetch one file of a commit into a folder, going on where an earlier try was cut."""
        with self._errors(model_id, commit):
            path = self._library.hf_hub_download(
                model_id,
                name,
                revision=commit,
                local_dir=folder,
                token=self._token,
                endpoint=self._endpoint,
                etag_timeout=ETAG_TIMEOUT,
            )
        return pathlib.Path(path)

    @contextlib.contextmanager
    def _errors(self, model_id: str, revision: str) -> Iterator[None]:
        """Turn what the library raises into our two kinds; its texts, with URLs, stay behind."""
        try:
            yield
        except Exception as error:
            raise self._translate(error, model_id, revision) from None

    def _translate(self, error: Exception, model_id: str, revision: str) -> Exception:
        library = self._library.errors
        # NB: order matters: a gated repository's error is also a missing one's, and a hub that
        # went away during a download also a missing file's.
        table: tuple[tuple[type[Exception], Callable[[], Exception]], ...] = (
            (library.GatedRepoError, lambda: _gated(model_id)),
            (library.RevisionNotFoundError, lambda: _no_revision(model_id, revision)),
            (library.RepositoryNotFoundError, lambda: _missing(model_id, _status(error))),
            (library.LocalEntryNotFoundError, lambda: _http(model_id, 0)),
            (library.EntryNotFoundError, lambda: _no_file(model_id)),
            (library.HFValidationError, lambda: _missing(model_id, 404)),
            (library.HfHubHTTPError, lambda: _http(model_id, _status(error))),
        )
        for kind, make in table:
            if isinstance(error, kind):
                return make()
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return TryAgain("InsufficientStorage", "no space left on the volume")
        # What is left are transport errors of whichever HTTP client the library uses.
        return TryAgain("HubUnavailable", f"hub: {type(error).__name__}")


def _gated(model_id: str) -> TryAgain:
    text = f"{model_id} is gated: its owner has not let this token in"
    return TryAgain("ModelGated", text)


def _no_revision(model_id: str, revision: str) -> BadModel:
    return BadModel("RevisionNotFound", f"{model_id} has no revision {revision}")


def _no_file(model_id: str) -> BadModel:
    return BadModel("IntegrityError", f"{model_id} lists a file that it does not have")


def _retry_after(error: Any) -> float:
    """Return the seconds the hub asks to wait, within reason; two when it does not say."""
    text = str(error.response.headers.get("Retry-After", ""))
    return min(float(text), LONGEST_PAUSE) if text.isdigit() else 2.0


def _status(error: Any) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", 0) or 0)


def _missing(model_id: str, status: int) -> BadModel | TryAgain:
    if status in (401, 403):
        text = f"the hub answers {status} for {model_id}: not there, private, or a wrong token"
        return TryAgain("HubUnauthorizedOrNotFound", text)
    return BadModel("ModelNotFound", f"the hub has no model {model_id}")


def _http(model_id: str, status: int) -> BadModel | TryAgain:
    if status in (401, 403):
        return _missing(model_id, status)
    return TryAgain("HubUnavailable", f"the hub answers {status or 'nothing'} for {model_id}")


def _read_token(hub: Hub) -> str | None:
    """Return the token of the file. Raises `TryAgain` when it holds something else."""
    if hub.token_file is None:
        return None
    try:
        token = hub.token_file.read_text().strip()
    except OSError:
        return None
    if token and hub.token_pattern is not None and not re.fullmatch(hub.token_pattern, token):
        text = f"{hub.token_file.name} holds no hub token: it was not sent anywhere"
        raise TryAgain("HubUnauthorizedOrNotFound", text)
    return token or None
