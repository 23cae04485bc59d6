"""Real nodes: containerd, kubelet and kube-proxy, each node in a namespace of its own."""

import pathlib
from collections.abc import Iterable

from devcluster import control_plane
from devcluster.processes import Daemons
from devcluster.settings import Settings, render
from devcluster.shell import run, succeeds, wait_for


def cgroup_roots() -> list[pathlib.Path]:
    """Return every cgroup hierarchy mounted here, v1 and v2."""
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    return [pathlib.Path(line.split()[4]) for line in lines if " - cgroup" in line]


def start(config: Settings, daemons: Daemons, node: int) -> None:
    """Start what is not alive of one node."""
    name, namespace = f"node-{node}", config.namespace(node)
    home, state = config.node_home(node), config.node_state(node)
    for folder in (home / "kubelet", home / "cni", home / "registries", state):
        folder.mkdir(parents=True, exist_ok=True)
    # The kubelet wants its root in every hierarchy.
    for root in cgroup_roots():
        (root / namespace).mkdir(exist_ok=True)
    _share_mounts(home / "kubelet")
    _write_files(config, node)
    daemons.start(f"containerd-{name}", namespace, ["containerd", "-c", home / "containerd.toml"])
    wait_for(20, f"containerd of {name}", lambda: succeeds(*ctr(config, node), "version"))
    # The project's own images come with `load`: importing them takes longer than all the rest.
    load(config, node, [config.images / "pause.tar", config.images / "base.tar"])
    daemons.start(f"kubelet-{name}", namespace, [
        config.bin / "kubelet", "--config", home / "kubelet.yaml",
        "--kubeconfig", config.pki / f"{name}.kubeconfig", "--hostname-override", name,
        "--node-ip", config.node_ip(node), "--root-dir", home / "kubelet",
    ])  # fmt: skip
    # Zeros: leave the machine's own connection tracking limits alone.
    daemons.start(f"kube-proxy-{name}", namespace, [
        config.bin / "kube-proxy", "--kubeconfig", config.pki / "kube-proxy.kubeconfig",
        "--hostname-override", name, "--proxy-mode", "nftables",
        "--cluster-cidr", f"{config.pod_net}.0.0/16", "--conntrack-max-per-core", "0",
        "--conntrack-tcp-timeout-established", "0", "--conntrack-tcp-timeout-close-wait", "0",
    ])  # fmt: skip


def _share_mounts(folder: pathlib.Path) -> None:
    """Let pods ask for mount propagation, which a private root refuses."""
    if succeeds("mountpoint", "-q", folder):
        return
    run("mount", "--bind", folder, folder)
    run("mount", "--make-rshared", folder)


def _write_files(config: Settings, node: int) -> None:
    home = config.node_home(node)
    variables = config.variables() | {
        "NODE": f"node-{node}",
        "NODE_NS": config.namespace(node),
        "NODE_HOME": str(home),
        "NODE_STATE": str(config.node_state(node)),
        "PODS": config.node_pods(node),
    }
    for template, target in (
        ("containerd.toml", "containerd.toml"),
        ("kubelet.yaml", "kubelet.yaml"),
        ("cni.conflist", "cni/10-pods.conflist"),
    ):
        (home / target).write_text(render(f"templates/{template}", variables))
    for host, address in (
        ("_default", config.registry),
        ("private.test", config.private_registry),
    ):
        folder = home / "registries" / host
        folder.mkdir(exist_ok=True)
        text = render("templates/hosts.toml", variables | {"REGISTRY_ADDRESS": address})
        (folder / "hosts.toml").write_text(text)


def ctr(config: Settings, node: int) -> list[str]:
    """Return containerd's client for one node."""
    return ["ctr", "-a", str(config.node_state(node) / "containerd.sock"), "-n", "k8s.io"]


def load(config: Settings, node: int, archives: Iterable[pathlib.Path]) -> list[str]:
    """Import image archives into a node, but for those it has; return what was imported."""
    marks = config.node_home(node) / "loaded"
    marks.mkdir(exist_ok=True)
    loaded = []
    for path in archives:
        stat = path.stat()
        mark, seen = marks / path.name, f"{stat.st_size} {stat.st_mtime_ns}"
        if mark.exists() and mark.read_text() == seen:
            continue
        run(*ctr(config, node), "images", "import", path)
        mark.write_text(seen)
        loaded.append(path.stem)
    return loaded


def finish(config: Settings, node: int) -> None:
    """Wait for a node to be Ready, and give it its pod network."""
    name = f"node-{node}"
    command = control_plane.kubectl(config)

    def is_ready() -> bool:
        path = '{.status.conditions[?(@.type=="Ready")].status}'
        return run(*command, "get", "node", name, "-o", f"jsonpath={path}", check=False) == "True"

    wait_for(60, f"{name} to be Ready", is_ready, f"See {config.log}/kubelet-{name}.log.")
    pods = config.node_pods(node)
    patch = f'{{"spec":{{"podCIDR":"{pods}","podCIDRs":["{pods}"]}}}}'
    run(*command, "patch", "node", name, "-p", patch)
