"""Who names a Secret in a ChatModel must be allowed to read it: the shipped policy at work."""

import json
from collections.abc import Iterator

import pytest
from kube import ROOT, Body, Kube, Refused, chatmodel, random_name, wait_for
from rest import Rest

AUTHOR, READER = "author", "reader"
OPERATOR = "system:serviceaccount:chatmodel-system:chatmodel-operator"
SENTENCE = (
    r"model\.tokenSecretRef names Secret hub, which you \(author\) may not read in namespace"
    r" .*: ask for the right to get it, or name a Secret that you may get"
)


@pytest.fixture(scope="module")
def guarded(cluster: Kube) -> Iterator[Kube]:
    """A namespace with the policy in force: an author, a reader of Secret hub, the operator."""
    kube = cluster.inside(random_name("guard"))
    kube.run("create", "namespace", kube.namespace)
    cluster.run("apply", "-f", str(ROOT / "deploy/namespace.yaml"))
    cluster.inside("chatmodel-system").run("apply", "-f", str(ROOT / "deploy/rbac.yaml"))
    cluster.run("apply", "-f", str(ROOT / "deploy/admission.yaml"))
    kube.run(
        "create", "rolebinding", "edit", "--clusterrole=chatmodel-edit",
        f"--user={AUTHOR}", f"--user={READER}",
    )  # fmt: skip
    kube.run(
        "create", "rolebinding", "view", "--clusterrole=chatmodel-view",
        f"--user={AUTHOR}", f"--user={READER}",
    )  # fmt: skip
    kube.run("create", "role", "hub", "--verb=get", "--resource=secrets", "--resource-name=hub")
    kube.run("create", "rolebinding", "hub", "--role=hub", f"--user={READER}")
    # A new policy takes a moment to be in force, a new role as well.
    wait_for(lambda: not is_taken(kube, AUTHOR, gated("probe")), "the policy to be in force")
    wait_for(lambda: is_taken(kube, READER, gated("probe")), "the reader's role")
    yield kube
    kube.run("delete", "namespace", kube.namespace, "--wait=false")


def gated(name: str, secret: str = "hub", model: str = "org/gated", **spec: object) -> Body:
    reference = {"id": model, "tokenSecretRef": {"name": secret}}
    return chatmodel(name, mode="huggingface", model=reference, **spec)


def create(kube: Kube, user: str, body: Body, *words: str) -> None:
    kube.run("create", "-f", "-", f"--as={user}", *words, text=json.dumps(body))


def is_taken(kube: Kube, user: str, body: Body) -> bool:
    try:
        create(kube, user, body, "--dry-run=server")
    except Refused:
        return False
    return True


def patch(kube: Kube, user: str, name: str, spec: Body, *words: str) -> None:
    body = json.dumps({"spec": spec})
    kube.run("patch", "chatmodel", name, f"--as={user}", "--type=merge", "-p", body, *words)


def test_an_author_who_may_not_read_the_secret_is_refused_with_the_next_step(guarded: Kube) -> None:
    with pytest.raises(Refused, match=SENTENCE):
        create(guarded, AUTHOR, gated("refused"))


def test_an_author_who_may_read_it_is_taken(guarded: Kube) -> None:
    create(guarded, READER, gated("taken"))


def test_the_right_to_one_secret_is_none_to_another(guarded: Kube) -> None:
    with pytest.raises(Refused, match="names Secret database, which you"):
        create(guarded, READER, gated("other", secret="database"))


def test_a_chatmodel_without_a_token_is_everybodys(guarded: Kube) -> None:
    create(guarded, AUTHOR, chatmodel("plain", mode="mock"))
    patch(guarded, AUTHOR, "plain", {"mode": "huggingface", "model": {"id": "org/open"}})


@pytest.mark.parametrize(
    "model",
    [
        pytest.param({"tokenSecretRef": {"name": "hub"}}, id="naming the Secret afterwards"),
        pytest.param({"id": "org/x", "tokenSecretRef": {"name": "hub"}}, id="with a model"),
    ],
)
def test_an_update_is_no_way_around(guarded: Kube, model: Body) -> None:
    name = random_name("later")
    create(guarded, AUTHOR, chatmodel(name, mode="mock"))
    with pytest.raises(Refused, match=SENTENCE):
        patch(guarded, AUTHOR, name, {"mode": "huggingface", "model": {"id": "org/a"} | model})
    patch(guarded, READER, name, {"mode": "huggingface", "model": {"id": "org/a"} | model})


def test_others_edit_the_rest_of_a_chatmodel_with_a_token(guarded: Kube) -> None:
    create(guarded, READER, gated("shared"))
    patch(guarded, AUTHOR, "shared", {"replicas": 2, "rollout": {"bakeSeconds": 5}})
    guarded.run("annotate", "chatmodel", "shared", "carepath.ai/retry=1", f"--as={AUTHOR}")
    guarded.run("scale", "chatmodel", "shared", "--replicas=3", f"--as={AUTHOR}")
    assert guarded.get("chatmodel", "shared")["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"id": "evil/model"}, id="another model"),
        pytest.param({"revision": "branch"}, id="another revision"),
        pytest.param({"tokenSecretRef": {"key": "other"}}, id="another key"),
        pytest.param({"tokenSecretRef": {"name": "database"}}, id="another Secret"),
    ],
)
def test_another_use_of_the_same_token_needs_the_right_again(guarded: Kube, change: Body) -> None:
    name = random_name("use")
    create(guarded, READER, gated(name))
    with pytest.raises(Refused, match="which you"):
        patch(guarded, AUTHOR, name, {"model": change})


def test_taking_the_token_away_needs_no_right(guarded: Kube) -> None:
    create(guarded, READER, gated("leaving"))
    patch(guarded, AUTHOR, "leaving", {"model": {"tokenSecretRef": None}})


def test_the_operator_writes_the_status_of_a_chatmodel_with_a_token(guarded: Kube) -> None:
    create(guarded, READER, gated("status"))
    rest = Rest(guarded.kubeconfig, guarded.namespace, OPERATOR)
    change = {"status": {"observedGeneration": 1}}
    code, answer = rest.patch("ChatModel", "status", change, part="status")
    rest.close()
    assert code == 200, answer
    assert guarded.get("chatmodel", "status")["status"]["observedGeneration"] == 1


@pytest.mark.parametrize("verb", ["create", "update", "patch", "delete"])
@pytest.mark.parametrize(
    "resource",
    [
        pytest.param(("chatmodelrevisions",), id="revisions"),
        pytest.param(("chatmodelrevisions", "--subresource=status"), id="verdicts"),
        pytest.param(("chatmodels", "--subresource=status"), id="status"),
    ],
)
def test_nobody_but_the_operator_writes_verdicts_and_status(
    guarded: Kube, verb: str, resource: tuple[str, ...]
) -> None:
    with pytest.raises(Refused):
        guarded.run("auth", "can-i", verb, *resource, f"--as={AUTHOR}")


def test_an_author_may_write_chatmodels_and_their_scale(guarded: Kube) -> None:
    for words in (("chatmodels",), ("chatmodels", "--subresource=scale")):
        assert guarded.run("auth", "can-i", "patch", *words, f"--as={AUTHOR}").strip() == "yes"
