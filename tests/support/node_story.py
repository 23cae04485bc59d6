"""A client pod beside a ChatModel named triage: asks all the time, and when told to."""

import json
from typing import Any

from kube import ROOT, Body, Kube

ASK = """
import json, os, sys, urllib.error, urllib.request
headers = {"Content-Type": "application/json", "X-API-Key": sys.argv[2]}
url, body = "http://triage:8002" + sys.argv[1], sys.argv[3].encode() or None
request = urllib.request.Request(url, body, headers)
try:
    with urllib.request.urlopen(request, timeout=120) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""
QUESTION = json.dumps({"patient_mrn": "MRN-001", "query": "What are my current medications?"})


def client_pod() -> Body:
    key = {"secretKeyRef": {"name": "triage-api-key", "key": "api-key"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "client"},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "client",
                    "image": "localhost/chatmodel-hub:dev",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-u", "/client/traffic.py", "http://triage:8002"],
                    "args": ["--rate", "10", "--wait", "30"],
                    "env": [{"name": "CHATMODEL_API_KEY", "valueFrom": key}],
                    "volumeMounts": [{"name": "client", "mountPath": "/client"}],
                }
            ],
            "volumes": [{"name": "client", "configMap": {"name": "client"}}],
        },
    }


def losses(counted: Body) -> str:
    """Return what a client lost and when, for whoever reads that a test failed."""
    when = [second for second, _, failed in counted["perSecond"] if failed]
    return f"{counted['failures']} in the seconds {when} after {counted['startedAt']}"


class Service:
    """A ChatModel named triage with a client that asks all the time."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube

    def start(self) -> None:
        """Start the client, once the ChatModel serves."""
        script = str(ROOT / "tests/support/traffic.py")
        self.kube.run("create", "configmap", "client", f"--from-file=traffic.py={script}")
        self.kube.apply(client_pod())
        self.kube.run("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")

    def ask(self, path: str = "/triage", body: str = QUESTION, key: str | None = None) -> Any:
        """Return (status, body) of one request made from a pod."""
        code = (
            f"import sys, os; sys.argv[2] = sys.argv[2] or os.environ['CHATMODEL_API_KEY']\n{ASK}"
        )
        words = ["exec", "client", "--", "python3", "-c", code, path, key or "", body]
        status, _, text = self.kube.run(*words).partition(" ")
        return int(status), json.loads(text)

    def stop(self) -> Body:
        """End the client and return what it counted."""
        self.kube.run("exec", "client", "--", "sh", "-c", "kill -TERM 1")
        wait = "--for=jsonpath={.status.phase}=Succeeded"
        self.kube.run("wait", wait, "pod/client", "--timeout=60s")
        return dict(json.loads(self.kube.run("logs", "client").strip().splitlines()[-1]))
