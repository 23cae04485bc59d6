"""The story in three minutes, on a cluster that is up with the images loaded: `make demo`.

A model goes live, two bad ones are refused, and a client in the background counts what it noticed.
Standard library only; everything goes through kubectl, as a user would.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

ROOT = pathlib.Path(__file__).parents[1]
NAMESPACE, NAME = "demo", "triage"
QWEN = "Qwen/Qwen3-4B-Thinking-2507"
SMOLLM = "HuggingFaceTB/SmolLM2-135M-Instruct"
GREEDY = {"maxNewTokens": 8, "temperature": 0}
ASK = """
import json, os, sys, urllib.request
body = json.dumps({"patient_mrn": "MRN-001", "query": sys.argv[1]}).encode()
headers = {"Content-Type": "application/json", "X-API-Key": os.environ["CHATMODEL_API_KEY"]}
request = urllib.request.Request("http://triage:8002/triage", body, headers)
print(urllib.request.urlopen(request, timeout=120).read().decode())
"""
started = time.monotonic()


def say(text: str) -> None:
    """Print a line with the seconds since the start."""
    print(f"[{time.monotonic() - started:6.1f} s] {text}", flush=True)


def kubectl(*words: str, text: str | None = None) -> str:
    """Run kubectl in the demo's namespace and return its output; its words when it fails."""
    command = ["kubectl", "-n", NAMESPACE, *words]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"`{' '.join(command[:6])}` failed: {done.stderr.strip()}")
    return done.stdout


def chatmodel() -> dict:
    """Return the ChatModel."""
    return json.loads(kubectl("get", "chatmodel", NAME, "-o", "json"))


def ready(body: dict) -> dict:
    """Return the Ready condition, if it speaks of the newest generation."""
    for condition in body.get("status", {}).get("conditions", []):
        fresh = condition["observedGeneration"] == body["metadata"]["generation"]
        if condition["type"] == "Ready" and fresh:
            return condition
    return {}


def watch(until: Callable[[dict], bool], seconds: float = 180) -> dict:
    """Print every change of the reason until the Ready condition is as wished."""
    last, end = "", time.monotonic() + seconds
    while time.monotonic() < end:
        condition = ready(chatmodel())
        line = f"{condition.get('reason', '')}: {condition.get('message', '')}"
        if condition and line != last:
            say(f"    {line}")
            last = line
        if condition and until(condition):
            return condition
        time.sleep(0.2)
    sys.exit(f"the ChatModel did not get there within {seconds:.0f} s; last: {last}")


def patch(spec: dict) -> None:
    """Patch the spec, and show the command."""
    body = json.dumps({"spec": spec})
    say(f"$ kubectl patch chatmodel {NAME} --type=merge -p '{body}'")
    kubectl("patch", "chatmodel", NAME, "--type=merge", "-p", body)


def ask(question: str) -> None:
    """Ask from a pod, and show the answer."""
    answer = json.loads(kubectl("exec", "client", "--", "python3", "-c", ASK, question))
    say(f"    asked:    {question}")
    say(f"    answered: {answer['response'][:300]}")
    say(f"    by:       {answer['model']}, revision {answer['revision']},"
        f" urgency {answer['urgency']}, {answer['inference_time_ms']:.0f} ms")  # fmt: skip


def is_true(condition: dict) -> bool:
    return condition["status"] == "True"


def is_reason(word: str) -> Callable[[dict], bool]:
    return lambda condition: condition["reason"] == word


def start_client() -> None:
    """Start the background client: one worker keeps its connection, one does not."""
    script, url = (ROOT / "tests/support/traffic.py").read_text(), f"http://{NAME}:8002"
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "client"},
        "data": {"traffic.py": script},
    }
    key = {"secretKeyRef": {"name": f"{NAME}-api-key", "key": "api-key"}}
    container = {
        "name": "client",
        "image": "localhost/chatmodel-hub:dev",
        "imagePullPolicy": "IfNotPresent",
        "command": [*"python3 -u /client/traffic.py --rate 4 --workers 2 --wait 30".split(), url],
        "env": [{"name": "CHATMODEL_API_KEY", "valueFrom": key}],
        "volumeMounts": [{"name": "client", "mountPath": "/client"}],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "client"},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "containers": [container],
            "volumes": [{"name": "client", "configMap": {"name": "client"}}],
        },
    }
    kubectl("apply", "-f", "-", text=json.dumps(config))
    kubectl("apply", "-f", "-", text=json.dumps(pod))
    kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")


def stop_client() -> dict:
    """Stop the background client and return its summary."""
    kubectl("exec", "client", "--", "sh", "-c", "kill -TERM 1")
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/client", "--timeout=60s")
    return json.loads(kubectl("logs", "client").strip().splitlines()[-1])


def prepare() -> None:
    """Start from a namespace without ChatModels.

    The namespace itself stays: deleting one waits for half of its pods' termination grace period,
    minutes here, however soon the pods are gone.
    """
    text = json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    kubectl("apply", "-f", "-", text=text)
    clean_up()


def clean_up() -> None:
    """Delete what a demo makes, and wait until it is gone."""
    kubectl("delete", "chatmodels,pods", "--all", "--wait=false")
    kubectl("wait", "--for=delete", "pods,services,chatmodelrevisions", "--all", "--timeout=60s")


def tell_good() -> None:
    """A mock goes live, then a real model."""
    say("1. One object: a mock that needs no model")
    say(f"$ kubectl apply -f examples/01-quickstart/chatmodel.yaml  # namespace {NAMESPACE}")
    kubectl("apply", "-f", str(ROOT / "examples/01-quickstart/chatmodel.yaml"))
    watch(is_true)
    say("2. A client asks 4 times a second from here on, half of it over kept-alive connections")
    start_client()
    ask("What are my current medications?")
    say("3. Switch to the Qwen thinking model")
    say("   (from the hub mirror: a stand-in of one megabyte, trained on a dozen answers)")
    patch({"mode": "qwen"})
    watch(is_true)
    ask("What are my current medications?")
    ask("I have crushing chest pain and I am sweating.")
    say("4. Switch to any model of the hub: SmolLM2-135M-Instruct, the real one, 269 MB")
    patch({"mode": "huggingface", "model": {"id": SMOLLM}, "generation": GREEDY})
    watch(is_true)
    say("   (a harmless question: it is no clinician)")
    ask("What is the capital of France?")


def tell_bad() -> None:
    """Two bad models are refused."""
    say("5. A model that does not exist")
    patch({"model": {"id": "demo/does-not-exist"}})
    watch(is_reason("RolledBack"))
    say("6. A model that passes inspection and dies while loading")
    patch({"model": {"id": "demo/wrong-shapes"}})
    watch(is_reason("RolledBack"))
    ask("What is the capital of France?")


def tell_end() -> int:
    """Show what is left, and return the failed requests."""
    say("7. What serves, what was asked for, and why they differ")
    print(kubectl("get", "chatmodels,chatmodelrevisions"))
    condition = ready(chatmodel())
    print(f"Ready={condition['status']} {condition['reason']}: {condition['message']}\n")
    summary = stop_client()
    revisions = ", ".join(f"{n} x {r}" for r, n in _counts(summary).items())
    say(f"the client asked {summary['requests']} times; failed: {summary['failed']}")
    say(f"answers by revision: {revisions}")
    return int(summary["failed"])


def _counts(summary: dict) -> dict[str, int]:
    return {name: seen["requests"] for name, seen in summary["revisions"].items()}


def main() -> None:
    """Tell the story; exit 1 when a request failed."""
    parser = argparse.ArgumentParser(description="The ChatModel demo.")
    parser.add_argument("--keep", action="store_true", help="leave everything for play")
    args = parser.parse_args()
    prepare()
    tell_good()
    tell_bad()
    failures = tell_end()
    if args.keep:
        print(
            "\nIt is yours now. Try, with KUBECONFIG and PATH as `make env` prints them:\n"
            f"  kubectl -n {NAMESPACE} get chatmodels -w\n"
            f"  kubectl -n {NAMESPACE} patch chatmodel {NAME} --type=merge"
            ' -p \'{"spec":{"mode":"mock"}}\'\n'
            f"  kubectl -n {NAMESPACE} describe chatmodel {NAME}\n"
            f"  make forward NAME={NAME} NAMESPACE={NAMESPACE}\n"
            "  make cluster-down"
        )
    else:
        clean_up()
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
