import pytest

from chatmodel_operator import names
from chatmodel_operator.cache import LATE_SECONDS, Cache, Object, owner_of

KINDS = ("ChatModel", "Deployment")
KEY = ("clinic", "triage")


def body(version: int, *, uid: str = "u1", name: str = "triage-1", owner: str = "triage") -> Object:
    labels = {names.LABEL_CHATMODEL: owner}
    meta = {"namespace": "clinic", "name": name, "uid": uid, "resourceVersion": str(version)}
    return {"metadata": meta | {"labels": labels, "managedFields": ["long"]}, "spec": version}


def filled(*items: Object, version: int = 10) -> Cache:
    store = Cache(KINDS)
    for kind in KINDS:
        store.open(kind, None)
        store.replace(kind, None, items if kind == "Deployment" else [], version)
    return store


def specs(store: Cache) -> list[object]:
    return [item["spec"] for item in store.children("Deployment", KEY)]


def test_an_older_event_changes_nothing() -> None:
    store = filled(body(5))
    assert store.see("Deployment", body(12))
    assert not store.see("Deployment", body(11))
    assert specs(store) == [12]


def test_what_a_listing_lacks_is_gone_though_its_deletion_was_never_seen() -> None:
    store = filled(body(5), body(6, uid="u2", name="triage-2"))
    assert store.replace("Deployment", None, [body(5)], 20) == {KEY}
    assert specs(store) == [5]


def test_what_came_after_a_listing_survives_it() -> None:
    store = filled(body(5))
    store.see("Deployment", body(25, uid="u2", name="triage-2"))
    store.replace("Deployment", None, [body(5)], 20)
    assert sorted(specs(store)) == [5, 25]  # type: ignore[type-var]


def test_a_deleted_object_never_comes_back_but_its_name_may() -> None:
    store = filled(body(5))
    store.see("Deployment", body(12), is_deleted=True)
    assert not store.see("Deployment", body(11))
    assert specs(store) == []
    assert store.see("Deployment", body(13, uid="u2"))
    assert specs(store) == [13]


def test_an_older_listing_is_not_believed_and_nothing_is_trusted_until_the_next() -> None:
    store = filled(body(5), version=30)
    assert store.is_trusted(KEY, 0.0)
    assert store.replace("Deployment", None, [], 20) == set()
    assert specs(store) == [5]
    assert not store.is_trusted(KEY, 0.0)
    store.replace("Deployment", None, [body(5)], 31)
    assert store.is_trusted(KEY, 0.0)


def test_a_second_older_listing_means_that_the_server_was_set_back() -> None:
    store = filled(body(5), version=30)
    store.replace("Deployment", None, [], 20)
    store.replace("Deployment", None, [body(4, uid="u0")], 19)
    assert specs(store) == [4]
    assert store.is_trusted(KEY, 0.0)


def test_our_own_write_is_known_before_its_event_and_the_event_is_no_news() -> None:
    store = filled(body(5))
    store.put_own("Deployment", body(12), 0.0)
    assert specs(store) == [12]
    assert not store.see("Deployment", body(12))
    assert store.is_trusted(KEY, LATE_SECONDS * 2)


def test_a_watch_that_owes_us_an_event_is_not_trusted_any_more() -> None:
    store = filled(body(5))
    store.put_own("Deployment", body(12), 0.0)
    assert store.is_trusted(KEY, LATE_SECONDS)
    assert not store.is_trusted(KEY, LATE_SECONDS + 1)
    assert store.is_trusted(("clinic", "other"), LATE_SECONDS + 1)
    assert store.stalled_kinds(LATE_SECONDS + 1) == {"Deployment"}


def test_a_closed_watch_is_not_trusted() -> None:
    store = filled()
    store.close("Deployment", None)
    assert not store.is_trusted(KEY, 0.0)
    assert not store.is_filled([None])


def test_a_doubt_lasts_until_everything_was_read_live() -> None:
    store = filled()
    store.doubt(KEY)
    assert not store.is_trusted(KEY, 0.0)
    store.trust(KEY)
    assert store.is_trusted(KEY, 0.0)


def test_an_object_that_changes_hands_is_found_at_its_new_owner() -> None:
    store = filled(body(5))
    store.see("Deployment", body(12, owner="other"))
    assert specs(store) == []
    assert [i["spec"] for i in store.children("Deployment", ("clinic", "other"))] == [12]


def test_of_pods_nothing_is_kept_that_nobody_reads() -> None:
    store = Cache(("Pod", "Deployment"))
    for kind in store.kinds:
        store.put(kind, body(5), is_live=True)
    kept = {kind: store.get(kind, "clinic", "triage-1") or {} for kind in store.kinds}
    assert ["spec" in kept[kind] for kind in ("Pod", "Deployment")] == [False, True]


def test_nothing_is_kept_of_managed_fields() -> None:
    (item,) = filled(body(5)).children("Deployment", KEY)
    assert "managedFields" not in item["metadata"]


def test_a_live_listing_of_one_chatmodel_leaves_the_others_alone() -> None:
    store = filled(body(5), body(6, uid="u2", name="other-1", owner="other"))
    store.replace_children("Deployment", KEY, [], 20)
    assert specs(store) == []
    assert store.children("Deployment", ("clinic", "other"))


@pytest.mark.parametrize("namespace", ["clinic", "ward"])
def test_a_listing_of_one_namespace_speaks_of_no_other(namespace: str) -> None:
    store = Cache(KINDS)
    store.open("Deployment", "clinic")
    store.replace("Deployment", "clinic", [body(5)], 10)
    store.replace("Deployment", namespace, [], 20)
    assert specs(store) == ([] if namespace == "clinic" else [5])


def test_a_revision_without_its_label_still_says_whose_it_is() -> None:
    meta = {"namespace": "clinic", "name": "triage-1", "uid": "u", "resourceVersion": "5"}
    stripped = {"metadata": meta, "spec": {"chatModelName": "triage"}}
    assert owner_of("ChatModelRevision", stripped) == KEY
    assert owner_of("Deployment", stripped) is None
