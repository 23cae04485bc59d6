"""A model's folder as staging leaves it, without a hub: for tests that only serve."""

import json
import pathlib
import shutil

COMMIT = "1" * 40


def lay_down(source: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Copy a model's files and write manifest and marker; return the folder."""
    from chatmodel_runtime import model_manager

    shutil.copytree(source, folder)
    files = {
        path.name: {"size": path.stat().st_size, "sha256": model_manager.hash_file(path)}
        for path in folder.iterdir()
    }
    manifest = folder / model_manager.MANIFEST
    manifest.write_text(json.dumps({"commit": COMMIT, "files": files}))
    (folder / model_manager.COMPLETE).write_text(model_manager.hash_file(manifest))
    return folder
