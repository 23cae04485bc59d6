"""Building the programs and the base image, once for each version and input, never by halves.

A program is built beside its place and renamed into it; a key file beside it says from what. The
Go modules hold imports only: what is built is Kubernetes' and CoreDNS's own code.
"""

import hashlib
import os
import pathlib
import tempfile
from collections.abc import Callable

from devcluster import archive, preflight
from devcluster.settings import BASE_IMAGE, COMPONENTS, HERE, TOOLS, Settings
from devcluster.shell import run, step

DEBIAN_PACKAGES = (
    "base-files,base-passwd,dash,bash,coreutils,libc-bin,passwd,login,sed,grep,tar,gzip,findutils,"
    "ca-certificates,libstdc++6,libgcc-s1,python3,python3-pip,python3-venv"
)


def key_of(*inputs: pathlib.Path | str) -> str:
    """Return a hash of texts and of the contents of files and folders."""
    digest = hashlib.sha256()
    for item in inputs:
        if isinstance(item, str):
            digest.update(item.encode() + b"\0")
            continue
        files = sorted(p for p in item.rglob("*") if p.is_file()) if item.is_dir() else [item]
        for path in files:
            if "__pycache__" not in path.parts:
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def is_current(path: pathlib.Path, key: str) -> bool:
    """Say whether a file was made from the inputs of a key."""
    mark = path.with_name(f"{path.name}.key")
    return path.exists() and mark.exists() and mark.read_text() == key


def make(path: pathlib.Path, key: str, what: str, work: Callable[[pathlib.Path], None]) -> bool:
    """Have a file made unless it is current; return whether it was made."""
    if is_current(path, key):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with step(what), tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = pathlib.Path(folder) / path.name
        work(made)
        made.replace(path)
        path.with_name(f"{path.name}.key").write_text(key)
    return True


def build_all(config: Settings, *, tools: tuple[str, ...] = tuple(TOOLS)) -> None:
    """Build what is not there yet: about 11 minutes on 2 cores the first time, a second later."""
    if not _all_current(config, tools):
        preflight.check_go()
        preflight.check_disk(config.cache)
    build_kubernetes(config)
    build_coredns(config)
    for name in tools:
        build_tool(config, name)
    build_pause(config)
    build_base(config)


def _all_current(config: Settings, tools: tuple[str, ...]) -> bool:
    wanted = {"kubernetes": _kubernetes_key(), "coredns": key_of(HERE / "coredns")}
    wanted |= {name: key_of(TOOLS[name]) for name in tools}
    return all(is_current(config.bin / name, key) for name, key in wanted.items())


def _kubernetes_key() -> str:
    folder = HERE / "kubernetes"
    return key_of(*(folder / name for name in ("main.go", "go.mod", "go.sum")))


def build_kubernetes(config: Settings) -> None:
    """Build etcd, the control plane, kubelet, kube-proxy and kubectl as one program."""
    folder = HERE / "kubernetes"
    lines = (folder / "go.mod").read_text().splitlines()
    version = next(w[1] for w in map(str.split, lines) if w[:1] == ["k8s.io/kubernetes"])
    major, minor, _ = version.removeprefix("v").split(".")
    facts = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitCommit": hashlib.sha1((folder / "go.sum").read_bytes()).hexdigest(),
        "gitTreeState": "clean",
    }
    # Without these the API server calls itself v0.0.0 and clients mistrust it.
    flags = " ".join(
        f"-X {package}.{key}={value}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for key, value in facts.items()
    )

    def work(path: pathlib.Path) -> None:
        _go(
            ["build", "-tags", "providerless", "-ldflags", f"-s -w {flags}", "-o", path, "."],
            folder,
        )

    text = f"build Kubernetes {version} (about 5 minutes the first time)"
    make(config.bin / "kubernetes", _kubernetes_key(), text, work)
    for name in COMPONENTS:
        link = config.bin / name
        if not link.is_symlink():
            link.symlink_to("kubernetes")


def build_coredns(config: Settings) -> None:
    """Build CoreDNS with the plugins of coredns/main.go."""
    folder = HERE / "coredns"

    def work(path: pathlib.Path) -> None:
        _go(["build", "-ldflags", "-s -w", "-o", path, "."], folder)

    make(config.bin / "coredns", key_of(folder), "build CoreDNS (about 2 minutes)", work)


def build_tool(config: Settings, name: str) -> None:
    """Build a tool by its module version."""

    def work(path: pathlib.Path) -> None:
        env = {"GOBIN": str(path.parent)}
        _go(["install", "-ldflags", "-s -w", TOOLS[name]], HERE, env)

    make(config.bin / name, key_of(TOOLS[name]), f"build {name} (about a minute)", work)


def _go(
    arguments: list[str | pathlib.Path], folder: pathlib.Path, env: dict[str, str] | None = None
) -> None:
    whole = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-trimpath -buildvcs=false",
        **(env or {}),
    }
    words = ["go", "-C", folder, *arguments]
    run(*words, env=whole)


def build_pause(config: Settings) -> None:
    """Build the pods' first process, and its image."""
    source = HERE / "base/pause.c"
    key = key_of(source, HERE / "archive.py")

    def work(path: pathlib.Path) -> None:
        program = path.with_name("pause")
        run("gcc", "-static", "-Os", "-s", "-o", program, source)
        archive.write_image(
            program, "localhost/pause:1", path, entrypoint="/pause", user="65535:65535"
        )

    make(config.images / "pause.tar", key, "build the pause image", work)


def build_base(config: Settings) -> None:
    """Make the base image from Debian's own Python, under the name the Dockerfiles ask for."""
    key = key_of(DEBIAN_PACKAGES, HERE / "archive.py", pathlib.Path(__file__))

    def work(path: pathlib.Path) -> None:
        # Unpacking many small files is twice as fast in memory.
        memory = "/dev/shm" if pathlib.Path("/dev/shm").is_dir() else None
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            root = pathlib.Path(folder) / "base.tar"
            run(*_mmdebstrap(root), env={**os.environ, "TMPDIR": folder})
            path_ = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            env = [f"PATH={path_}", "LANG=C.UTF-8"]
            archive.write_image(root, BASE_IMAGE, path, command="python3", env=env)

    make(config.images / "base.tar", key, "make the base image", work)


def _mmdebstrap(out: pathlib.Path) -> list[str]:
    """Return the command; no maintainer script runs, the hooks do what they would have done."""
    hooks = (
        'cd "$1" && cp usr/share/base-passwd/passwd.master etc/passwd'
        " && cp usr/share/base-passwd/group.master etc/group",
        'cd "$1" && ln -sf dash usr/bin/sh && ln -sf python3 usr/bin/python',
        'cd "$1" && find usr/share/ca-certificates -name "*.crt" | sort | xargs cat'
        " > etc/ssl/certs/ca-certificates.crt",
        'cd "$1" && rm -rf usr/lib/python3*/EXTERNALLY-MANAGED var/cache/apt/* var/lib/apt/lists/*'
        " usr/share/doc usr/share/man usr/share/locale",
    )
    sources = "/etc/apt/sources.list.d/debian.sources"
    if not pathlib.Path(sources).exists():
        sources = "/etc/apt/sources.list"
    return [
        "mmdebstrap",
        "--quiet",
        "--variant=extract",
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        f"--include={DEBIAN_PACKAGES}",
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")),
        *(f"--extract-hook={hook}" for hook in hooks),
        "bookworm",
        str(out),
        sources,
    ]
