"""The oracles find what is planted, and nothing else."""

from oracles import find_complaints, find_misplaced


def test_a_write_in_the_namespace_is_in_place() -> None:
    path = "/apis/apps/v1/namespaces/ours/deployments/triage-1"
    assert find_misplaced([{"verb": "PATCH", "path": path}], "ours") == []
    assert find_misplaced([{"verb": "DELETE", "path": path, "uid": "u"}], "ours") == []


def test_a_write_outside_and_a_delete_by_name_alone_are_found() -> None:
    stray = {"verb": "PATCH", "path": "/apis/apps/v1/namespaces/theirs/deployments/triage-1"}
    wide = {"verb": "POST", "path": "/apis/carepath.ai/v1alpha1/instanceclasses"}
    blind = {"verb": "DELETE", "path": "/api/v1/namespaces/ours/services/triage"}
    assert find_misplaced([stray, wide, blind], "ours") == [stray, wide, blind]


def test_a_traceback_is_a_complaint_and_a_warning_is_none() -> None:
    log = "\n".join(
        [
            "[2026-01-01 00:00:00] chatmodel_operator.w [WARNING ] watch of Pod refused: 410",
            "[2026-01-01 00:00:00] kopf._cogs.clients.w [ERROR   ] Request attempt #1 failed; will "
            "retry: GET http://127.0.0.1/",
            "[2026-01-01 00:00:01] chatmodel_operator.w [ERROR   ] pass over a/b failed",
            "Traceback (most recent call last):",
            '  File "reconcile.py", line 1, in reconcile',
            "KeyError: 'metadata'",
        ]
    )
    assert find_complaints(log) == [
        "[2026-01-01 00:00:01] chatmodel_operator.w [ERROR   ] pass over a/b failed",
        "Traceback (most recent call last):",
        "KeyError: 'metadata'",
    ]
