"""The cluster's own test: a workload with what an operator's children usually have, and faults.

`python3 -m devcluster check`. Every line must end in ok.
"""

import json
import os
import time
from collections.abc import Callable

from devcluster import control_plane, nodes
from devcluster.settings import PAUSE_IMAGE, Settings, render
from devcluster.shell import Problem, in_namespace, run, say, succeeds, wait_for

OUTSIDE = {
    "an outside name fails at once": 'socket.getaddrinfo("example.com", 80)',
    "an outside address fails at once": 'socket.create_connection(("192.0.2.1", 80), 5)',
}
API_FROM_POD = """
import ssl, urllib.request as u
base = '/var/run/secrets/kubernetes.io/serviceaccount/'
token = open(base + 'token').read()
headers = {'Authorization': 'Bearer ' + token}
request = u.Request('https://kubernetes.default.svc/api', headers=headers)
u.urlopen(request, context=ssl.create_default_context(cafile=base + 'ca.crt'), timeout=2)"""


class Checks:
    """One run, in a namespace of its own."""

    def __init__(self, config: Settings) -> None:
        self.config = config
        self.namespace = f"check-{os.getpid()}"
        self.kubectl = [*control_plane.kubectl(config), "-n", self.namespace]
        self.failed: list[str] = []

    def see(self, name: str, holds: Callable[[], bool]) -> None:
        """Wait up to 45 s for something to hold, and say so."""
        started = time.monotonic()
        try:
            wait_for(45, name, holds)
            result = "ok"
        except Problem:
            result = "FAILED"
            self.failed.append(name)
        say(f"{name:<58} {time.monotonic() - started:5.1f} s  {result}")

    def python(self, code: str) -> Callable[[], bool]:
        """Return a check that runs Python in the client pod."""
        words = [*self.kubectl, "exec", "client", "--", "python3", "-c", code]
        return lambda: succeeds(*words)

    def pod(self, name: str) -> dict[str, object]:
        """Return a pod."""
        return dict(json.loads(run(*self.kubectl, "get", "pod", name, "-o", "json")))

    def has_reason(self, name: str, reason: str) -> bool:
        """Say whether a pod's status names a reason anywhere."""
        return f'"reason": "{reason}"' in json.dumps(self.pod(name)["status"])

    def has_event(self, name: str, words: str) -> bool:
        """Say whether an event of a pod has these words."""
        selector = f"--field-selector=involvedObject.name={name}"
        return words in run(*self.kubectl, "get", "events", selector, "-o", "json")


def run_checks(config: Settings) -> None:
    """Run all checks. Raises `Problem` naming those that failed."""
    checks = Checks(config)
    run(*checks.kubectl, "create", "namespace", checks.namespace)
    try:
        _workload(checks)
        _pulls(checks)
        _faults(checks)
    finally:
        run(*checks.kubectl, "delete", "namespace", checks.namespace, "--wait=false")
    if checks.failed:
        raise Problem("failed: " + "; ".join(checks.failed))


def _workload(checks: Checks) -> None:
    text = render("manifests/check.yaml", checks.config.variables())
    run(*checks.kubectl, "apply", "-f", "-", text=text)
    rollout = [*checks.kubectl, "rollout", "status", "deployment/web", "--timeout=1s"]
    checks.see("Deployment with a shared volume, uid 10001, read-only", lambda: succeeds(*rollout))
    ready = [*checks.kubectl, "wait", "--for=condition=Ready", "pod/client", "--timeout=1s"]
    checks.see("client pod ready", lambda: succeeds(*ready))
    web = f"http://web.{checks.namespace}.svc.cluster.local"
    fetch = "import urllib.request as u; "
    checks.see(
        "Service by its DNS name, from a pod",
        checks.python(f"{fetch}u.urlopen('{web}', timeout=2)"),
    )
    both = f"assert u.urlopen('{web}', timeout=2).read().count(b'href=\"web-') == 2"
    checks.see("both replicas wrote the volume", checks.python(fetch + both))
    checks.see("API from a pod, with its ServiceAccount", checks.python(API_FROM_POD))
    for name, code in OUTSIDE.items():
        guarded = (
            "import socket, time\nstarted = time.time()\n"
            f"try:\n    {code}\nexcept OSError:\n    assert time.time() - started < 2\n"
            "else:\n    raise SystemExit(1)"
        )
        checks.see(name, checks.python(guarded))


def _pulls(checks: Checks) -> None:
    config = checks.config
    pushed = f"{config.registry}/check/pause:1"
    run(*nodes.ctr(config, 1), "images", "tag", "--force", PAUSE_IMAGE, pushed)
    # Pushing is done by the client, which has to be inside.
    push = [*nodes.ctr(config, 1), "images", "push", "--plain-http", pushed]
    checks.see("push to the registry", lambda: succeeds(*in_namespace(config.namespace(1)), *push))
    run(*nodes.ctr(config, 1), "images", "rm", pushed)
    text = render("manifests/pulls.yaml", config.variables())
    run(*checks.kubectl, "apply", "-f", "-", text=text)
    for pod in ("pulled", "pulled-with-password"):
        ready = [*checks.kubectl, "wait", "--for=condition=Ready", f"pod/{pod}", "--timeout=1s"]
        checks.see(f"{pod}: running", lambda r=ready: succeeds(*r))


def _faults(checks: Checks) -> None:
    text = render("manifests/faults.yaml", checks.config.variables())
    run(*checks.kubectl, "apply", "-f", "-", text=text)
    expected = {
        "oom": "OOMKilled",
        "missing-image": "ImagePullBackOff",
        "refused-image": "ImagePullBackOff",
        "too-big": "Unschedulable",
        "no-secret": "CreateContainerConfigError",
    }
    for pod, reason in expected.items():
        checks.see(f"{pod}: {reason}", lambda p=pod, r=reason: checks.has_reason(p, r))
    for pod, words in {"missing-image": "not found", "refused-image": "401 Unauthorized"}.items():
        checks.see(f"{pod}: {words}", lambda p=pod, w=words: checks.has_event(p, w))
    # Not CrashLoopBackOff: with short back-offs the kubelet may never write that word.
    path = "{.status.containerStatuses[0].restartCount}"
    count = [*checks.kubectl, "get", "pod", "crash", "-o", f"jsonpath={path}"]
    checks.see("crash: restarted twice", lambda: int(run(*count) or 0) >= 2)
