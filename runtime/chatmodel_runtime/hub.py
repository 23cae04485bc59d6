"""The Hugging Face hub: what a model is, and its files. The only importer of huggingface_hub.

Called by `model_manager` and `receiving`. Resolves names to commits, lists sizes before the first
byte, fetches single files with resumption. Errors become `BadModel` or `TryAgain` here, once.
"""

import dataclasses
import os
import pathlib
import re
import time
import urllib.parse
from typing import Any

from chatmodel_runtime import transfer
from chatmodel_runtime.errors import BadModel, TryAgain
from chatmodel_runtime.settings import COMMIT, Hub

LISTING_TIMEOUT = 30


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A file of a model: bytes, and the hash the hub promises: sha256, or git's for small ones."""

    name: str
    size: int
    sha256: str | None = None
    git_sha1: str | None = None


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a name resolved to."""

    commit: str
    files: tuple[RemoteFile, ...]


class HubClient:
    """One hub, with or without a token. The token stays in here."""

    def __init__(
        self, hub: Hub, token: str | None = None, *, patience: transfer.Patience | None = None
    ) -> None:
        os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        os.environ.setdefault("HF_HOME", "/tmp/huggingface")
        import huggingface_hub

        self._library: Any = huggingface_hub
        self._patience = patience or transfer.Patience()
        secret = token or _read_token(hub)
        self._api = huggingface_hub.HfApi(endpoint=hub.endpoint, token=secret or False)
        self._downloads = transfer.Downloader(self._api.endpoint, secret, self._patience)

    def list_files(self, model_id: str, revision: str) -> Listing:
        """Resolve a commit, tag or branch and list its files."""
        info = self._ask_for_listing(model_id, revision)
        # NB: the commit becomes the name of a folder.
        if not re.fullmatch(COMMIT, str(info.sha)):
            raise TryAgain("HubUnavailable", f"the hub names no commit for {model_id}")
        return Listing(str(info.sha), tuple(_remote_file(s) for s in info.siblings or []))

    def _ask_for_listing(self, model_id: str, revision: str) -> Any:
        """Ask, and again as long as the hub is busy and the patience lasts."""
        while True:
            started = time.monotonic()
            try:
                return self._api.model_info(
                    model_id, revision=revision, files_metadata=True, timeout=LISTING_TIMEOUT
                )
            except Exception as error:
                response = getattr(error, "response", None)
                headers = response.headers if response is not None else {}
                asked = transfer.retry_after(headers)
                lost = time.monotonic() - started
                may_pass = transfer.may_pass(error, response)
                if not may_pass or not self._patience.wait(asked, lost):
                    raise self._translate(error, response, model_id, revision) from None

    def _translate(
        self, error: Exception, response: Any, model_id: str, revision: str
    ) -> BadModel | TryAgain:
        """Turn what the library raises into our two kinds; its texts, with URLs, stay behind."""
        if isinstance(error, self._library.errors.HFValidationError):
            return BadModel("ModelNotFound", f"{model_id} can be no model's name")
        if response is None:
            return TryAgain("HubUnavailable", f"hub: {type(error).__name__}")
        code = str(response.headers.get("X-Error-Code", ""))
        asked = transfer.retry_after(response.headers)
        refused = transfer.Refused(response.status_code, code, asked)
        return refusal(refused, model_id, revision)

    def fetch(
        self,
        model_id: str,
        commit: str,
        file: RemoteFile,
        folder: pathlib.Path,
        *,
        stop: int | None = None,
    ) -> pathlib.Path:
        """Fetch a file, or its first `stop` bytes, as `<name>.part`, going on with what is there.

        The bytes are not checked here.
        """
        name = urllib.parse.quote(file.name)
        url = f"{self._api.endpoint}/{model_id}/resolve/{commit}/{name}"
        part = folder / (file.name + transfer.PART)
        length = file.size if stop is None else min(stop, file.size)
        try:
            self._downloads.fetch(transfer.Order(url, part, file.size, length))
        except transfer.Refused as refused:
            raise refusal(refused, model_id, commit) from None
        return part


def refusal(refused: transfer.Refused, model_id: str, revision: str) -> BadModel | TryAgain:
    """Return the failure that an answer of the hub means, as far as the hub lets it be told."""
    status, code = refused.status, refused.code
    if code == "GatedRepo":
        text = f"{model_id} is gated: its owner has not let this token in"
        return TryAgain("ModelGated", text)
    if code == "RevisionNotFound":
        return BadModel("RevisionNotFound", f"{model_id} has no revision {revision[:100]}")
    if code == "EntryNotFound":
        return BadModel("IntegrityError", f"{model_id} lists a file that it does not have")
    if status in (401, 403):
        text = f"the hub answers {status} for {model_id}: not there, private, or a wrong token"
        return TryAgain("HubUnauthorizedOrNotFound", text)
    if code == "RepoNotFound":
        return BadModel("ModelNotFound", f"the hub has no model {model_id}")
    text = f"the hub answers {status or 'nothing'} for {model_id}"
    if refused.asked is not None:
        text += f" and asks to wait {refused.asked:.0f} s"
    return TryAgain("HubUnavailable", text)


def _remote_file(sibling: Any) -> RemoteFile:
    """Return a file of a listing. Only small files are git's own, with git's hash."""
    if sibling.lfs:
        return RemoteFile(sibling.rfilename, sibling.size or 0, sha256=sibling.lfs.sha256)
    return RemoteFile(sibling.rfilename, sibling.size or 0, git_sha1=sibling.blob_id)


def _read_token(hub: Hub) -> str | None:
    """Return the token of the file. Raises `TryAgain` when it holds something else."""
    if hub.token_file is None:
        return None
    try:
        token = hub.token_file.read_bytes().decode(errors="replace").strip()
    except OSError:
        return None
    is_wrong = not re.fullmatch(r"[!-~]*", token)  # a header holds nothing else
    if token and hub.token_pattern is not None:
        is_wrong |= not re.fullmatch(hub.token_pattern, token)
    if is_wrong:
        text = f"{hub.token_file.name} holds no hub token: it was not sent anywhere"
        raise TryAgain("HubUnauthorizedOrNotFound", text)
    return token or None
