"""An object stored under an older, looser schema: it is told, it stops nobody, it can be healed."""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from fake_nodes_story import good
from kube import ROOT, Kube, Refused, chatmodel, wait_for

CRD = ROOT / "crds/chatmodels.carepath.ai.yaml"


@contextlib.contextmanager
def older_schema(kube: Kube, folder: pathlib.Path) -> Iterator[None]:
    """Have a schema that takes any mode and any temperature."""
    body = yaml.safe_load(CRD.read_text())
    schema = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec = schema["properties"]["spec"]["properties"]
    del spec["mode"]["enum"]
    del spec["generation"]["properties"]["temperature"]["maximum"]
    path = folder / "crd.yaml"
    path.write_text(yaml.safe_dump(body))
    apply_crd(kube, path)
    try:
        yield
    finally:
        apply_crd(kube, CRD)


def apply_crd(kube: Kube, path: pathlib.Path) -> None:
    kube.run("apply", "--server-side", "--force-conflicts", "-f", str(path))


def takes(kube: Kube, mode: str) -> bool:
    try:
        kube.run(
            "create", "--dry-run=server", "-f", "-", text=json.dumps(chatmodel("probe", mode=mode))
        )
    except Refused:
        return False
    return True


@pytest.mark.fault("U1")
@pytest.mark.parametrize(
    ("was", "cure", "where"),
    [
        pytest.param({"mode": "gguf"}, {"mode": "mock"}, "spec.mode: ", id="a mode that is gone"),
        pytest.param(
            {"mode": "mock", "generation": {"temperature": 3}},
            {"generation": {"temperature": 1}},
            "spec.generation.temperature: ",
            id="a value out of today's range",
        ),
    ],
)
def test_a_stored_object_today_refuses_stops_nobody_and_can_be_healed(
    operator: Any, tmp_path: pathlib.Path, was: dict[str, Any], cure: dict[str, Any], where: str
) -> None:
    with operator() as run:
        kube: Kube = run.kube
        with older_schema(kube, tmp_path):
            wait_for(lambda: takes(kube, "gguf"), "the older schema")
            kube.apply(good("old", **was))
        wait_for(lambda: not takes(kube, "gguf"), "today's schema")
        assert where in kube.wait_for_reason("old", "InvalidSpec")["message"]
        kube.apply(good("neighbour"))
        kube.wait_for_reason("neighbour", "Serving")
        kube.run("annotate", "chatmodel", "old", "team=a")
        assert kube.ready("old")["reason"] == "InvalidSpec"
        kube.patch("old", cure)
        kube.wait_for_reason("old", "Serving")
        with pytest.raises(Refused):
            kube.patch("old", was)
