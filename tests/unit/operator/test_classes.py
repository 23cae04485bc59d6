import pytest
from pictures import CLASS, Body, at, chatmodel

from chatmodel_operator import reading
from chatmodel_operator.api.instanceclass import DEFAULT_ANNOTATION


def instance_class(name: str, age: float, *, is_default: bool, cpu: str) -> Body:
    annotations = {DEFAULT_ANNOTATION: "true"} if is_default else {}
    spec = CLASS.dump()
    spec["resources"]["requests"]["cpu"] = cpu
    meta = {"name": name, "creationTimestamp": at(-age), "annotations": annotations}
    return {"metadata": meta, "spec": spec}


OLD = instance_class("old", 900, is_default=True, cpu="1")
NEW = instance_class("new", 60, is_default=True, cpu="2")
OTHER = instance_class("other", 10, is_default=False, cpu="3")


@pytest.mark.parametrize(
    ("classes", "wanted", "cpu"),
    [
        pytest.param([OLD, OTHER], None, "1", id="the default class"),
        pytest.param([OLD, NEW, OTHER], None, "2", id="the newest of two defaults"),
        pytest.param([NEW, OTHER, OLD], None, "2", id="whatever their order"),
        pytest.param([OLD, NEW, OTHER], "other", "3", id="the named one"),
    ],
)
def test_a_new_revision_gets(classes: list[Body], wanted: str | None, cpu: str) -> None:
    spec = {"instanceClassName": wanted} if wanted else {}
    seen = reading.read_picture(chatmodel(**spec), {}, [], classes)
    assert seen.instance_class is not None
    assert seen.instance_class.resources.requests["cpu"] == cpu


@pytest.mark.parametrize(
    ("classes", "wanted", "problem"),
    [
        pytest.param([OTHER], None, "no InstanceClass is annotated as default; there are: other"),
        pytest.param([], None, "no InstanceClass is annotated as default; there are: none"),
        pytest.param([OLD, NEW], "huge", "there is no InstanceClass huge; there are: new, old"),
    ],
    ids=["without a default", "without any class", "a name that is not there"],
)
def test_without_a_class_the_message_names_those_there_are(
    classes: list[Body], wanted: str | None, problem: str
) -> None:
    spec = {"instanceClassName": wanted} if wanted else {}
    seen = reading.read_picture(chatmodel(**spec), {}, [], classes)
    assert (seen.instance_class, seen.class_problem) == (None, problem)
