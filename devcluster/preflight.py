"""What must be there before anything is built or started; each lack is one sentence."""

import os
import pathlib
import platform
import shutil
import socket

from devcluster import settings
from devcluster.processes import Daemons
from devcluster.shell import Problem, retrying, run, say, step

DISK_BYTES = 12 * 1024**3


def check_machine(system: str = "", uid: int | None = None) -> None:
    """Refuse what is not Linux, or not root."""
    system = system or platform.system()
    if system != "Linux":
        raise Problem(
            f"the embedded cluster needs Linux, this is {system}: use CLUSTER=kind or =current"
        )
    if (os.geteuid() if uid is None else uid) != 0:
        raise Problem(
            "the embedded cluster makes network namespaces and mounts and needs root: run it with"
            " sudo, or use CLUSTER=kind or CLUSTER=current"
        )


def check_disk(where: pathlib.Path, needed: int = DISK_BYTES) -> None:
    """Refuse to fill the disk."""
    existing = next(path for path in (where, *where.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise Problem(
            f"{needed / 1e9:.0f} GB are needed under {existing} and {free / 1e9:.1f} GB are free:"
            " make room, or set XDG_CACHE_HOME and XDG_STATE_HOME to a larger disk"
        )


def check_go() -> None:
    """Refuse to build without Go."""
    if shutil.which("go") is None:
        raise Problem("Go 1.26 or newer is needed to build Kubernetes: install it from go.dev/dl")


def install_packages() -> None:
    """Install the Debian packages that are missing; elsewhere say which programs are needed."""
    lacking = sorted(name for name in settings.PROGRAMS if shutil.which(name) is None)
    if not pathlib.Path("/usr/lib/cni/bridge").exists():
        lacking.append("CNI plugins")
    if not lacking:
        return
    if shutil.which("apt-get") is None:
        raise Problem(f"these programs are needed and were not found: {', '.join(lacking)}")
    say(f"  missing: {', '.join(lacking)}")
    with step("apt-get install"):
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        retrying(["apt-get", "update", "-q"])
        retrying(["apt-get", "install", "-q", "-y", "--no-install-recommends", *settings.PACKAGES])


def check_port(config: settings.Settings, daemons: Daemons) -> None:
    """Refuse when somebody else listens where the API server would."""
    if daemons.pid("forward") is not None:
        return
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", config.api_port)) != 0:
            return
    lines = run("ss", "-Hltnp", f"sport = :{config.api_port}", check=False).strip()
    holder = lines.rpartition("users:")[2] or "another process"
    raise Problem(
        f"port {config.api_port} on loopback is taken by {holder}: end that, or set"
        " DEVCLUSTER_API_PORT to a free port"
    )
