"""CRDs that go under a running operator and come back, or are older than it.

Deleting a CRD deletes its objects, everybody's: such a test first sees that nobody else has any.
"""

import pathlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from fake_nodes_story import good, serving_pods, start_good
from kube import ROOT, Body, Kube, wait_for
from oracles import canonical_end, find_complaints, find_misplaced

GROUP = "carepath.ai"
KINDS = tuple(f"{plural}.{GROUP}" for plural in ("chatmodels", "chatmodelrevisions"))
CLASSES = f"instanceclasses.{GROUP}"


@pytest.fixture
def crds(fake_cluster: Kube) -> Iterator[Kube]:
    """A cluster whose CRDs a test may take away: they come back, and the classes with them."""
    kube = fake_cluster
    others = kube.run("get", "chatmodels", "-A", "-o", "name").split()
    if others:
        pytest.skip(f"these would be deleted: {', '.join(others)}")
    classes = kube.get(CLASSES)["items"]
    yield kube
    bring_back(kube, classes)


def bring_back(kube: Kube, classes: list[Body] | None = None) -> None:
    """Apply today's CRDs, and the classes that went with theirs."""
    kube.run("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    kube.run("wait", "--for=condition=Established", "crd", *KINDS, CLASSES, "--timeout=30s")
    for body in classes or []:
        meta = {key: body["metadata"].get(key) for key in ("name", "annotations", "labels")}
        kube.apply(body | {"metadata": meta})


def failed_passes(run: Any) -> int:
    return int(run.log().count("] pass over "))


def asked(run: Any, plural: str) -> list[float]:
    """Return when the operator listed a kind."""
    lines = [line for line in run.trace() if line.get("request", "").endswith(f"/{plural}")]
    return [line["at"] for line in lines if line["verb"] == "GET" and not line["watch"]]


@pytest.mark.fault("U2")
def test_an_operator_outlives_its_kinds_and_serves_anew_when_they_are_back(
    operator: Any, crds: Kube
) -> None:
    classes = crds.get(CLASSES)["items"]
    with operator() as run:
        kube: Kube = run.kube
        start_good(kube, "again")
        end, uid = canonical_end(kube, "again"), kube.get("chatmodel", "again")["metadata"]["uid"]
        seen, before = len(asked(run, "chatmodels")), len(run.writes())
        kube.run("delete", "crd", *KINDS, CLASSES)
        wait_for(lambda: serving_pods(kube, "again") == [], "the garbage collector")
        wait_for(lambda: len(asked(run, "chatmodels")) >= seen + 6, "the kind to be looked for")
        times = asked(run, "chatmodels")[seen:]
        assert times[-1] - times[0] > 2, "asked without a pause"
        assert len(run.writes()) - before < 5
        bring_back(kube, classes)
        kube.apply(good("again"))
        kube.wait_for_reason("again", "Serving")
        assert canonical_end(kube, "again") == end
        assert kube.get("chatmodel", "again")["metadata"]["uid"] != uid
        assert len(run.said("started")) == 1
        assert find_misplaced(run.writes(), kube.namespace) == []


@pytest.mark.fault("U2")
def test_without_the_kind_of_its_records_what_serves_serves_on_and_is_recorded_again(
    operator: Any, crds: Kube
) -> None:
    with operator() as run:
        kube: Kube = run.kube
        start_good(kube, "kept")
        pods, service = serving_pods(kube, "kept"), kube.get("service", "kept")["spec"]
        verdicts = canonical_end(kube, "kept")["revisions"]
        before = len(run.writes())
        kube.run("delete", "crd", KINDS[1])
        wait_for(lambda: failed_passes(run) >= 5, "passes to fail")
        assert len(run.writes()) - before < 10
        assert serving_pods(kube, "kept") == pods
        assert kube.get("service", "kept")["spec"] == service
        bring_back(kube)
        wait_for(lambda: canonical_end(kube, "kept")["revisions"] == verdicts, "the records")
        kube.wait_for_reason("kept", "Serving")
        assert serving_pods(kube, "kept") == pods
        assert kube.get("service", "kept")["spec"] == service
        assert len(run.said("started")) == 1
        assert find_misplaced(run.writes(), kube.namespace) == []


def install_older(kube: Kube, folder: pathlib.Path, crd: str, where: str, field: str) -> None:
    """Have a CRD that does not know a field yet, nor a rule about it."""
    body = yaml.safe_load((ROOT / f"crds/{crd}.yaml").read_text())
    part = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for name in where.split("."):
        part = part["properties"][name]
    del part["properties"][field]
    rules = part.pop("x-kubernetes-validations", [])
    if rules := [rule for rule in rules if field not in rule["rule"]]:
        part["x-kubernetes-validations"] = rules
    path = folder / "older.yaml"
    path.write_text(yaml.safe_dump(body))
    kube.run("replace", "-f", str(path))


def knows(kube: Kube, kind: str, where: str, field: str) -> Callable[[], bool]:
    """Return what says whether the API server shows a field of the one object there is."""

    def look() -> bool:
        (body,) = kube.get(kind)["items"]
        for name in where.split("."):
            body = body[name]
        return field in body

    return look


@pytest.mark.fault("U2")
@pytest.mark.parametrize(
    ("where", "field"),
    [
        pytest.param("spec.source", "generation", id="of what a revision is"),
        pytest.param("spec", "template", id="of what its pods are"),
        pytest.param("status", "servingAt", id="of what was done"),
        pytest.param("status", "startedAt", id="of when it began"),
    ],
)
def test_before_an_older_crd_nothing_is_written_again_and_again_and_what_serves_stays(
    operator: Any, crds: Kube, tmp_path: pathlib.Path, where: str, field: str
) -> None:
    generation = {"maxNewTokens": 99}
    with operator() as run:
        kube: Kube = run.kube
        kube.apply(good("old", generation=generation))
        kube.wait_for_reason("old", "Serving", 120)
        pods, shown = serving_pods(kube, "old"), knows(kube, KINDS[1], where, field)
        assert shown()
        before = len(run.writes())
        install_older(kube, tmp_path, KINDS[1], where, field)
        wait_for(lambda: not shown(), "the older schema")
        kube.patch("old", {"model": {"id": "demo/good-2"}})
        told = kube.wait_for_reason("old", "SchemaMismatch", 30)
        assert f"{where}.{field}" in told["message"]
        count = failed_passes(run)
        wait_for(lambda: failed_passes(run) >= count + 3, "passes to fail")
        assert len(run.writes()) - before < 30
        assert len(kube.get(KINDS[1])["items"]) <= 2
        assert set(pods) <= set(serving_pods(kube, "old"))
        bring_back(kube)
        kube.wait_for_reason("old", "Serving")
        assert kube.get("chatmodel", "old")["status"]["serving"]["number"] == 2
        assert len(kube.get(KINDS[1])["items"]) == 2
        assert find_misplaced(run.writes(), kube.namespace) == []


@pytest.mark.fault("U2")
def test_an_operator_that_starts_before_an_older_crd_makes_no_second_revision(
    operator: Any, crds: Kube, tmp_path: pathlib.Path
) -> None:
    with operator() as run:
        kube: Kube = run.kube
        kube.apply(good("old", generation={"maxNewTokens": 99}))
        kube.wait_for_reason("old", "Serving", 120)
        pods, shown = serving_pods(kube, "old"), knows(kube, KINDS[1], "spec.source", "generation")
        install_older(kube, tmp_path, KINDS[1], "spec.source", "generation")
        wait_for(lambda: not shown(), "the older schema")
        run.signal(signal.SIGKILL)  # and started again
        told = kube.wait_for_reason("old", "SchemaMismatch", 30)
        assert "spec.source.generation" in told["message"]
        bring_back(kube)
        kube.wait_for_reason("old", "Serving")
        assert len(kube.get(KINDS[1])["items"]) == 1
        assert serving_pods(kube, "old") == pods


@pytest.mark.fault("U2")
def test_what_an_older_crd_cannot_say_of_a_chatmodel_is_left_out(
    operator: Any, crds: Kube, tmp_path: pathlib.Path
) -> None:
    install_older(crds, tmp_path, KINDS[0], "status", "lastRollout")
    with operator() as run:
        kube: Kube = run.kube
        start_good(kube, "old")
        assert "lastRollout" not in kube.get("chatmodel", "old")["status"]
        before = len(run.writes())
        for text in "abc":
            kube.run("annotate", "--overwrite", "chatmodel", "old", f"team={text}")
            kube.wait_for_reason("old", "Serving")
        bring_back(kube)
        wait_for(knows(kube, KINDS[0], "status", "lastRollout"), "the whole status", 30)
        assert len(run.writes()) - before < 20
        assert find_complaints(run.log()) == []
