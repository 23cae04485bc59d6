"""Models on disk: inspected before they are fetched, complete or absent, checked before each load.

Layout: `<root>/<org>--<name>/<commit>/` with `manifest.json` (file → size, sha256) and `COMPLETE`,
written last. Whatever is interrupted leaves a hidden folder beside it, which the next try goes on
with; nobody ever loads from there. Called by `__main__`.
"""

import errno
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from typing import Any

from chatmodel_runtime import hub, pruning, screening
from chatmodel_runtime.errors import BadModel, TryAgain
from chatmodel_runtime.progress import Progress

MANIFEST, COMPLETE = "manifest.json", pruning.COMPLETE
FULL = (errno.ENOSPC, errno.EDQUOT)
SPARE_BYTES = 16 * 1024 * 1024
CHUNK = 1024 * 1024


def inspect(client: hub.HubClient, model_id: str, revision: str) -> dict[str, Any]:
    """Return what a model is, without its weights: `{commit, totalBytes, weightBytes, ...}`.

    Raises `BadModel` or `TryAgain`.
    """
    listing = client.list_files(model_id, revision)
    sizes = {file.name: file.size for file in listing.files}
    chosen = screening.choose_files(sizes)
    with tempfile.TemporaryDirectory() as folder:
        texts = _read_configs(client, model_id, listing.commit, sizes, pathlib.Path(folder))
    config = texts.get("config.json")
    template = _chat_template(texts)
    if not template:
        raise BadModel("ChatTemplateMissing", f"{model_id} has no chat template")
    return {
        "commit": listing.commit,
        "totalBytes": sum(sizes[name] for name in chosen),
        "weightBytes": sum(sizes[name] for name in chosen if not screening.is_config(name)),
        "kvBytesPerToken": screening.kv_bytes_per_token(config if isinstance(config, dict) else {}),
        "formats": ["safetensors"],
        "chatTemplate": True,
        "thinking": "<think>" in template,
    }


def _read_configs(
    client: hub.HubClient,
    model_id: str,
    commit: str,
    sizes: dict[str, int],
    folder: pathlib.Path,
) -> dict[str, Any]:
    """Fetch, parse and screen the configuration files."""
    read: dict[str, Any] = {}
    for name in screening.choose_files(sizes):
        if not screening.is_config(name):
            continue
        if sizes[name] > screening.MAX_CONFIG_BYTES:
            raise BadModel("UnsafeModelContent", f"{name} has {sizes[name]} bytes")
        text = client.fetch(model_id, commit, name, folder).read_text(errors="replace")
        read[name] = _parse(name, text)
    return read


def _parse(name: str, text: str) -> Any:
    if not name.endswith(".json"):
        return text
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise BadModel("ModelLoadFailed", f"{name} is not JSON") from None
    if not isinstance(body, dict):
        raise BadModel("ModelLoadFailed", f"{name} is not a JSON object")
    if name == screening.INDEX:
        screening.screen_index(body)
    # The vocabulary's keys are words of the model, not settings.
    if name not in ("vocab.json", "tokenizer.json"):
        screening.screen(name, body)
    return body


def _chat_template(texts: dict[str, Any]) -> str:
    named = texts.get("chat_template.jinja")
    inside = (texts.get("tokenizer_config.json") or {}).get("chat_template")
    return str(named or json.dumps(inside) if named or inside else "")


def model_folder(root: pathlib.Path, model_id: str, commit: str) -> pathlib.Path:
    """Return where a commit of a model lies under a root."""
    return root / model_id.replace("/", "--") / commit


def stage(
    client: hub.HubClient,
    model_id: str,
    commit: str,
    root: pathlib.Path,
    progress: Progress,
) -> pathlib.Path:
    """Put a commit's files into place, complete and hashed, or not at all; return the folder.

    Raises `BadModel` or `TryAgain`. What is there already and complete is left alone; what was
    changed since is fetched afresh. On a full volume nothing of this try is left behind.
    """
    final = model_folder(root, model_id, commit)
    if _is_intact(final, progress):
        return final
    listing = client.list_files(model_id, commit)
    files = {file.name: file for file in listing.files}
    chosen = [files[name] for name in screening.choose_files(files)]
    work = final.with_name(f".{commit}.staging")
    progress.total_bytes = sum(file.size for file in chosen)
    try:
        work.mkdir(parents=True, exist_ok=True)
        progress.phase, progress.folder = "downloading", work
        _check_space(work, progress.total_bytes)
        manifest = _fetch(client, model_id, commit, chosen, work, progress)
        _finish(work, final, model_id, commit, manifest)
    except (OSError, TryAgain) as error:
        if not _is_full(error):
            raise
        shutil.rmtree(work, ignore_errors=True)
        raise _no_room(final.parent, progress.total_bytes) from None
    return final


def _is_intact(final: pathlib.Path, progress: Progress) -> bool:
    """Say whether a model is there as it was staged; one that was changed is taken away."""
    if not (final / COMPLETE).exists():
        return False
    try:
        progress.total_bytes = progress.finished_bytes = check(final)
    except BadModel:
        pruning.remove(final)
        return False
    return True


def _is_full(error: Exception) -> bool:
    if isinstance(error, TryAgain):
        return error.reason == "InsufficientStorage"
    return isinstance(error, OSError) and error.errno in FULL


def _fetch(
    client: hub.HubClient,
    model_id: str,
    commit: str,
    chosen: list[hub.RemoteFile],
    work: pathlib.Path,
    progress: Progress,
) -> dict[str, Any]:
    """Fetch and screen the chosen files; return the manifest's entries."""
    manifest: dict[str, Any] = {}
    for file in chosen:
        path = client.fetch(model_id, commit, file.name, work)
        manifest[file.name] = _checked(path, file)
        progress.finished_bytes += file.size
        if screening.is_config(file.name):
            _parse(file.name, path.read_text(errors="replace"))
    progress.phase = "finishing"
    shutil.rmtree(work / ".cache", ignore_errors=True)
    return manifest


def _check_space(folder: pathlib.Path, needed: int) -> None:
    there = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    if shutil.disk_usage(folder).free < needed - there + SPARE_BYTES:
        raise _no_room(folder, needed)


def _no_room(folder: pathlib.Path, needed: int) -> TryAgain:
    free = shutil.disk_usage(folder).free
    text = f"the model needs {needed + SPARE_BYTES} bytes, the volume has {free} free"
    return TryAgain("InsufficientStorage", text)


def _checked(path: pathlib.Path, file: hub.RemoteFile) -> dict[str, Any]:
    """Return the manifest entry of a fetched file. Raises `BadModel` (IntegrityError)."""
    size, digest = path.stat().st_size, hash_file(path)
    if size != file.size or (file.sha256 is not None and digest != file.sha256):
        path.unlink()
        text = f"{file.name} has {size} bytes, {file.size} were promised, or another hash"
        raise BadModel("IntegrityError", text)
    return {"size": size, "sha256": digest}


def _finish(
    work: pathlib.Path,
    final: pathlib.Path,
    model_id: str,
    commit: str,
    manifest: dict[str, Any],
) -> None:
    """Write manifest and marker, flush, and give the folder its name in one step."""
    body = {"modelID": model_id, "commit": commit, "files": manifest}
    (work / MANIFEST).write_text(json.dumps(body, indent=1, sort_keys=True))
    for path in work.iterdir():
        pruning.flush(path)
    (work / COMPLETE).write_text(hash_file(work / MANIFEST))
    pruning.flush(work / COMPLETE)
    pruning.flush(work)
    if final.exists():  # without its marker: an older, broken try
        shutil.rmtree(final)
    os.rename(work, final)
    pruning.flush(final.parent)


def check(folder: pathlib.Path) -> int:
    """Check a staged model against its manifest before it is loaded; return its bytes.

    Raises `TryAgain` (CacheMissing) when it is absent or unfinished, `BadModel` (IntegrityError)
    when a file is missing, has been changed or was added.
    """
    if not (folder / COMPLETE).exists():
        raise TryAgain("CacheMissing", "the model's files are not staged")
    if not (folder / MANIFEST).exists():
        raise BadModel("IntegrityError", "the manifest is gone")
    if (folder / COMPLETE).read_text() != hash_file(folder / MANIFEST):
        raise BadModel("IntegrityError", "the manifest was changed after staging")
    files = json.loads((folder / MANIFEST).read_text())["files"]
    there = {path.name for path in folder.iterdir()} - {MANIFEST, COMPLETE}
    if there != set(files):
        odd = ", ".join(sorted(there ^ set(files))[:5])
        raise BadModel("IntegrityError", f"files differ from the manifest: {odd}")
    for name, entry in files.items():
        path = folder / name
        if path.stat().st_size != entry["size"] or hash_file(path) != entry["sha256"]:
            raise BadModel("IntegrityError", f"{name} was changed after staging")
    return sum(entry["size"] for entry in files.values())


def hash_file(path: pathlib.Path) -> str:
    """Return the sha256 of a file, as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()
