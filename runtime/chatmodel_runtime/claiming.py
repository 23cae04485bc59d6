"""A try at staging: a hidden folder of its own, which goes on with what earlier tries have left.

Called by `model_manager`. There is one writer, without locks, which some network volumes only
pretend to keep: who begins renames the folder of whoever was there before, and that one's next step
finds nothing any more. Must never keep what is no plain file.
"""

import contextlib
import pathlib
import secrets
import shutil
import stat
from collections.abc import Collection

from chatmodel_runtime import pruning, transfer


def claim(final: pathlib.Path, weights: Collection[str]) -> pathlib.Path:
    """Return a folder that is ours alone, beside where the model goes, with what can be kept.

    Kept are weights, whole or begun; their hashes are not looked at here. Everything else of an
    earlier try is small, and fetched again.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    mine = final.with_name(f".{final.name}.{secrets.token_hex(4)}.staging")
    is_claimed = False
    for folder in (final, *sorted(final.parent.glob(f".{final.name}.*staging"))):
        is_ready = folder == final and (final / pruning.COMPLETE).exists()
        if not folder.is_dir() or folder.is_symlink() or is_ready:
            continue
        with contextlib.suppress(FileNotFoundError):  # another one was quicker
            if is_claimed:
                pruning.remove(folder)
            else:
                folder.rename(mine)
                is_claimed = True
    if not is_claimed:
        mine.mkdir()
    _tidy(mine, {*weights, *(name + transfer.PART for name in weights)})
    return mine


def _tidy(folder: pathlib.Path, keep: Collection[str]) -> None:
    for path in folder.iterdir():
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            shutil.rmtree(path)
        elif path.name not in keep or not stat.S_ISREG(mode):
            path.unlink()
