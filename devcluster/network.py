"""Namespaces, routes and the guard: the cluster's network, from which nothing can leave.

No interface joins these namespaces to the machine's own. The switch's default route is
unreachable, so that an outside address fails at once; the guard refuses the cluster's addresses in
the machine's own namespace, where they would resolve to its default route.
"""

import pathlib

from devcluster.settings import Settings
from devcluster.shell import in_namespace, run, succeeds


def is_there(namespace: str) -> bool:
    """Say whether a network namespace exists."""
    return pathlib.Path(f"/run/netns/{namespace}").exists()


def make_guard(config: Settings) -> None:
    """Refuse the cluster's addresses in the machine's own namespace."""
    if succeeds("nft", "list", "table", "inet", f"{config.name}_guard"):
        return
    nets = f"{{ {config.node_net}.0/24, {config.pod_net}.0.0/16, {config.service_net}.0.0/16 }}"
    rules = f"""table inet {config.name}_guard {{
      chain sent {{
        type filter hook output priority 300
        oifname != "lo" ip daddr {nets} reject
      }}
      chain leaving {{
        type filter hook postrouting priority 300
        oifname != "lo" ip daddr {nets} drop
      }}
    }}"""
    run("nft", "-f", "-", text=rules)


def make_switch(config: Settings) -> None:
    """Make the namespace with the bridge that joins the nodes, and the way to nowhere."""
    name = config.switch
    if is_there(name):
        return
    run("ip", "netns", "add", name)
    for words in (
        "link set lo up",
        "link add sw0 type bridge",
        "link set sw0 up",
        f"addr add {config.node_net}.1/24 dev sw0",
        # A node needs a default route, or a connection to a Service fails before it is rewritten.
        "route add unreachable default",
    ):
        run("ip", "-n", name, *words.split())
    run(*in_namespace(name), "sysctl", "-qw", "net.ipv4.ip_forward=1")


def make_node(config: Settings, node: int) -> None:
    """Make a node's namespace, its cable to the switch, and the routes to and from its pods."""
    name = config.namespace(node)
    if is_there(name):
        return
    run("ip", "netns", "add", name)
    run("ip", "-n", name, "link", "set", "lo", "up")
    cable = f"v{config.name}{node}"
    run("ip", "link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", cable,
        "netns", config.switch)  # fmt: skip
    run("ip", "-n", config.switch, "link", "set", cable, "master", "sw0", "up")
    for words in (
        f"addr add {config.node_ip(node)}/24 dev eth0",
        "link set eth0 up",
        f"route add default via {config.node_net}.1",
    ):
        run("ip", "-n", name, *words.split())
    run(*in_namespace(name), "sysctl", "-qw", "net.ipv4.ip_forward=1",
        "net.bridge.bridge-nf-call-iptables=1")  # fmt: skip
    _route(config.switch, config.node_pods(node), config.node_ip(node))
    for other in range(1, node):
        _route(name, config.node_pods(other), config.node_ip(other))
        _route(config.namespace(other), config.node_pods(node), config.node_ip(node))
    if node == 1:
        # A stand-in for the pods of fake nodes listens here at every one of their addresses.
        run("ip", "-n", name, "route", "add", "local", config.fake_pods, "dev", "lo")


def _route(namespace: str, net: str, via: str) -> None:
    run("ip", "-n", namespace, "route", "add", net, "via", via)


def remove(config: Settings) -> None:
    """Remove namespaces and guard."""
    for path in pathlib.Path("/run/netns").glob(f"{config.name}-*"):
        if path.name == config.switch or path.name.startswith(f"{config.name}-node-"):
            run("ip", "netns", "del", path.name, check=False)
    run("nft", "delete", "table", "inet", f"{config.name}_guard", check=False)
