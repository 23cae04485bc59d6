"""Where everything is, and which addresses the cluster has. Read by every other module."""

import dataclasses
import os
import pathlib

ROOT = pathlib.Path(__file__).parents[1]
HERE = pathlib.Path(__file__).parent

KUBERNETES = "v1.36.3"
TOOLS = {
    "kwok": "sigs.k8s.io/kwok/cmd/kwok@v0.8.0",
    "local-path-provisioner": "github.com/rancher/local-path-provisioner@v0.0.30",
    "helm": "helm.sh/helm/v4/cmd/helm@v4.3.1",
}
COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
)
PAUSE_IMAGE = "localhost/pause:1"
BASE_IMAGE = "localhost/python:3.11-slim-bookworm"
PACKAGES = (
    "containerd runc containernetworking-plugins iptables nftables conntrack socat ebtables openssl"
    " mmdebstrap buildah docker-registry gcc libc6-dev iproute2 util-linux procps"
).split()
PROGRAMS = {
    "containerd": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "openssl": "openssl",
    "mmdebstrap": "mmdebstrap",
    "buildah": "buildah",
    "docker-registry": "docker-registry",
    "gcc": "gcc",
    "ip": "iproute2",
    "conntrack": "conntrack",
    "iptables": "iptables",
    "ebtables": "ebtables",
    "socat": "socat",
    "nsenter": "util-linux",
}


def _folder(variable: str, default: str) -> pathlib.Path:
    base = os.environ.get(variable)
    return (pathlib.Path(base) if base else pathlib.Path.home() / default) / "chatmodel"


@dataclasses.dataclass(frozen=True)
class Settings:
    """One cluster. `name` prefixes namespaces and cgroups; at most six letters."""

    name: str = "cm"
    api_port: int = 16443
    node_net: str = "10.200.0"
    pod_net: str = "10.244"
    service_net: str = "10.96"
    cache: pathlib.Path = dataclasses.field(
        default_factory=lambda: _folder("XDG_CACHE_HOME", ".cache")
    )
    home: pathlib.Path = dataclasses.field(
        default_factory=lambda: _folder("XDG_STATE_HOME", ".local/state") / "cluster"
    )

    @classmethod
    def of_environment(cls) -> "Settings":
        """Return the cluster that DEVCLUSTER_NAME and DEVCLUSTER_API_PORT say, or the usual one."""
        usual = cls()
        name = os.environ.get("DEVCLUSTER_NAME") or usual.name
        port = int(os.environ.get("DEVCLUSTER_API_PORT") or usual.api_port)
        home = usual.home if name == usual.name else usual.home.with_name(f"cluster-{name}")
        return cls(name=name, api_port=port, home=home)

    @property
    def bin(self) -> pathlib.Path:
        return self.cache / "bin"

    @property
    def images(self) -> pathlib.Path:
        return self.cache / "images"

    @property
    def pki(self) -> pathlib.Path:
        return self.home / "pki"

    @property
    def log(self) -> pathlib.Path:
        return self.home / "log"

    @property
    def run(self) -> pathlib.Path:
        return self.home / "run"

    @property
    def nodes(self) -> pathlib.Path:
        return self.home / "nodes"

    @property
    def state(self) -> pathlib.Path:
        """Sockets and containerd's state: the path of a socket may have 107 characters."""
        return pathlib.Path("/run") / f"chatmodel-{self.name}"

    @property
    def kubeconfig(self) -> pathlib.Path:
        """For the machine's own namespace, through the forward on loopback."""
        return self.home / "kubeconfig"

    @property
    def inside_kubeconfig(self) -> pathlib.Path:
        """For processes in the cluster's namespaces."""
        return self.pki / "admin.kubeconfig"

    @property
    def switch(self) -> str:
        return f"{self.name}-sw"

    @property
    def api_ip(self) -> str:
        return self.node_ip(1)

    @property
    def dns_ip(self) -> str:
        return f"{self.service_net}.0.10"

    @property
    def registry(self) -> str:
        return f"{self.node_net}.1:5000"

    @property
    def private_registry(self) -> str:
        return f"{self.node_net}.1:5001"

    @property
    def fake_pods(self) -> str:
        """Addresses of pods on fake nodes: local in node 1's namespace, for a stand-in."""
        return f"{self.pod_net}.128.0/17"

    def namespace(self, node: int) -> str:
        return f"{self.name}-node-{node}"

    def node_ip(self, node: int) -> str:
        return f"{self.node_net}.{10 + node}"

    def node_pods(self, node: int) -> str:
        return f"{self.pod_net}.{node}.0/24"

    def node_home(self, node: int) -> pathlib.Path:
        return self.nodes / f"node-{node}"

    def node_state(self, node: int) -> pathlib.Path:
        return self.state / f"node-{node}"

    def variables(self) -> dict[str, str]:
        """Return what templates may name as @NAME@."""
        return {
            "PKI": str(self.pki),
            "DNS_IP": self.dns_ip,
            "API_IP": self.api_ip,
            "CLUSTER_HOME": str(self.home),
            "HELPER_IMAGE": BASE_IMAGE,
        }


def render(name: str, variables: dict[str, str]) -> str:
    """Return a template of this package with each @NAME@ replaced. Raises KeyError."""
    pieces = (HERE / name).read_text().split("@")
    out = pieces[0]
    for i, piece in enumerate(pieces[1:], start=1):
        # NAME stands between two signs: every odd piece is a name.
        out += variables[piece] if i % 2 else piece
    return out
