"""One contract for all cache strategies, on a real node with the real runtime."""

import json
from collections.abc import Iterator

import models
import pytest
from caches import QWEN, SECONDS, TWIN, WRONG, Cached, hub_away, spec_of
from kube import Kube, chatmodel, random_name

STRATEGIES = ("Ephemeral", "Persistent", "Embedded")
WITHOUT_HUB = STRATEGIES[1:]
TOKEN = "hf_ThisIsTheTokenOfTheTest"
LOOK_FOR_THE_TOKEN = """
import json, os, pathlib
mounts = pathlib.Path("/proc/self/mounts").read_text()
environ = pathlib.Path("/proc/1/environ").read_text()
print(json.dumps({"mounted": "hub-token" in mounts, "known": "hf_" in environ,
                  "offline": os.environ.get("HF_HUB_OFFLINE")}))
"""


@pytest.fixture(scope="module")
def all_live(installed: Kube) -> Iterator[dict[str, Cached]]:
    """A ChatModel of each strategy, started beside each other."""
    found = {}
    for strategy in STRATEGIES:
        kube = installed.inside(random_name(strategy.lower()))
        kube.run("create", "namespace", kube.namespace)
        kube.run("create", "secret", "generic", "hub-token", f"--from-literal=HF_TOKEN={TOKEN}")
        kube.apply(chatmodel("triage", **spec_of(strategy)))
        found[strategy] = Cached(kube)
    yield found
    for cached in found.values():
        cached.kube.run("delete", "chatmodels", "--all", "--wait=false")
        cached.kube.run("delete", "namespace", cached.kube.namespace, "--wait=false")


@pytest.fixture
def live(all_live: dict[str, Cached], strategy: str) -> Cached:
    """The ChatModel of a strategy, serving the stand-in."""
    cached = all_live[strategy]
    cached.serve(QWEN | {"rollout": {"bakeSeconds": 1}}, models.QWEN)
    return cached


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_goes_live_and_answers_through_the_service(live: Cached) -> None:
    answer = live.answer()
    assert answer["model"] == models.QWEN
    assert "metformin" in answer["response"]
    assert answer["revision"] == live.status()["serving"]["revision"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_serving_container_has_no_token_and_is_offline(live: Cached) -> None:
    assert json.loads(live.python(LOOK_FOR_THE_TOKEN)) == {
        "mounted": False,
        "known": False,
        "offline": "1",
    }


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_bad_model_is_refused_and_nothing_of_the_old_one_is_touched(live: Cached) -> None:
    before, pods, files = live.status()["serving"], live.pods(), live.files()
    live.kube.patch("triage", WRONG)
    ready = live.kube.wait_for_reason("triage", "RolledBack", SECONDS)
    assert "ModelLoadFailed" in ready["message"]
    assert live.status()["serving"] == before
    assert live.answer()["model"] == models.QWEN
    after = live.pods()
    assert [p["metadata"]["uid"] for p in after] == [p["metadata"]["uid"] for p in pods]
    assert all(s["restartCount"] == 0 for p in after for s in p["status"]["containerStatuses"])
    assert live.files().items() >= files.items()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_switches_and_goes_back_without_the_hub(live: Cached, strategy: str) -> None:
    first = live.status()["serving"]["revision"]
    # What is ephemeral goes with its pod: without the hub it can return while that is kept warm.
    reached, bake = ("Baking", 60) if strategy == "Ephemeral" else ("Serving", 1)
    live.kube.patch("triage", TWIN | {"rollout": {"bakeSeconds": bake}})
    live.kube.wait_for_reason("triage", reached, SECONDS)
    assert live.answer_of(models.TWIN)
    with hub_away(live.kube):
        back = live.serve(QWEN, models.QWEN)
        assert back["serving"]["revision"] == first
        assert live.answer_of(models.QWEN)["revision"] == first


@pytest.mark.parametrize("strategy", WITHOUT_HUB)
def test_a_pod_lost_while_the_hub_is_away_comes_back(live: Cached) -> None:
    with hub_away(live.kube):
        live.lose_pod()
        assert live.answer()["model"] == models.QWEN
