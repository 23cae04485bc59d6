import pytest
from pictures import NOW, SETTINGS, chatmodel, make_revision, picture, ready_pods, serving

from chatmodel_operator import allowance, revision, rollout
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.settings import Allowed, Settings

STRICT = SETTINGS.model_copy(
    update={
        "allowed": Allowed(
            models=("Qwen/*", "HuggingFaceTB/SmolLM2-135M-Instruct"),
            commits_only=True,
            patient_api_hosts=("*.clinic.svc",),
        )
    }
)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def refusal(settings: Settings = STRICT, **spec: object) -> str:
    wanted = chatmodel(**spec).spec
    assert wanted is not None
    return allowance.find_refusal(revision.source_of(wanted), settings)


def hub(model: str, commit: str = COMMIT) -> dict[str, object]:
    return {"mode": "huggingface", "model": {"id": model, "revision": commit}}


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        pytest.param({"mode": "mock"}, "", id="a mock is always allowed"),
        pytest.param(hub("Qwen/Qwen3-0.6B"), "", id="a model of an allowed organisation"),
        pytest.param(hub("qwen/Qwen3-0.6B"), "model qwen/Qwen3-0.6B is not", id="case counts"),
        pytest.param(hub("Qwen2/x"), "model Qwen2/x is not allowed", id="a prefix is not enough"),
        pytest.param(hub("Qwen/x", "main"), "write the 40-hex commit", id="a branch moves"),
        pytest.param({"mode": "qwen"}, "model.revision main is not", id="also for mode qwen"),
        pytest.param(
            {"patientContext": {"source": "Http", "url": "http://db.clinic.svc:8001"}},
            "",
            id="an allowed patient API",
        ),
        pytest.param(
            {"patientContext": {"source": "Http", "url": "http://169.254.169.254/x"}},
            "host 169.254.169.254 is not allowed; allowed are: *.clinic.svc",
            id="another host as patient API",
        ),
    ],
)
def test_the_settings_say_what_authors_may_choose(spec: dict[str, object], text: str) -> None:
    found = refusal(**spec)
    assert text in found
    assert bool(found) == bool(text)


def test_by_default_everything_is_allowed() -> None:
    assert refusal(SETTINGS, **hub("any/model", "main")) == ""


def test_what_is_not_allowed_gets_no_revision_and_what_serves_goes_on() -> None:
    good = make_revision(status=serving())
    seen = picture(chatmodel(**hub("evil/model")), good, selected=good, pods=ready_pods(good, 1))
    plan = rollout.plan_rollout(seen, STRICT, NOW)
    assert plan.reason is Reason.NotAllowed
    assert plan.is_stalled
    assert plan.create is None
    assert plan.serving is good


def test_a_first_model_that_is_not_allowed_starts_nothing() -> None:
    plan = rollout.plan_rollout(picture(chatmodel(**hub("evil/model"))), STRICT, NOW)
    assert (plan.reason, plan.is_idle, plan.create) == (Reason.NotAllowed, True, None)


def test_settings_that_change_stop_nothing_that_serves() -> None:
    spec = hub("evil/model")
    good = make_revision(status=serving(), **spec)
    seen = picture(chatmodel(**spec), good, selected=good, pods=ready_pods(good, 1))
    assert rollout.plan_rollout(seen, STRICT, NOW).reason is Reason.Serving
