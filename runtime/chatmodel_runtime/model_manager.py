"""Models on disk: inspected before they are fetched, complete or absent, checked before each load.

Layout: `<root>/<org>--<name>/<commit>/`, or `<commit>-Int4/` where that was asked for, with
`manifest.json` (file → size, sha256) and `COMPLETE`, written last. Whatever is interrupted leaves a
hidden folder beside it, which the next try goes on with; nobody ever loads from there. Called by
`commands`.
"""

import errno
import io
import json
import pathlib
import shutil
import stat
import tempfile
from collections.abc import Sequence
from typing import Any

from chatmodel_runtime import (
    claiming,
    configs,
    formats,
    gguf_header,
    hub,
    pruning,
    receiving,
    screening,
    settings,
    transfer,
)
from chatmodel_runtime.errors import BadModel, TryAgain
from chatmodel_runtime.progress import Progress
from chatmodel_runtime.receiving import hash_file

MANIFEST, COMPLETE = "manifest.json", pruning.COMPLETE
FULL = (errno.ENOSPC, errno.EDQUOT)
SPARE_BYTES = 16 * 1024 * 1024
# The head of a GGUF file with a vocabulary of 150,000 words; of longer ones more is fetched.
HEAD_BYTES = 8 * 1024 * 1024


def inspect(
    client: hub.HubClient, model_id: str, revision: str, quantization: str = formats.NONE
) -> dict[str, Any]:
    """Return what a model is, without its weights: `{commit, files, totalBytes, ...}`.

    Raises `BadModel` or `TryAgain`.
    """
    listing = client.list_files(model_id, revision)
    wish = _wish(model_id, quantization)
    choice = _choose(listing, wish)
    chosen = _files_of(listing, choice.names)
    sizes = {file.name: file.size for file in chosen}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        texts = _read_configs(client, model_id, listing.commit, chosen, folder)
        shape, template = texts.get("config.json", {}), configs.chat_template(texts)
        if choice.format == formats.GGUF:
            try:
                header = _read_gguf(client, model_id, listing.commit, chosen[-1], folder)
            except gguf_header.WrongTypes as wrong:
                advice = formats.advise({file.name for file in listing.files}, wish, choice)
                raise BadModel(wrong.reason, f"{wrong.message}; {advice}") from None
            shape, template = header.shape(), template or header.chat_template()
    if not template:
        raise BadModel("ChatTemplateMissing", f"{model_id} has no chat template")
    return {
        "commit": listing.commit,
        "files": choice.report,
        "totalBytes": sum(sizes.values()),
        "weightBytes": sum(sizes[name] for name in sizes if not formats.is_config(name)),
        "kvBytesPerToken": configs.kv_bytes_per_token(shape),
        "formats": [choice.format],
        "chatTemplate": True,
        "thinking": "<think>" in template,
    }


def _wish(model_id: str, quantization: str) -> formats.Wish:
    return formats.Wish(quantization, model_id.partition("/")[2])


def _choose(listing: hub.Listing, wish: formats.Wish) -> formats.Choice:
    return screening.choose([file.name for file in listing.files], wish)


def _files_of(listing: hub.Listing, names: Sequence[str]) -> list[hub.RemoteFile]:
    """Return the files of these names, unless a size is none that they can have."""
    files = {file.name: file for file in listing.files}
    chosen = [files[name] for name in names]
    for file in chosen:
        if file.size < 0:
            raise BadModel("UnsafeModelContent", f"{file.name} has {file.size} bytes")
        if formats.is_config(file.name):
            configs.check_size(file.name, file.size)
    return chosen


def _read_configs(
    client: hub.HubClient,
    model_id: str,
    commit: str,
    chosen: Sequence[hub.RemoteFile],
    folder: pathlib.Path,
) -> dict[str, Any]:
    """Fetch, parse and screen the configuration files."""
    read: dict[str, Any] = {}
    taken = [file.name for file in chosen]
    for file in chosen:
        if formats.is_config(file.name):
            data = client.fetch(model_id, commit, file, folder).read_bytes()
            read[file.name] = configs.read(file.name, data, taken)
    return read


def _read_gguf(
    client: hub.HubClient,
    model_id: str,
    commit: str,
    file: hub.RemoteFile,
    folder: pathlib.Path,
) -> gguf_header.Header:
    """Return the head of a GGUF file, of which no more is fetched than that. Raises `BadModel`."""
    for length in (HEAD_BYTES, gguf_header.MAX_HEAD_BYTES):
        data = client.fetch(model_id, commit, file, folder, stop=length).read_bytes()
        try:
            return gguf_header.read(io.BytesIO(data), file.size, file.name)
        except gguf_header.EndsEarly:
            if len(data) == file.size:
                break
    raise BadModel("UnsafeModelContent", f"{file.name} ends inside its head")


def model_folder(
    root: pathlib.Path, model_id: str, commit: str, quantization: str = formats.NONE
) -> pathlib.Path:
    """Return where a commit of a model lies under a root: each quantization for itself."""
    return root / model_id.replace("/", "--") / settings.folder_of(commit, quantization)


def stage(
    client: hub.HubClient,
    model_id: str,
    commit: str,
    root: pathlib.Path,
    progress: Progress,
    *,
    quantization: str = formats.NONE,
    files: Sequence[str] | None = None,
) -> pathlib.Path:
    """Put a commit's files into place, complete and hashed, or not at all; return the folder.

    `files` is what `inspect` reported; without it they are chosen now. Raises `BadModel` or
    `TryAgain`. What is there already and complete is left alone; of what was changed since, only
    what is still right is kept. On a full volume nothing of this try is left.
    """
    final = model_folder(root, model_id, commit, quantization)
    if _is_intact(final, progress):
        return final
    listing = client.list_files(model_id, commit)
    if listing.commit != commit:
        raise TryAgain("HubUnavailable", f"the hub answers with the commit {listing.commit}")
    if files is None:
        names = _choose(listing, _wish(model_id, quantization)).names
    else:
        names = screening.take([file.name for file in listing.files], files)
    chosen = _files_of(listing, names)
    weights = [file.name for file in chosen if not formats.is_config(file.name)]
    work = claiming.claim(final, weights)
    total = sum(file.size for file in chosen)
    try:
        progress.begin(total, _bytes_in(work), work)
        _check_space(work, total)
        entries = receiving.receive(client, model_id, commit, chosen, work=work, progress=progress)
        progress.phase = "finishing"
        _finish(work, final, {"modelID": model_id, "commit": commit, "files": entries})
    except (OSError, TryAgain) as error:
        if _is_full(error):
            shutil.rmtree(work, ignore_errors=True)
            raise _no_room(final.parent, total) from None
        if isinstance(error, FileNotFoundError):
            raise transfer.taken_over() from None
        raise
    return final


def _is_intact(final: pathlib.Path, progress: Progress) -> bool:
    """Say whether a model is there as it was staged; one that was changed is none any more."""
    if not (final / COMPLETE).exists():
        return False
    try:
        progress.total_bytes = progress.finished_bytes = progress.found_bytes = check(final)
    except (BadModel, TryAgain):
        (final / COMPLETE).unlink(missing_ok=True)
        pruning.flush(final)
        return False
    return True


def _is_full(error: Exception) -> bool:
    if isinstance(error, TryAgain):
        return error.reason == "InsufficientStorage"
    return isinstance(error, OSError) and error.errno in FULL


def _bytes_in(folder: pathlib.Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _check_space(folder: pathlib.Path, needed: int) -> None:
    if shutil.disk_usage(folder).free < needed - _bytes_in(folder) + SPARE_BYTES:
        raise _no_room(folder, needed)


def _no_room(folder: pathlib.Path, needed: int) -> TryAgain:
    free = shutil.disk_usage(folder).free
    text = f"the model needs {needed + SPARE_BYTES} bytes, the volume has {free} free"
    return TryAgain("InsufficientStorage", text)


def _finish(work: pathlib.Path, final: pathlib.Path, manifest: dict[str, Any]) -> None:
    """Write manifest and marker, flush, and give the folder its name in one step."""
    (work / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
    for path in work.iterdir():
        pruning.flush(path)
    (work / COMPLETE).write_text(hash_file(work / MANIFEST))
    pruning.flush(work / COMPLETE)
    pruning.flush(work)
    try:
        work.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if (final / COMPLETE).exists():  # another process was quicker; its files were hashed too
            pruning.remove(work)
            return
        shutil.rmtree(final)
        work.rename(final)
    pruning.flush(final.parent)


def check(folder: pathlib.Path) -> int:
    """Check a staged model against its manifest before it is loaded; return its bytes.

    Raises `TryAgain` (CacheMissing) when it is absent or unfinished, `BadModel` (IntegrityError)
    when a file is missing, has been changed or was added.
    """
    if not (folder / COMPLETE).exists():
        raise TryAgain("CacheMissing", "the model's files are not staged")
    try:
        return _check(folder)
    except FileNotFoundError:  # pruned, or staged anew, in this very moment
        raise TryAgain("CacheMissing", "the model went away while it was checked") from None


def _check(folder: pathlib.Path) -> int:
    there = _plain_files(folder)
    if MANIFEST not in there:
        raise BadModel("IntegrityError", "the manifest is gone")
    if (folder / COMPLETE).read_bytes() != hash_file(folder / MANIFEST).encode():
        raise BadModel("IntegrityError", "the manifest was changed after staging")
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        sizes = {name: (int(entry["size"]), entry["sha256"]) for name, entry in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadModel("IntegrityError", "the manifest is none") from None
    if there - {MANIFEST, COMPLETE} != set(sizes):
        odd = ", ".join(ascii(n) for n in sorted(there ^ {MANIFEST, COMPLETE, *sizes})[:5])
        raise BadModel("IntegrityError", f"files differ from the manifest: {odd}")
    for name, (size, digest) in sizes.items():
        if (folder / name).stat().st_size != size or hash_file(folder / name) != digest:
            raise BadModel("IntegrityError", f"{name} was changed after staging")
    return sum(size for size, _ in sizes.values())


def _plain_files(folder: pathlib.Path) -> set[str]:
    """Return the names in a folder that holds plain files alone: no links, no folders."""
    for path in folder.iterdir():
        if not stat.S_ISREG(path.lstat().st_mode):
            raise BadModel("IntegrityError", f"{path.name!a} is no plain file")
    return {path.name for path in folder.iterdir()}
