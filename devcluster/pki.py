"""Certificates and kubeconfigs, each made once, by openssl."""

import base64
import json
import pathlib
import tempfile

from devcluster.settings import Settings
from devcluster.shell import run

DAYS = "3650"


def make(config: Settings, nodes: int) -> None:
    """Make everything the control plane and so many nodes need."""
    config.pki.mkdir(parents=True, exist_ok=True)
    config.pki.chmod(0o700)
    _make_authority(config)
    names = (
        f"IP:{config.api_ip},IP:{config.service_net}.0.1,IP:127.0.0.1,DNS:localhost,"
        "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,"
        "DNS:kubernetes.default.svc.cluster.local"
    )
    _issue(config, "kube-apiserver", "/CN=kube-apiserver", "serverAuth,clientAuth", names)
    _issue(config, "apiserver-kubelet", "/O=system:masters/CN=apiserver-kubelet", "clientAuth")
    _issue(config, "front-proxy", "/CN=front-proxy", "clientAuth")
    _client(config, "admin", "/O=system:masters/CN=admin")
    for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns"):
        _client(config, name, f"/CN=system:{name}")
    for node in range(1, nodes + 1):
        name = f"node-{node}"
        subject = f"/O=system:nodes/CN=system:node:{name}"
        _client(config, name, subject)
        names = f"IP:{config.node_ip(node)},DNS:{name}"
        _issue(config, f"{name}-serving", subject, "serverAuth", names)
    server = f"https://127.0.0.1:{config.api_port}"
    write_kubeconfig(config, "admin", server, config.kubeconfig)


def _make_authority(config: Settings) -> None:
    folder = config.pki
    if (folder / "ca.crt").exists():
        return
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-keyout", folder / "ca.key", "-subj", f"/CN={config.name}-ca",
        "-days", DAYS, "-out", folder / "ca.crt")  # fmt: skip
    run("openssl", "genrsa", "-out", folder / "sa.key", "2048")
    run("openssl", "rsa", "-in", folder / "sa.key", "-pubout", "-out", folder / "sa.pub")


def _issue(config: Settings, name: str, subject: str, usage: str, alternatives: str = "") -> None:
    folder = config.pki
    if (folder / f"{name}.crt").exists():
        return
    request = folder / f"{name}.csr"
    run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-keyout", folder / f"{name}.key", "-subj", subject, "-out", request)  # fmt: skip
    extensions = f"extendedKeyUsage={usage}\n"
    if alternatives:
        extensions += f"subjectAltName={alternatives}\n"
    with tempfile.NamedTemporaryFile("w", suffix=".ext") as file:
        file.write(extensions)
        file.flush()
        run("openssl", "x509", "-req", "-in", request, "-CA", folder / "ca.crt", "-CAkey",
            folder / "ca.key", "-CAcreateserial", "-days", DAYS, "-out", folder / f"{name}.crt",
            "-extfile", file.name)  # fmt: skip
    request.unlink()


def _client(config: Settings, name: str, subject: str) -> None:
    _issue(config, name, subject, "clientAuth")
    server = f"https://{config.api_ip}:6443"
    write_kubeconfig(config, name, server, config.pki / f"{name}.kubeconfig")


def write_kubeconfig(config: Settings, user: str, server: str, path: pathlib.Path) -> None:
    """Write a kubeconfig for a user whose certificate is there. JSON is YAML."""

    def read(name: str) -> str:
        return base64.b64encode((config.pki / name).read_bytes()).decode()

    keys = {
        "client-certificate-data": read(f"{user}.crt"),
        "client-key-data": read(f"{user}.key"),
    }
    cluster = {"server": server, "certificate-authority-data": read("ca.crt")}
    name = f"chatmodel-{config.name}"
    body = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": user, "user": keys}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
    }
    path.write_text(json.dumps(body))
    path.chmod(0o600)
