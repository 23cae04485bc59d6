"""Rollouts of real models on a real node, under real traffic."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from kube import ROOT, Body, Kube, chatmodel, wait_for

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
                    "args": ["--rate", "10"],
                    "env": [{"name": "CHATMODEL_API_KEY", "valueFrom": key}],
                    "volumeMounts": [{"name": "client", "mountPath": "/client"}],
                }
            ],
            "volumes": [{"name": "client", "configMap": {"name": "client"}}],
        },
    }


class Service:
    """A ChatModel named triage with a client that asks all the time."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube

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


@pytest.fixture
def service(installed: Kube, namespace: Kube) -> Iterator[Service]:
    spec = {"mode": "mock", "patientContext": {"source": "Demo"}, "rollout": {"bakeSeconds": 3}}
    namespace.apply(chatmodel("triage", **spec))
    namespace.wait_for_reason("triage", "Serving")
    script = str(ROOT / "tests/support/traffic.py")
    namespace.run("create", "configmap", "client", f"--from-file=traffic.py={script}")
    namespace.apply(client_pod())
    namespace.run("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")
    yield Service(namespace)


def test_a_switch_and_two_refusals_lose_no_request(service: Service) -> None:
    kube = service.kube
    status, answer = service.ask()
    assert status == 200
    assert answer["llm_mode"] == "mock"
    assert "lisinopril" in answer["response"]

    kube.patch("triage", {"mode": "qwen"})
    kube.wait_for_reason("triage", "Serving", 120)
    status, answer = service.ask()
    assert status == 200
    assert answer["model"] == "Qwen/Qwen3-4B-Thinking-2507"
    assert "metformin" in answer["response"]
    serving = kube.get("chatmodel", "triage")["status"]["serving"]["revision"]
    assert answer["revision"] == serving

    for model, reason in (
        ("demo/does-not-exist", "ModelNotFound"),
        ("demo/wrong-shapes", "ModelLoadFailed"),
    ):
        kube.patch("triage", {"mode": "huggingface", "model": {"id": model}})
        ready = kube.wait_for_reason("triage", "RolledBack", 120)
        assert reason in ready["message"]
        assert kube.get("chatmodel", "triage")["status"]["serving"]["revision"] == serving

    counted = service.stop()
    assert counted["requests"] > 100
    assert counted["failed"] == 0, counted["failures"]
    assert set(counted["revisions"]) >= {serving}


def test_a_model_too_big_for_its_class_is_killed_and_refused(service: Service) -> None:
    kube = service.kube
    kube.patch("triage", {"mode": "huggingface", "model": {"id": "demo/too-big"}})
    ready = kube.wait_for_reason("triage", "RolledBack", 240)
    assert "OOMKilled" in ready["message"]
    counted = service.stop()
    assert counted["failed"] == 0, counted["failures"]


def test_code_in_a_model_is_refused_before_anything_is_downloaded(service: Service) -> None:
    kube = service.kube
    kube.patch("triage", {"mode": "huggingface", "model": {"id": "demo/remote-code"}})
    ready = kube.wait_for_reason("triage", "RolledBack", 60)
    assert "UnsafeModelContent" in ready["message"]
    target = kube.get("chatmodel", "triage")["status"]["target"]["revision"]
    assert target not in kube.run("get", "deployments", "-o", "name")


def test_only_a_key_opens_the_service(service: Service) -> None:
    assert service.ask(key="wrong")[0] == 401
    assert service.ask("/", "", key="wrong")[0] == 401
    assert service.ask("/health", "")[0] == 200
    status, body = service.ask(body='{"patient_mrn": "MRN-404", "query": "x"}')
    assert (status, body["detail"]["error"]) == (404, "Patient not found")


def test_a_pod_that_is_deleted_comes_back_and_traffic_with_it(service: Service) -> None:
    kube = service.kube
    selector = "carepath.ai/chatmodel=triage,carepath.ai/role=serve"
    kube.run("scale", "chatmodel", "triage", "--replicas=2")
    wait_for(lambda: kube.get("chatmodel", "triage")["status"]["pods"] == "2/2", "two pods")
    first = kube.run("get", "pods", "-l", selector, "-o", "name").split()[0]
    kube.run("delete", first, "--wait=false")
    wait_for(lambda: kube.get("chatmodel", "triage")["status"]["pods"] == "2/2", "two pods again")
    counted = service.stop()
    assert counted["failed"] == 0, counted["failures"]


def test_a_deleted_service_is_made_again(service: Service) -> None:
    kube = service.kube
    before = kube.get("service", "triage")["metadata"]["uid"]
    kube.run("delete", "service", "triage")

    def is_back() -> bool:
        name = kube.run("get", "service", "triage", "--ignore-not-found", "-o", "name")
        return bool(name) and kube.get("service", "triage")["metadata"]["uid"] != before

    wait_for(is_back, "the Service to be made again", 10)


def test_pods_are_admitted_under_the_restricted_standard(installed: Kube, namespace: Kube) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    namespace.run("label", "namespace", namespace.namespace, label)
    namespace.apply(chatmodel("triage", mode="qwen"))
    namespace.wait_for_reason("triage", "Serving", 120)


def test_the_forward_reaches_the_service_from_the_host(service: Service) -> None:
    command = [sys.executable, "-m", "devcluster", "forward", "triage"]
    command += ["-n", service.kube.namespace]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    try:

        def answers() -> bool:
            try:
                with urllib.request.urlopen("http://127.0.0.1:8002/health", timeout=2) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        wait_for(answers, "the forward to answer", 20)
    finally:
        process.terminate()
        process.communicate(timeout=10)
