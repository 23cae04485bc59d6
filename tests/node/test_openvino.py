"""GGUF files and an OpenVINO IR on a real node: from the inspection to an answer, or refused."""

import models
from caches import SECONDS, Cached
from kube import Body, Kube, chatmodel
from node_story import Service, losses

BY_ITSELF = "Auto: the model has {}, its class has no accelerator"
# Room for SmolLM2's weights once, not twice as OpenVINO takes them of a GGUF file.
NARROW: Body = {
    "apiVersion": "carepath.ai/v1alpha1",
    "kind": "InstanceClass",
    "metadata": {"name": "narrow"},
    "spec": {"resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "400Mi"}}},
}


def of(model_id: str) -> Body:
    return {"mode": "huggingface", "model": {"id": model_id}}


def start(kube: Kube, model_id: str, strategy: str, **spec_too: str) -> Cached:
    """Start a ChatModel that says nothing of an engine, and wait until it serves."""
    more = {"auth": {"mode": "None"}, "patientContext": {"source": "Demo"}}
    limits = {"maxNewTokens": 32, "temperature": 0}
    spec = of(model_id) | more | spec_too | {"cache": {"strategy": strategy}, "generation": limits}
    kube.apply(chatmodel("triage", **spec, rollout={"bakeSeconds": 1}))
    kube.wait_for_reason("triage", "Serving", SECONDS)
    return Cached(kube)


def chosen(live: Cached) -> list[str]:
    """Return the files that the serving revision has."""
    name = live.status()["serving"]["revision"]
    return list(live.kube.get("chatmodelrevision", name)["spec"]["files"])


def test_a_gguf_file_takes_the_traffic_and_broken_ones_lose_no_request(service: Service) -> None:
    kube = service.kube
    kube.patch("triage", of(models.TWIN_GGUF) | {"generation": {"temperature": 0}})
    kube.wait_for_reason("triage", "Serving", SECONDS)
    status, answer = service.ask()
    assert (status, answer["model"]) == (200, models.TWIN_GGUF)
    assert "metformin" in answer["response"]
    seen = kube.get("chatmodel", "triage")["status"]
    assert seen["model"]["engine"] == "OpenVINO"
    assert seen["model"]["engineMessage"] == BY_ITSELF.format("gguf")
    serving = seen["serving"]["revision"]
    assert answer["revision"] == serving

    for model, reason, in_a_pod in (
        (models.CUT_GGUF, "UnsafeModelContent", False),
        (models.ODD_GGUF, "EngineUnsupported: odd-Q5_K_M.gguf has matrices of Q5_K", False),
        (models.WRONG_GGUF, "ModelLoadFailed", True),
    ):
        kube.patch("triage", of(model))
        ready = kube.wait_for_reason("triage", "RolledBack", SECONDS)
        assert reason in ready["message"]
        seen = kube.get("chatmodel", "triage")["status"]
        assert seen["serving"]["revision"] == serving
        made = kube.run("get", "deployments", "-o", "name")
        assert (seen["target"]["revision"] in made) == in_a_pod

    counted = service.stop()
    assert counted["failed"] == 0, losses(counted)
    assert set(counted["revisions"]) >= {serving}


def test_a_real_model_as_a_gguf_file_is_staged_on_a_claim_and_answers(
    installed: Kube, namespace: Kube
) -> None:
    live = start(namespace, models.SMOLLM_GGUF, "Persistent")
    answer = live.answer()
    assert answer["model"] == models.SMOLLM_GGUF
    assert answer["response"]
    assert answer["usage"]["completion_tokens"] > 1
    names = {path.rpartition("/")[2] for path in live.files()}
    assert names == {models.SMOLLM_FILE, "manifest.json", "COMPLETE"}

    found, before = live.status()["model"], live.status()["serving"]
    assert found["engine"] == "OpenVINO"
    assert found["requiredMemory"] > 2 * found["weightBytes"]
    installed.apply(NARROW)
    namespace.patch("triage", {"instanceClassName": "narrow"})
    ready = namespace.wait_for_reason("triage", "RolledBack", SECONDS)
    assert "InsufficientMemory: the model needs at least 513 MB of memory" in ready["message"]
    assert "the pods of its class have 419 MB" in ready["message"]
    assert live.status()["serving"] == before
    assert live.answer()["model"] == models.SMOLLM_GGUF


def test_a_quantization_picks_its_file_and_another_one_is_staged_beside_it(
    namespace: Kube,
) -> None:
    live = start(namespace, models.TWIN_KINDS, "Persistent", quantization="Int4")
    assert chosen(live) == ["stand-in-Q4_0.gguf"]
    assert "metformin" in live.answer()["response"]
    four = live.files()
    names = {path.rpartition("/")[2] for path in four}
    assert names == {"stand-in-Q4_0.gguf", "manifest.json", "COMPLETE"}

    live.serve({"quantization": "Int8"}, models.TWIN_KINDS)
    assert chosen(live) == ["stand-in-Q8_0.gguf"]
    assert "metformin" in live.answer()["response"]
    both = live.files()
    assert four.items() < both.items()  # what one goes back to is as it was
    added = {path.rpartition("/")[2] for path in both.keys() - four.keys()}
    assert added == {"stand-in-Q8_0.gguf", "manifest.json", "COMPLETE"}

    namespace.patch("triage", {"quantization": "None"})
    ready = namespace.wait_for_reason("triage", "RolledBack", SECONDS)
    assert "EngineUnsupported: the model has 2 .gguf files" in ready["message"]
    assert "named Q4_0, Q8_0; set spec.quantization to Int8 or Int4" in ready["message"]
    assert chosen(live) == ["stand-in-Q8_0.gguf"]


def test_a_quantization_is_picked_by_a_pod_that_fetches_by_itself(namespace: Kube) -> None:
    live = start(namespace, models.TWIN_KINDS, "Ephemeral", quantization="Int8")
    names = {path.rpartition("/")[2] for path in live.files()}
    assert names == {*chosen(live), "manifest.json", "COMPLETE"}
    assert chosen(live) == ["stand-in-Q8_0.gguf"]
    assert "metformin" in live.answer()["response"]


def test_an_ir_goes_live_and_is_followed_by_safetensors(installed: Kube, namespace: Kube) -> None:
    live = start(namespace, models.TWIN_IR, "Ephemeral")
    assert live.status()["model"]["engineMessage"] == BY_ITSELF.format("openvino")
    answer = live.answer()
    assert answer["model"] == models.TWIN_IR
    assert "metformin" in answer["response"]
    after = live.serve(of(models.TWIN), models.TWIN)
    assert after["model"]["engine"] == "Transformers"
    assert live.answer_of(models.TWIN)
