"""Building the project's images with docker where an engine answers, else with buildah.

An image is built once for its inputs and kept as an archive in the cache; nodes of the embedded
cluster import archives, kind loads them.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator

from devcluster import build
from devcluster.settings import BASE_IMAGE, ROOT, Settings
from devcluster.shell import Problem, run, say, succeeds

PUBLIC_BASE = "python:3.11-slim-bookworm"
WHEELS = ROOT.parent / "shared" / "wheels"


@dataclasses.dataclass(frozen=True)
class Image:
    """One image: its name, Dockerfile, target, and the inputs it depends on."""

    name: str
    reference: str
    dockerfile: str
    target: str
    inputs: tuple[str, ...]
    takes_wheels: bool = False
    models: tuple[str, ...] = ()  # to be inside, from the mirror; built only when asked for by name


PYTHON = ("pyproject.toml", ".dockerignore")
DEPENDENCIES = ("pyproject.toml", "Dockerfile.operator", "Dockerfile.runtime")
MIRROR = (
    "tests/support/hub_mirror.py",
    "tests/support/models.py",
    "tests/support/standin_model.py",
    "tests/support/typed_gguf.py",
)
IMAGES = (
    Image(
        "operator",
        "localhost/chatmodel-operator:dev",
        "Dockerfile.operator",
        "",
        (*PYTHON, "Dockerfile.operator", "operator"),
    ),
    Image(
        "mock",
        "localhost/chatmodel-runtime:mock",
        "Dockerfile.runtime",
        "mock",
        (*PYTHON, "Dockerfile.runtime", "runtime"),
    ),
    Image(
        "cpu",
        "localhost/chatmodel-runtime:cpu",
        "Dockerfile.runtime",
        "cpu",
        (*PYTHON, "Dockerfile.runtime", "runtime"),
        takes_wheels=True,
    ),
    Image(
        "hub",
        "localhost/chatmodel-hub:dev",
        "Dockerfile",
        "",
        ("tests/support/hub", *MIRROR),
    ),
    Image(
        "embedded",
        "localhost/chatmodel-runtime:embedded",
        "Dockerfile.runtime",
        "embedded",
        (*PYTHON, "Dockerfile.runtime", "runtime", *MIRROR),
        takes_wheels=True,
        models=("Qwen/Qwen3-4B-Thinking-2507", "demo/twin", "demo/wrong-shapes"),
    ),
)


def has_docker() -> bool:
    """Say whether a Docker engine answers."""
    return shutil.which("docker") is not None and succeeds("docker", "version")


def build_command(
    image: Image,
    context: pathlib.Path,
    *,
    docker: bool,
    wheels: pathlib.Path | None,
    hub: str = "",
) -> list[str]:
    """Return the command line that builds an image; `hub` is where its models come from."""
    file = str(context / image.dockerfile)
    target = ["--target", image.target] if image.target else []
    base = ["--build-arg", f"BASE={PUBLIC_BASE if docker else BASE_IMAGE}"]
    common = ["-f", file, "-t", image.reference, *base, *target]
    if image.models:
        common += ["--build-arg", f"MODEL_ID={' '.join(image.models)}"]
        common += ["--build-arg", f"HF_ENDPOINT={hub}"]
    if image.models or not docker:
        # The mirror is on this machine's loopback; and buildah's own bridge would stay for ever.
        common += ["--network", "host"]
    if docker:
        extra = ["--build-context", f"wheels={wheels}"] if wheels else []
        return ["docker", "buildx", "build", "--load", *common, *extra, str(context)]
    # The bundle of this machine: where TLS is signed anew on the way out, pip must know by whom.
    volumes = ["-v", "/etc/ssl/certs:/etc/ssl/certs:ro"]
    if wheels:
        volumes += ["-v", f"{wheels}:/wheels:ro"]
    return ["buildah", "bud", "--layers", "--runtime", "runc", *volumes, *common, str(context)]


def build_images(config: Settings, names: list[str], python: str = sys.executable) -> None:
    """Build the images of these names, or the usual ones; say the size of each above the base."""
    chosen = [i for i in IMAGES if i.name in names or not (names or i.models)]
    if unknown := set(names) - {image.name for image in chosen}:
        known = ", ".join(image.name for image in IMAGES)
        raise Problem(f"there is no image {', '.join(sorted(unknown))}; there are: {known}")
    docker = has_docker()
    config.images.mkdir(parents=True, exist_ok=True)
    with (config.images / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not docker:
            build.build_base(config)
            _pull_base(config)
            _forget_old_layers(config)
        for image in chosen:
            _build(config, image, docker, python)


def _pull_base(config: Settings) -> None:
    """Bring the base image into buildah's store, the same one that nodes get."""
    mark, key = config.images / "base.pulled", (config.images / "base.tar.key").read_text()
    there = succeeds("buildah", "inspect", "--type", "image", BASE_IMAGE)
    if there and mark.exists() and mark.read_text() == key:
        return
    run("buildah", "rmi", "-f", BASE_IMAGE, check=False)
    run("buildah", "pull", "-q", f"docker-archive:{config.images}/base.tar")
    mark.write_text(key)


def _forget_old_layers(config: Settings) -> None:
    """Free the layers of dependencies that changed since; buildah keeps them for ever."""
    mark, key = config.images / "layers.key", build.key_of(*(ROOT / n for n in DEPENDENCIES))
    if not mark.exists() or mark.read_text() != key:
        run("buildah", "rmi", "--prune", check=False)
        mark.write_text(key)


def _build(config: Settings, image: Image, docker: bool, python: str) -> None:
    wheels = WHEELS if image.takes_wheels and WHEELS.is_dir() else None
    inputs = [ROOT / name for name in image.inputs if (ROOT / name).exists()]
    listing = " ".join(sorted(p.name for p in wheels.iterdir())) if wheels else ""
    base = (config.images / "base.tar.key").read_text() if not docker else PUBLIC_BASE
    key = build.key_of(*inputs, listing, base, image.target, pathlib.Path(__file__))

    def work(path: pathlib.Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            context = _context(image, pathlib.Path(folder), python)
            with _hub(image, pathlib.Path(folder), python) as hub:
                command = build_command(image, context, docker=docker, wheels=wheels, hub=hub)
                run(*command, env=_environment())
            _save(image, path, docker)

    archive = config.images / f"{image.name}.tar"
    build.make(archive, key, f"build image {image.reference}", work)
    say(f"  {image.reference}: {_describe(archive, config.images / 'base.tar')}")


def _environment() -> dict[str, str]:
    # Layers in containers-storage need more room than a small /var/tmp may have.
    return {**os.environ, "BUILDAH_ISOLATION": "oci"}


def _context(image: Image, folder: pathlib.Path, python: str) -> pathlib.Path:
    """Return the build context; the hub's is put together from the mirror and the models."""
    if image.name != "hub":
        return ROOT
    support = ROOT / "tests/support"
    shutil.copy(support / "hub/Dockerfile", folder)
    shutil.copy(support / "hub_mirror.py", folder)
    run(python, support / "models.py", "--out", folder / "models")
    return folder


@contextlib.contextmanager
def _hub(image: Image, folder: pathlib.Path, python: str) -> Iterator[str]:
    """Run the mirror on loopback while an image with models inside is built; yield its URL."""
    if not image.models:
        yield ""
        return
    support, root = ROOT / "tests/support", folder / "models"
    run(python, support / "models.py", "--out", root, "--without-smollm")
    command = [python, str(support / "hub_mirror.py"), "--root", str(root), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as mirror:
        try:
            assert mirror.stdout is not None
            address = mirror.stdout.readline().split()[-1]
            yield f"http://{address}"
        finally:
            mirror.terminate()


def _save(image: Image, path: pathlib.Path, docker: bool) -> None:
    if docker:
        run("docker", "save", "-o", path, image.reference)
    else:
        run("buildah", "push", "-q", image.reference, f"docker-archive:{path}:{image.reference}")


def unpacked_bytes(archive: pathlib.Path) -> int:
    """Return the bytes of all layers of a docker-archive, unpacked."""
    with tarfile.open(archive) as tar:
        handle = tar.extractfile("manifest.json")
        assert handle is not None
        layers = json.load(handle)[0]["Layers"]
        total = 0
        for name in layers:
            layer = tar.extractfile(name)
            assert layer is not None
            with tarfile.open(fileobj=layer, mode="r:*") as files:
                total += sum(entry.size for entry in files)
    return total


def _describe(archive: pathlib.Path, base: pathlib.Path) -> str:
    whole = unpacked_bytes(archive)
    if not base.exists():
        return f"{whole / 1e6:.0f} MB unpacked"
    below = unpacked_bytes(base)
    return f"{whole / 1e6:.0f} MB unpacked, {(whole - below) / 1e6:.0f} MB above the base"
