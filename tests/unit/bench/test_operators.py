"""Whom the benchmark of operators measures, and how its result is told."""

import arena
import pytest
import report

from devcluster import control_plane


@pytest.mark.parametrize("everybody", [False, True])
def test_what_is_measured_is_never_audited(everybody: bool) -> None:
    first = control_plane.audit_policy(everybody=everybody)["rules"][0]
    name, namespace = arena.SUBJECT["name"], arena.SUBJECT["namespace"]
    assert first == {"level": "None", "users": [f"system:serviceaccount:{namespace}:{name}"]}


def test_the_passes_are_told_beside_the_rest() -> None:
    parts = {"reconcile": 5.0}
    ours = report.Result("ours", 1.0, 30.0, 15.0, 100.0, 20.0, 90.0, parts, {})
    text = report.build(
        [ours], {"ours": "this operator"}, {"count": 1, "namespaces": 1, "rounds": 1}, "x"
    )
    assert (
        "the passes themselves 5.00, all else (requests, watches, TLS, verification) 15.00" in text
    )
    assert "| CPU of the passes per ChatModel, ms | 1.5 | 5.00 | NOT MET |" in text
