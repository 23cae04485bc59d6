"""Operators without nodes: rollouts wait for pods, which is enough to see who writes."""

import pathlib
from collections.abc import Iterator

import pytest
from kube import Kube, random_name, without_installed_operator
from operators import Fleet


@pytest.fixture(scope="session", autouse=True)
def alone(cluster: Kube) -> Iterator[None]:
    """No operator but those of the tests: a demo that was kept has one."""
    with without_installed_operator(cluster):
        yield


@pytest.fixture
def fleet(namespace: Kube, tmp_path: pathlib.Path) -> Iterator[Fleet]:
    """Start operators that look at the test's namespace."""
    found = Fleet(namespace, tmp_path)
    yield found
    found.stop()


@pytest.fixture
def nowhere(cluster: Kube) -> Iterator[str]:
    """An InstanceClass whose pods no node takes."""
    name = random_name("nowhere")
    spec = {
        "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}},
        "nodeSelector": {"nowhere": "true"},
    }
    head = {"apiVersion": "carepath.ai/v1alpha1", "kind": "InstanceClass"}
    cluster.apply(head | {"metadata": {"name": name}, "spec": spec})
    yield name
    cluster.run("delete", "instanceclass", name)
