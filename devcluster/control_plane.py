"""etcd, API server, controller manager and scheduler, in node 1's namespace."""

import json
import sys
from typing import Any

from devcluster.processes import Daemons
from devcluster.settings import HERE, Settings
from devcluster.shell import run, succeeds, wait_for

# What the operator asks for is always written down, so that a test can compare it with its rights.
OPERATOR = "system:serviceaccount:chatmodel-system:chatmodel-operator"
# What bench/ measures: a copy of each status in a log is no part of what it costs.
MEASURED = "system:serviceaccount:chatmodel-bench:chatmodel-bench"
AUDIT_LOG = "audit.jsonl"


def start(config: Settings, daemons: Daemons, *, audit: bool) -> None:
    """Start what is not alive, and wait for the API."""
    namespace = config.namespace(1)
    # The data is worthless after a crash of the machine, and fine after one of etcd.
    daemons.start("etcd", namespace, [
        config.bin / "etcd", "--data-dir", config.home / "etcd", "--unsafe-no-fsync",
        "--log-level", "warn", "--listen-client-urls", "http://127.0.0.1:2379",
        "--advertise-client-urls", "http://127.0.0.1:2379",
        "--listen-peer-urls", "http://127.0.0.1:2380",
    ])  # fmt: skip
    daemons.start("kube-apiserver", namespace, _api_server(config, audit))
    start_forward(config, daemons)
    wait_for(60, "the API server", lambda: is_ready(config), f"See {config.log}.")
    # One replica each: without an election a restart after a crash need not wait for a lease.
    # Node networks are ours; the allocator would only race with itself.
    daemons.start("kube-controller-manager", namespace, [
        config.bin / "kube-controller-manager",
        "--kubeconfig", config.pki / "kube-controller-manager.kubeconfig",
        "--leader-elect=false", "--kube-api-qps=300", "--kube-api-burst=600",
        "--allocate-node-cidrs=false", "--use-service-account-credentials",
        "--service-account-private-key-file", config.pki / "sa.key",
        "--root-ca-file", config.pki / "ca.crt",
        "--cluster-signing-cert-file", config.pki / "ca.crt",
        "--cluster-signing-key-file", config.pki / "ca.key",
    ])  # fmt: skip
    daemons.start("kube-scheduler", namespace, [
        config.bin / "kube-scheduler", "--kubeconfig", config.pki / "kube-scheduler.kubeconfig",
        "--leader-elect=false", "--kube-api-qps=300", "--kube-api-burst=600",
    ])  # fmt: skip


def _api_server(config: Settings, audit: bool) -> list[str]:
    pki = config.pki
    flags = {
        "etcd-servers": "http://127.0.0.1:2379",
        "secure-port": "6443",
        "advertise-address": config.api_ip,
        "service-cluster-ip-range": f"{config.service_net}.0.0/16",
        "tls-cert-file": pki / "kube-apiserver.crt",
        "tls-private-key-file": pki / "kube-apiserver.key",
        "client-ca-file": pki / "ca.crt",
        "kubelet-client-certificate": pki / "apiserver-kubelet.crt",
        "kubelet-client-key": pki / "apiserver-kubelet.key",
        "kubelet-certificate-authority": pki / "ca.crt",
        # A node's name has no DNS entry.
        "kubelet-preferred-address-types": "InternalIP",
        "requestheader-client-ca-file": pki / "ca.crt",
        "requestheader-allowed-names": "front-proxy",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": pki / "front-proxy.crt",
        "proxy-client-key-file": pki / "front-proxy.key",
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": pki / "sa.pub",
        "service-account-signing-key-file": pki / "sa.key",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
    }
    policy = config.home / "audit-policy.yaml"
    policy.write_text(json.dumps(audit_policy(everybody=audit)))
    flags |= {
        "audit-policy-file": policy,
        "audit-log-path": config.log / AUDIT_LOG,
        "audit-log-maxsize": "64",  # megabytes; what is older is in at most four files beside it
        "audit-log-maxbackup": "4",
    }
    return [str(config.bin / "kube-apiserver"), *(f"--{k}={v}" for k, v in flags.items())]


def audit_policy(*, everybody: bool) -> dict[str, Any]:
    """Return the policy: who asked for what, and what was in it for our statuses alone.

    JSON is YAML.
    """
    rule: dict[str, Any] = {"level": "Metadata"}
    statuses = {
        "group": "carepath.ai",
        "resources": ["chatmodels/status", "chatmodelrevisions/status"],
    }
    bodies = {"level": "RequestResponse", "verbs": ["patch", "update"], "resources": [statuses]}
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "omitManagedFields": True,
        "rules": [
            {"level": "None", "users": [MEASURED]},
            bodies,
            rule if everybody else rule | {"users": [OPERATOR]},
        ],
    }


def start_forward(config: Settings, daemons: Daemons) -> None:
    """Let the machine's own loopback reach the API server, and nothing else."""
    daemons.start("forward", None, [
        sys.executable, HERE / "forward.py", f"127.0.0.1:{config.api_port}",
        f"/run/netns/{config.namespace(1)}", f"{config.api_ip}:6443",
    ])  # fmt: skip


def is_ready(config: Settings) -> bool:
    """Say whether the API answers."""
    return succeeds(*kubectl(config), "--request-timeout=2s", "get", "--raw", "/readyz")


def kubectl(config: Settings) -> list[str]:
    """Return the kubectl of this cluster with its kubeconfig."""
    return [str(config.bin / "kubectl"), "--kubeconfig", str(config.kubeconfig)]


def apply(config: Settings, text: str) -> None:
    """Apply manifests."""
    run(*kubectl(config), "apply", "--server-side", "--force-conflicts", "-f", "-", text=text)
