"""A docker-archive image of one layer, without an image builder.

The same source always gives the same image; containerd and buildah both read it.
"""

import hashlib
import io
import json
import pathlib
import platform
import tarfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def tar_of(files: dict[str, bytes], *, mode: int = 0o644) -> bytes:
    """Return a tar of name -> content with no times and no owners in it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def write_image(
    source: pathlib.Path,
    reference: str,
    out: pathlib.Path,
    *,
    user: str = "",
    entrypoint: str = "",
    command: str = "",
    env: list[str] | None = None,
) -> None:
    """Write the image of a root file system's tar, or of one static program (as /NAME)."""
    layer = source.read_bytes()
    if source.suffix != ".tar":
        layer = tar_of({source.name: layer}, mode=0o755)
    digest = hashlib.sha256(layer).hexdigest()
    process = {
        "User": user,
        "Entrypoint": [entrypoint] if entrypoint else None,
        "Cmd": [command] if command else None,
        "Env": env,
    }
    config = json.dumps(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {key: value for key, value in process.items() if value},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            # buildah counts: a layer for each entry.
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": source.name}],
        }
    ).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    layer_name = f"{digest}/layer.tar"
    manifest = [{"Config": config_name, "RepoTags": [reference], "Layers": [layer_name]}]
    index = json.dumps(manifest).encode()
    out.write_bytes(tar_of({config_name: config, layer_name: layer, "manifest.json": index}))
