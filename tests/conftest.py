"""What tests of several layers share: the cluster, a namespace, what to collect on a failure."""

import os
import pathlib
from collections.abc import Iterator

import pytest
from kube import ROOT, Kube, devcluster, random_name

FAILED = pytest.StashKey[bool]()
COLLECTED = ("chatmodels,chatmodelrevisions,deployments,jobs,pods,services", "events")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: object) -> Iterator[None]:
    report = yield
    item.stash.setdefault(FAILED, False)
    item.stash[FAILED] |= report.failed
    return report


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Kube:
    """The cluster of CLUSTER: embedded (brought up when it is not), current, or kind."""
    if os.environ.get("CLUSTER") == "kind":
        made = request.getfixturevalue("kind_cluster")  # pytest-kind's
        kubeconfig = str(made.kubeconfig_path)
    else:
        devcluster("up")
        kubeconfig = devcluster("kubeconfig")
    kube = Kube(kubeconfig, devcluster("bin"))
    kube.run("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    kube.run("wait", "--for=condition=Established", "crd", "-l", "!none", "--timeout=30s")
    return kube


@pytest.fixture
def namespace(cluster: Kube, request: pytest.FixtureRequest) -> Iterator[Kube]:
    """A namespace of the test's own; what was in it is collected when the test failed."""
    kube = cluster.inside(random_name("t"))
    kube.run("create", "namespace", kube.namespace)
    yield kube
    if request.node.stash.get(FAILED, False):
        collect(kube, pathlib.Path("failures") / request.node.name.replace("/", "-"))
    # Not waited for: a namespace goes when half of its pods' grace period is over.
    kube.run("delete", "chatmodels", "--all", "--wait=false")
    kube.run("delete", "namespace", kube.namespace, "--wait=false")


def collect(kube: Kube, folder: pathlib.Path) -> None:
    """Write down what a failed test left behind."""
    folder.mkdir(parents=True, exist_ok=True)
    for kinds in COLLECTED:
        text = kube.run("get", kinds, "-o", "yaml")
        (folder / f"{kinds.split(',')[0]}.yaml").write_text(text)
    for pod in kube.get("pods")["items"]:
        name = pod["metadata"]["name"]
        logs = kube.run("logs", name, "--all-containers", "--tail=200", "--ignore-errors")
        (folder / f"{name}.log").write_text(logs)
