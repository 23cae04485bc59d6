"""The files of a commit, one after the other: fetched, hashed, screened. Raises what is wrong.

Called by `model_manager`, in a folder that is this process's own. A file gets its name only when
its hash is right; until then it has one that no loader reads.
"""

import dataclasses
import hashlib
import logging
import os
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

from chatmodel_runtime import configs, formats, hub, pruning, transfer, weights
from chatmodel_runtime.errors import BadModel
from chatmodel_runtime.progress import Progress

logger = logging.getLogger(__name__)
CHUNK = 1024 * 1024
ASIDE = ".bad"


def receive(
    client: hub.HubClient,
    model_id: str,
    commit: str,
    chosen: Sequence[hub.RemoteFile],
    *,
    work: pathlib.Path,
    progress: Progress,
) -> dict[str, Any]:
    """Bring all files into a folder; return the manifest's entries.

    Raises `BadModel`: IntegrityError when a file's hash is wrong in a fresh download too.
    """
    taken = [file.name for file in chosen]
    manifest: dict[str, Any] = {}
    for file in chosen:
        source = Source(client, model_id, commit, file)
        digest = _obtain(source, work)
        if formats.is_config(file.name):
            digest = _screen(work / file.name, taken) or digest
        size = (work / file.name).stat().st_size
        manifest[file.name] = {"size": size, "sha256": digest}
        progress.finish(file.size)
    for name in taken:  # an IR's head is held against its .bin
        if not formats.is_config(name):
            weights.check(work / name, name)
    return manifest


@dataclasses.dataclass(frozen=True)
class Source:
    """One file of one commit on one hub."""

    client: hub.HubClient
    model_id: str
    commit: str
    file: hub.RemoteFile


def _obtain(source: Source, work: pathlib.Path) -> str:
    """Have the file under its name, its bytes as the hub promised them; return their sha256.

    Wrong bytes are set aside. What was on the disk, whole or begun, may have been changed there:
    only bytes that came in one go from the hub speak against the model, and only twice.
    """
    file = source.file
    path = work / file.name
    part = path.with_name(path.name + transfer.PART)
    if path.exists():
        digest, fault = _weigh(path, file)
        if fault is None:
            return digest
        _set_aside(path, path, fault)
    fresh = 0
    while True:
        fresh += not part.exists()
        source.client.fetch(source.model_id, source.commit, file, work)
        digest, fault = _weigh(part, file)
        if fault is None:
            break
        _set_aside(part, path, fault)
        if fresh == 2:
            raise BadModel("IntegrityError", f"{fault}, in a fresh download too")
    pruning.flush(part)
    os.replace(part, path)
    path.with_name(path.name + ASIDE).unlink(missing_ok=True)
    return digest


def _weigh(path: pathlib.Path, file: hub.RemoteFile) -> tuple[str, str | None]:
    """Return a file's sha256, and how it differs from what the hub promised."""
    size, digest = path.stat().st_size, hash_file(path)
    fault = None
    if size != file.size:
        fault = f"{file.name} has {size} bytes, {file.size} were promised"
    elif file.sha256 not in (None, digest):
        fault = f"{file.name} has the hash {digest}, {file.sha256} was promised"
    elif file.git_sha1 is not None and git_hash(path.read_bytes()) != file.git_sha1:
        fault = f"{file.name} has another hash than git's {file.git_sha1}, which was promised"
    return digest, fault


def _set_aside(path: pathlib.Path, name: pathlib.Path, fault: str) -> None:
    """Put wrong bytes where no loader looks and nothing is gone on with, for whoever asks why."""
    logger.warning("set aside", extra={"fault": fault})
    size = path.stat().st_size
    if shutil.disk_usage(path.parent).free > 2 * size:
        os.replace(path, name.with_name(name.name + ASIDE))
    else:  # the room is needed
        path.unlink()


def _screen(path: pathlib.Path, taken: Sequence[str]) -> str | None:
    """Refuse what asks for code; write anew what leads to other places, and return its sha256."""
    cleaned = configs.clean(path.name, configs.read(path.name, path.read_bytes(), taken))
    if cleaned is None:
        return None
    path.write_bytes(cleaned)
    return hash_file(path)


def hash_file(path: pathlib.Path) -> str:
    """Return the sha256 of a file, as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def git_hash(data: bytes) -> str:
    """Return the hash under which git keeps a file."""
    head = f"blob {len(data)}\0".encode()
    return hashlib.sha1(head + data, usedforsecurity=False).hexdigest()
