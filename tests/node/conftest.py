"""Real pods with the real runtime, the hub mirror in the cluster, and the operator installed."""

import os
import subprocess
import sys

import pytest
from kube import ROOT, Kube, devcluster


@pytest.fixture(scope="session")
def installed(cluster: Kube) -> Kube:
    """The cluster with images, operator and hub mirror."""
    env = {**os.environ, "PYTHON": sys.executable}
    subprocess.run([sys.executable, "-m", "devcluster", "images"], cwd=ROOT, check=True, env=env)
    devcluster("load")
    subprocess.run([sys.executable, "demo/deploy.py"], cwd=ROOT, check=True, env=cluster.env)
    return cluster
