"""Real pods with the real runtime, the hub mirror in the cluster, and the operator installed."""

import json
import os
import subprocess
import sys

import models
import pytest
from caches import EMBEDDED_IMAGE
from kube import ROOT, Kube, chatmodel, devcluster
from node_story import Service


@pytest.fixture(scope="session")
def installed(cluster: Kube) -> Kube:
    """The cluster with images, operator and hub mirror, and models inside an image."""
    env = {**os.environ, "PYTHON": sys.executable}
    for names in ([], ["embedded"]):
        command = [sys.executable, "-m", "devcluster", "images", *names]
        subprocess.run(command, cwd=ROOT, check=True, env=env)
    devcluster("load")
    deploy = [sys.executable, "demo/deploy.py", "--embedded", json.dumps(embedded())]
    subprocess.run(deploy, cwd=ROOT, check=True, env=cluster.env)
    return cluster


@pytest.fixture
def service(installed: Kube, namespace: Kube) -> Service:
    """A mock that serves, and a client that asks all the time."""
    spec = {"mode": "mock", "patientContext": {"source": "Demo"}, "rollout": {"bakeSeconds": 3}}
    namespace.apply(chatmodel("triage", **spec))
    namespace.wait_for_reason("triage", "Serving")
    client = Service(namespace)
    client.start()
    return client


def embedded() -> list[dict[str, object]]:
    """Return the operator's settings for the image with models inside."""
    qwen = models.made("qwen", models.make_qwen)
    wrong = models.made("wrong-shapes", lambda folder: models.make_wrong_shapes(folder, qwen))
    inside = {models.QWEN: qwen, models.TWIN: qwen, models.WRONG_SHAPES: wrong}
    return [
        {
            "modelID": model_id,
            "commit": models.commit_of(folder),
            "weightBytes": (folder / "model.safetensors").stat().st_size,
            "formats": ["safetensors"],
            "image": EMBEDDED_IMAGE,
        }
        for model_id, folder in inside.items()
    ]
