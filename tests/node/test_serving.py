"""Rollouts of real models on a real node, under real traffic."""

import subprocess
import sys
import urllib.request

from kube import ROOT, Kube, chatmodel, wait_for
from node_story import Service, losses


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
    assert counted["failed"] == 0, losses(counted)
    assert set(counted["revisions"]) >= {serving}


def test_a_model_too_big_for_its_class_is_killed_and_refused(service: Service) -> None:
    kube = service.kube
    kube.patch("triage", {"mode": "huggingface", "model": {"id": "demo/too-big"}})
    ready = kube.wait_for_reason("triage", "RolledBack", 240)
    assert "OOMKilled" in ready["message"]
    counted = service.stop()
    assert counted["failed"] == 0, losses(counted)


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
    assert counted["failed"] == 0, losses(counted)


def test_a_pod_that_is_told_to_end_while_its_server_begins_ends_at_once(service: Service) -> None:
    kube = service.kube
    kube.patch("triage", {"mode": "qwen"})
    kube.wait_for_reason("triage", "Serving", 120)
    serving = kube.get("chatmodel", "triage")["status"]["serving"]["revision"]
    selector = f"carepath.ai/revision={serving},carepath.ai/role=serve"
    (old,) = kube.run("get", "pods", "-l", selector, "-o", "name").split()
    kube.run("delete", old, "--wait=false")
    begun: list[str] = []

    def has_begun() -> bool:
        for pod in kube.get("pods", "-l", selector)["items"]:
            name = pod["metadata"]["name"]
            for entry in pod["status"].get("containerStatuses") or []:
                if f"pod/{name}" != old and "running" in entry["state"] and not entry["ready"]:
                    begun.append(name)
        return bool(begun)

    wait_for(has_begun, "a server that has just begun", 60)
    kube.run("delete", "pod", begun[-1], "--wait=false")

    def is_gone() -> bool:
        return f"pod/{begun[-1]}" not in kube.run("get", "pods", "-o", "name").split()

    wait_for(is_gone, f"{begun[-1]} to end, long before its grace period", 60)


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
