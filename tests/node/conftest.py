"""Real pods with the real runtime, the hub mirror in the cluster, and the operator installed."""

import os
import subprocess
import sys

import pytest
from kube import ROOT, Kube, chatmodel, devcluster
from node_story import Service


@pytest.fixture(scope="session")
def installed(cluster: Kube) -> Kube:
    """The cluster with images, operator and hub mirror."""
    env = {**os.environ, "PYTHON": sys.executable}
    subprocess.run([sys.executable, "-m", "devcluster", "images"], cwd=ROOT, check=True, env=env)
    devcluster("load")
    subprocess.run([sys.executable, "demo/deploy.py"], cwd=ROOT, check=True, env=cluster.env)
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
