"""What leaves a watch's label selector looks deleted to it, and comes back with its label."""

from chatmodel_operator.cache import Cache, Object

REF = ("Service", "team", "triage")


def service(version: int) -> Object:
    meta = {"namespace": "team", "name": "triage", "uid": "u", "resourceVersion": str(version)}
    return {"metadata": meta | {"labels": {"carepath.ai/chatmodel": "triage"}}}


def test_a_child_that_gets_its_label_back_is_known_again() -> None:
    cache = Cache(("ChatModel", "Service"))
    cache.put("Service", service(5))
    cache.see("Service", service(6), is_deleted=True)
    assert cache.get(*REF) is None
    cache.see("Service", service(7))
    assert cache.get(*REF) == service(7)


def test_an_old_state_of_what_was_deleted_never_comes_back() -> None:
    cache = Cache(("ChatModel", "Service"))
    cache.put("Service", service(5))
    cache.see("Service", service(6), is_deleted=True)
    assert not cache.put("Service", service(5), is_live=True)
    assert not cache.put("Service", service(6), is_live=True)


def test_what_we_deleted_ourselves_never_comes_back_at_any_version() -> None:
    cache = Cache(("ChatModel", "Service"))
    cache.put("Service", service(5))
    cache.bury(REF, "u")
    assert not cache.put("Service", service(9), is_live=True)
