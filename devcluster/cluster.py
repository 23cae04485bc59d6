"""The embedded cluster as a whole: up, down, status. Every command repairs, none asks twice.

`up` leaves alone what is alive, so that the same command starts, repairs and extends. `down` ends
only processes that are recorded, live in the cluster's own cgroups, or serve its own sockets.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
import signal
import time
from collections.abc import Iterator

from devcluster import addons, build, control_plane, network, nodes, pki, preflight
from devcluster.processes import Daemons
from devcluster.settings import TOOLS, Settings
from devcluster.shell import Problem, run, say, step, wait_for

SYSCTLS = ("vm.overcommit_memory", "kernel.panic", "kernel.panic_on_oops")
BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id")


@contextlib.contextmanager
def locked(config: Settings) -> Iterator[Daemons]:
    """Let one command at a time work on the cluster."""
    config.home.mkdir(parents=True, exist_ok=True)
    with (config.home / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield Daemons(config.run, config.log)


def up(
    config: Settings,
    *,
    count: int = 1,
    fake: int = 0,
    stages: pathlib.Path | None = None,
    control_plane_only: bool = False,
    audit: bool = False,
) -> None:
    """Bring the cluster up, or complete it. Raises `Problem`."""
    preflight.check_machine()
    preflight.install_packages()
    tools = ("local-path-provisioner", *(("kwok",) if fake else ()))
    build.build_all(config, tools=tools)
    with locked(config) as daemons:
        _forget_another_boot(config)
        preflight.check_port(config, daemons)
        started = time.monotonic()
        _save_sysctls(config)
        for folder in (config.run, config.log, config.nodes, config.state):
            folder.mkdir(parents=True, exist_ok=True)
        pki.make(config, count)
        with step("network", quiet_under=1):
            network.make_guard(config)
            network.make_switch(config)
            for node in range(1, count + 1):
                network.make_node(config, node)
        with step("control plane", quiet_under=0.5):
            addons.start_registry(config, daemons)
            control_plane.start(config, daemons, audit=audit)
        if not control_plane_only:
            _start_nodes(config, daemons, count)
        if fake:
            with step(f"{fake} fake nodes", quiet_under=0.5):
                addons.start_fake_nodes(config, daemons, fake, stages)
        say(f"  cluster is up: {time.monotonic() - started:.1f} s")


def _start_nodes(config: Settings, daemons: Daemons, count: int) -> None:
    with step(f"{count} node(s)", quiet_under=0.5):
        for node in range(1, count + 1):
            nodes.start(config, daemons, node)
        addons.start_dns(config, daemons)
        addons.start_volumes(config, daemons)
        for node in range(1, count + 1):
            nodes.finish(config, node)


def _forget_another_boot(config: Settings) -> None:
    """Clear what an earlier boot, or another machine with this disk, left behind."""
    mark, now = config.home / "boot_id", BOOT_ID.read_text()
    if mark.exists() and mark.read_text() != now:
        say("  the machine was restarted since: clearing what was left")
        clear(config, Daemons(config.run, config.log))
    mark.write_text(now)


def _save_sysctls(config: Settings) -> None:
    """The kubelet sets these for the whole machine; `down` puts them back."""
    path = config.home / "sysctl.saved"
    if not path.exists():
        path.write_text(run("sysctl", *SYSCTLS))


def down(config: Settings) -> None:
    """Take the cluster down; what was built stays. Raises `Problem` naming what is left."""
    preflight.check_machine()
    with locked(config) as daemons, step("cluster is down"):
        clear(config, daemons)


def clear(config: Settings, daemons: Daemons) -> None:
    """Stop and remove everything the cluster has."""
    names = daemons.names()
    containerds = [name for name in names if name.startswith("containerd-")]
    first = ("forward", "kwok", "local-path", "kubelet", "kube-proxy")
    daemons.stop([name for name in names if name.startswith(first)])
    daemons.stop([name for name in daemons.names() if name not in containerds and name != "etcd"])
    _kill(_cgroup_pids(config))
    # With containerd alive, shims leave by themselves.
    end = time.monotonic() + 3
    while _shims(config) and time.monotonic() < end:
        time.sleep(0.1)
    daemons.stop([*containerds, "etcd"])
    _kill(_shims(config))
    _unmount(config)
    network.remove(config)
    _remove_cgroups(config)
    if (config.home / "sysctl.saved").exists():
        run("sysctl", "-qp", config.home / "sysctl.saved", check=False)
    _remove_log_links(config)
    if left := leftovers(config):
        raise Problem("something is left, its state stays in place: " + "; ".join(left))
    for folder in (config.state, config.home):
        keep = {config.home / "lock", config.log} if folder == config.home else set()
        for path in list(folder.glob("*")):
            if path in keep:
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(config.state, ignore_errors=True)


def _cgroups(config: Settings) -> list[pathlib.Path]:
    roots = nodes.cgroup_roots()
    return [path for root in roots for path in root.glob(f"{config.name}-node-*")]


def _cgroup_pids(config: Settings) -> set[int]:
    found: set[int] = set()
    for group in _cgroups(config):
        for path in group.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found |= {int(line) for line in path.read_text().split()}
    return found


def _shims(config: Settings) -> set[int]:
    """Return the shims that serve this cluster's containerd sockets."""
    found = set()
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            ours = any(word.startswith(f"{config.state}/node-".encode()) for word in words)
            if b"containerd-shim" in words[0] and ours:
                found.add(int(path.parent.name))
    return found


def _kill(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _mounts(config: Settings) -> list[str]:
    """Return the cluster's mounts, innermost first."""
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    ours = (f"{config.nodes}/", f"{config.state}/")
    return [point for point in reversed(points) if point.startswith(ours)]


def _unmount(config: Settings) -> None:
    for _ in range(3):
        for point in _mounts(config):
            run("umount", point, check=False)
    for point in _mounts(config):
        run("umount", "-l", point, check=False)


def _remove_cgroups(config: Settings) -> None:
    def remove_all() -> bool:
        for group in _cgroups(config):
            for path in sorted(group.rglob("*"), key=lambda p: -len(p.parts)):
                if path.is_dir():
                    with contextlib.suppress(OSError):
                        path.rmdir()
            with contextlib.suppress(OSError):
                group.rmdir()
        return not _cgroups(config)

    with contextlib.suppress(Problem):  # `leftovers` names what would not go
        wait_for(5, "cgroups to empty", remove_all)


def _remove_log_links(config: Settings) -> None:
    for link in pathlib.Path("/var/log/containers").glob("*"):
        if link.is_symlink() and os.readlink(link).startswith(f"{config.nodes}/"):
            link.unlink()
    for path in pathlib.Path("/var/lib/cni/results").glob("*"):
        with contextlib.suppress(OSError):
            if f"{config.state}/" in path.read_text(errors="replace"):
                path.unlink()


def leftovers(config: Settings) -> list[str]:
    """Return what of the cluster is still there, as sentences; nothing after `down`."""
    daemons = Daemons(config.run, config.log)
    spaces = [p.name for p in pathlib.Path("/run/netns").glob(f"{config.name}-*")]
    table = run("nft", "list", "tables", check=False)
    found = {
        "processes": [name for name in daemons.names() if daemons.pid(name)],
        "processes in pods": sorted(map(str, _cgroup_pids(config) | _shims(config))),
        "mounts": _mounts(config),
        "network namespaces": [
            s for s in spaces if s.startswith((config.switch, f"{config.name}-node-"))
        ],
        "cgroups": [str(path) for path in _cgroups(config)],
        "nft tables": [f"{config.name}_guard"] if f"{config.name}_guard" in table else [],
    }
    return [f"{what}: {', '.join(items[:5])}" for what, items in found.items() if items]


def status(config: Settings) -> str:
    """Return what runs, a line each."""
    daemons = Daemons(config.run, config.log)
    lines = [f"  {name}: pid {daemons.pid(name) or 'dead'}" for name in daemons.names()]
    if not lines:
        return "no cluster: python3 -m devcluster up"
    if control_plane.is_ready(config):
        lines.append(run(*control_plane.kubectl(config), "get", "nodes").rstrip())
    else:
        lines.append("the API does not answer: python3 -m devcluster up repairs it")
    built = [name for name in ("kubernetes", "coredns", *TOOLS) if (config.bin / name).exists()]
    return "\n".join([*lines, f"built: {', '.join(built)}", f"KUBECONFIG={config.kubeconfig}"])
