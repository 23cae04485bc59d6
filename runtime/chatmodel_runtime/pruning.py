"""Which staged models may go: makes room on a volume before another model is fetched.

Called by `model_manager`. Only folders laid out as ours are ever looked at; a link is never
followed. What is kept is never opened, let alone changed.
"""

import contextlib
import os
import pathlib
import re
import shutil
from collections.abc import Collection, Iterator

COMPLETE = "COMPLETE"
_MODEL = re.compile(r"[A-Za-z0-9][-A-Za-z0-9._]*--[A-Za-z0-9][-A-Za-z0-9._]*")
_NAME = r"([0-9a-f]{40}(?:-Int[48])?)"
_COMMIT = re.compile(rf"{_NAME}|\.{_NAME}(?:\.[0-9a-f]{{8}})?\.staging")


def prune(root: pathlib.Path, keep: Collection[str]) -> list[str]:
    """Remove models and abandoned tries under a root that are not in `keep`; return their names.

    Names are `<org>--<name>/<folder of a commit>`; one that is kept also keeps its try under way.
    """
    doomed = [(name, folder) for name, folder in _folders(root) if name not in keep]
    for _, folder in doomed:
        # Files held open on some network volumes cannot go yet; unmarked, they count for nothing.
        with contextlib.suppress(OSError):
            remove(folder)
            folder.parent.rmdir()
    return sorted({name for name, folder in doomed if not folder.exists()})


def remove(folder: pathlib.Path) -> None:
    """Remove a model's folder, its marker first: cut short, what is left is no model."""
    (folder / COMPLETE).unlink(missing_ok=True)
    flush(folder)
    shutil.rmtree(folder)


def flush(path: pathlib.Path) -> None:
    """Bring a file's contents, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _folders(root: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """Yield the name and the folder of everything staged, or half staged, under a root."""
    for model in _real_folders(root):
        if not _MODEL.fullmatch(model.name):
            continue  # lost+found, and whatever else is not ours
        for folder in _real_folders(model):
            if found := _COMMIT.fullmatch(folder.name):
                yield f"{model.name}/{found[1] or found[2]}", folder


def _real_folders(root: pathlib.Path) -> list[pathlib.Path]:
    if not root.is_dir():
        return []
    return [path for path in root.iterdir() if path.is_dir() and not path.is_symlink()]
