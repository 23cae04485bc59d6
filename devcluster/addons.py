"""What makes the cluster a usual one: registry, DNS, volumes; and fake nodes on request."""

import json
import pathlib

from devcluster import control_plane
from devcluster.processes import Daemons
from devcluster.settings import BASE_IMAGE, HERE, Settings, render
from devcluster.shell import run, wait_for

# puller / secret, as bcrypt: a password of a test registry that only the cluster can reach.
PULLER = "puller:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"


def start_registry(config: Settings, daemons: Daemons) -> None:
    """Start a registry in the cluster's network, and the same images behind a password."""
    (config.home / "registry").mkdir(exist_ok=True)
    (config.home / "registry.htpasswd").write_text(PULLER + "\n")
    for name, address in (
        ("registry", config.registry),
        ("registry-auth", config.private_registry),
    ):
        variables = config.variables() | {"REGISTRY_ADDRESS": address}
        path = config.home / f"{name}.yml"
        path.write_text(render(f"templates/{name}.yml", variables))
        daemons.start(name, config.switch, ["docker-registry", "serve", path])


def start_dns(config: Settings, daemons: Daemons) -> None:
    """Start CoreDNS beside node 1, under the usual address."""
    control_plane.apply(config, render("manifests/dns.yaml", config.variables()))
    path = config.home / "Corefile"
    path.write_text(render("templates/Corefile", config.variables()))
    daemons.start("coredns", config.namespace(1), [config.bin / "coredns", "-conf", path])


def start_volumes(config: Settings, daemons: Daemons) -> None:
    """Start the provisioner of the default StorageClass beside node 1."""
    control_plane.apply(config, render("manifests/storage.yaml", config.variables()))
    paths = {"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [str(config.home / "volumes")]}
    path = config.home / "local-path.json"
    path.write_text(json.dumps({"nodePathMap": [paths]}))
    daemons.start("local-path", config.namespace(1), [
        config.bin / "local-path-provisioner", "start", "--config", path,
        "--kubeconfig", config.inside_kubeconfig, "--namespace", "local-path-storage",
        "--configmap-name", "local-path-config",
        "--service-account-name", "local-path-provisioner", "--helper-image", BASE_IMAGE,
    ])  # fmt: skip


def start_fake_nodes(
    config: Settings, daemons: Daemons, count: int, stages: pathlib.Path | None
) -> None:
    """Start kwok and make fake nodes fake-1 ... fake-N.

    They are tainted fake=true:NoSchedule and labelled type=fake; the stages say how pods on them
    behave. Other stages than those kwok runs with replace it.
    """
    wanted = stages or HERE / "templates/kwok-stages.yaml"
    copy = config.home / "kwok-stages.yaml"
    if not copy.exists() or copy.read_bytes() != wanted.read_bytes():
        daemons.stop(["kwok"])
        copy.write_bytes(wanted.read_bytes())
    daemons.start("kwok", config.namespace(1), [
        config.bin / "kwok", "--kubeconfig", config.inside_kubeconfig, "--config", copy,
        "--manage-nodes-with-label-selector", "type=fake",
        "--node-lease-duration-seconds", "40", "--node-ip", f"{config.node_net}.250",
        "--cidr", config.fake_pods,
    ])  # fmt: skip
    control_plane.apply(config, "\n---\n".join(_fake_node(n) for n in range(1, count + 1)))
    command = control_plane.kubectl(config)

    def are_ready() -> bool:
        path = '{.items[*].status.conditions[?(@.type=="Ready")].status}'
        found = run(*command, "get", "nodes", "-l", "type=fake", "-o", f"jsonpath={path}")
        return found.split().count("True") >= count

    wait_for(30, f"{count} fake nodes to be Ready", are_ready, f"See {config.log}/kwok.log.")


def _fake_node(number: int) -> str:
    name = f"fake-{number}"
    labels = {"type": "fake", "kubernetes.io/hostname": name}
    taint = {"key": "fake", "value": "true", "effect": "NoSchedule"}
    body = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": [taint]},
    }
    return json.dumps(body)
