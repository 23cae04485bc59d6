"""A revision whose object is gone comes back from its Deployment with all that it had picked."""

import pytest
from pictures import NOW, SETTINGS, Body, chatmodel, picture
from rendered import GGUF, MOCK, PERSISTENT, prepared

from chatmodel_operator import names, reading, rollout
from chatmodel_operator.desired import deployment, revision
from chatmodel_operator.observed import Deployment


def rebuilt(spec: Body, found: Deployment) -> Body:
    """Return the revision that is created for a Deployment that is alone."""
    asked = chatmodel(**spec)
    seen = picture(asked, deployments={prepared(spec).name: found})
    new = rollout.plan_rollout(seen, SETTINGS, NOW).create
    assert new is not None
    built: Body = revision.build_revision(
        asked,
        name=new.name,
        number=new.number,
        source=new.source,
        instance_class=None,
        settings=SETTINGS,
        commit=new.commit,
        files=new.files,
        template=new.template,
    )["spec"]
    return built


@pytest.mark.parametrize("spec", [MOCK, GGUF, GGUF | {"cache": PERSISTENT["cache"]}])
def test_what_a_quantization_picked_is_found_again(spec: Body) -> None:
    lost = prepared(spec)
    body = deployment.build_deployment(chatmodel(**spec), lost, 1)
    stamped = names.ANNOTATION_FILES in body["metadata"]["annotations"]
    assert stamped == (lost.spec.files is not None) == (spec["mode"] != "mock")
    assert body["spec"]["template"] == lost.spec.template
    found = rebuilt(spec, reading.read_deployment(body))
    stored = lost.spec.dump()
    for part in ("source", "commit", "files", "template", "number"):
        assert found.get(part) == stored.get(part)


@pytest.mark.parametrize("text", [None, "", "no list", "{}", "[1]", '["' + "x" * 256 + '"]'])
def test_a_deployment_that_says_no_files_gives_a_revision_without(text: str | None) -> None:
    body = deployment.build_deployment(chatmodel(**GGUF), prepared(GGUF), 1)
    annotations = body["metadata"]["annotations"]
    annotations.pop(names.ANNOTATION_FILES)
    if text is not None:
        annotations[names.ANNOTATION_FILES] = text
    found = rebuilt(GGUF, reading.read_deployment(body))
    assert "files" not in found and found["commit"] == prepared(GGUF).spec.commit
