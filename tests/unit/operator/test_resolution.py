"""Which engine serves a model, why, and whether it fits: from formats, class and settings."""

from typing import Any

import pytest
from pictures import CLASS, INSPECTION, Body, chatmodel, make_revision

from chatmodel_operator import resolution, revision
from chatmodel_operator.api.chatmodelrevision import Inspection, Source
from chatmodel_operator.api.instanceclass import InstanceClassSpec
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.settings import Images, Settings

GPU = CLASS.model_copy(
    update={
        "accelerator": InstanceClassSpec.model_validate(
            CLASS.dump() | {"accelerator": {"resourceName": "nvidia.com/gpu", "memory": "1Gi"}}
        ).accelerator
    }
)
MODEL: Body = {"mode": "huggingface", "model": {"id": "org/tiny"}}
BARE = Settings(images=Images(mock="m", transformers="t", openvino=None))
EVERY = Settings(images=Images(mock="m", transformers="t", vllm="v"))
GIB = 1024**3


def source_of(**spec: Any) -> Source:
    wanted = chatmodel(**MODEL | spec).spec
    assert wanted is not None
    return revision.source_of(wanted)


def inspection(*formats: str, **more: Any) -> Inspection:
    return Inspection.model_validate(INSPECTION | {"formats": list(formats)} | more)


@pytest.mark.parametrize(
    ("spec", "formats", "size", "engine"),
    [
        pytest.param({}, ("safetensors",), CLASS, "Transformers", id="safetensors on a CPU"),
        pytest.param({}, ("gguf",), CLASS, "OpenVINO", id="a GGUF file on a CPU"),
        pytest.param({}, ("openvino",), CLASS, "OpenVINO", id="an IR on a CPU"),
        pytest.param({}, ("safetensors",), GPU, "VLLM", id="safetensors on a GPU"),
        pytest.param({"quantization": "Int4"}, ("gguf",), CLASS, "OpenVINO", id="four bits"),
        pytest.param({"engine": "OpenVINO"}, ("gguf",), GPU, "OpenVINO", id="asked for by name"),
        pytest.param(
            {"engine": "Transformers"}, ("safetensors",), GPU, "Transformers", id="not the fastest"
        ),
    ],
)
def test_an_engine_is_chosen_by_formats_and_class(
    spec: Body, formats: tuple[str, ...], size: InstanceClassSpec, engine: str
) -> None:
    assert resolution.choose_engine(source_of(**spec), formats, size, EVERY) == engine


@pytest.mark.parametrize(
    ("spec", "formats", "size", "settings", "says"),
    [
        pytest.param(
            {"engine": "OpenVINO"},
            ("safetensors",),
            CLASS,
            EVERY,
            "OpenVINO loads openvino or gguf, the model has safetensors",
            id="no format of the engine's",
        ),
        pytest.param(
            {},
            ("gguf",),
            CLASS,
            BARE,
            "Transformers loads safetensors, the model has gguf;"
            " the operator's settings name no image for OpenVINO",
            id="the administrator wants no OpenVINO",
        ),
        pytest.param(
            {},
            ("gguf",),
            GPU,
            EVERY,
            "VLLM loads safetensors, the model has gguf;"
            " Transformers loads safetensors, the model has gguf",
            id="a GPU would idle beside a CPU's engine",
        ),
        pytest.param(
            {"quantization": "Int8"},
            ("safetensors",),
            CLASS,
            EVERY,
            "OpenVINO loads openvino or gguf, the model has safetensors",
            id="nothing is quantised here",
        ),
    ],
)
def test_a_model_that_no_engine_loads_is_refused_with_what_each_lacks(
    spec: Body, formats: tuple[str, ...], size: InstanceClassSpec, settings: Settings, says: str
) -> None:
    problem = resolution.choose_engine(source_of(**spec), formats, size, settings)
    assert problem == resolution.Problem(Reason.EngineUnsupported, says)


@pytest.mark.parametrize(
    ("spec", "filled", "says"),
    [
        pytest.param(
            {},
            {"engine": "OpenVINO", "inspection": inspection("gguf").dump()},
            "Auto: the model has gguf, its class has no accelerator",
            id="a GGUF file",
        ),
        pytest.param(
            {"quantization": "Int4"},
            {"engine": "OpenVINO", "inspection": inspection("openvino").dump()},
            "Auto: the model has openvino, spec.quantization is Int4, its class has no accelerator",
            id="four bits",
        ),
        pytest.param(
            {},
            {"engine": "VLLM", "inspection": inspection("safetensors").dump()}
            | {"instanceClass": GPU.dump()},
            "Auto: the model has safetensors, its class has nvidia.com/gpu",
            id="a GPU",
        ),
        pytest.param(
            {},
            {"engine": "Transformers", "inspection": inspection("safetensors").dump()}
            | {"instanceClass": GPU.dump()},
            "Auto: the model has safetensors, its class has nvidia.com/gpu,"
            " the operator's settings named no image for VLLM",
            id="a GPU without an image for it",
        ),
        pytest.param(
            {"engine": "OpenVINO"},
            {"engine": "OpenVINO", "inspection": inspection("gguf").dump()},
            "spec.engine is OpenVINO",
            id="the author's word",
        ),
        pytest.param(
            {"cache": {"strategy": "Embedded"}},
            {"engine": "OpenVINO"},
            "Auto: its class has no accelerator",
            id="a model in its image",
        ),
        pytest.param({}, {}, None, id="not yet chosen"),
        pytest.param({"mode": "mock"}, {"engine": "Mock"}, None, id="nothing to choose"),
    ],
)
def test_why_an_engine_was_chosen_stands_in_its_revision(
    spec: Body, filled: Body, says: str | None
) -> None:
    which = make_revision(1, filled=filled, **MODEL | spec)
    assert resolution.explain_engine(which.spec) == says


@pytest.mark.parametrize(
    ("quantization", "revision", "found"),
    [
        pytest.param("Int4", "main", "four", id="the one that was asked for"),
        pytest.param("None", "main", "whole", id="nothing asked for"),
        pytest.param("Int4", "f" * 40, "no image with org/tiny in Int4 at", id="another commit"),
        pytest.param("Int8", "main", "no image with org/tiny in Int8 at main", id="no such image"),
    ],
)
def test_an_image_with_a_model_inside_has_one_quantization(
    quantization: str, revision: str, found: str
) -> None:
    entry = {"modelID": "org/tiny", "commit": "c" * 40, "weightBytes": 1}
    images = [entry | {"image": "whole"}, entry | {"image": "four", "quantization": "Int4"}]
    source = source_of(
        quantization=quantization,
        model={"id": "org/tiny", "revision": revision},
        cache={"strategy": "Embedded"},
    )
    known = resolution.find_embedded(source, Settings.model_validate({"embedded": images}))
    said = known.message if isinstance(known, resolution.Problem) else known.image
    assert said.startswith(found)


def test_of_a_gguf_file_the_weights_count_twice() -> None:
    source = source_of(generation={"maxNewTokens": 1000})
    small = {"weightBytes": 100_000_000, "kvBytesPerToken": 1000, "thinking": False}
    needed = {
        kind: resolution.required_memory(inspection(kind, **small), source)
        for kind in ("safetensors", "openvino", "gguf")
    }
    assert needed["safetensors"] == needed["openvino"] == 100_000_000 + 3_048_000 + 256 * 1024**2
    assert needed["gguf"] == needed["openvino"] + 100_000_000


def test_a_gguf_file_that_fits_once_and_not_twice_is_refused_with_both_numbers() -> None:
    found = inspection("gguf", weightBytes=4 * GIB, kvBytesPerToken=1, thinking=False)
    problem = resolution.find_problem(source_of(), found, CLASS, EVERY)
    assert problem == resolution.Problem(
        Reason.InsufficientMemory,
        "the model needs at least 8.86 GB of memory, and the pods of its class have 7.52 GB",
    )
    ir = found.model_copy(update={"formats": ["openvino"]})
    assert resolution.find_problem(source_of(), ir, CLASS, EVERY) is None


def test_an_engine_for_cpus_is_held_against_the_memory_of_pods_not_of_gpus() -> None:
    found = inspection("gguf", weightBytes=GIB, kvBytesPerToken=1, thinking=False)
    source = source_of(engine="OpenVINO")
    assert resolution.find_problem(source, found, GPU, EVERY) is None
    on_gpu = inspection("safetensors", weightBytes=GIB, kvBytesPerToken=1, thinking=False)
    problem = resolution.find_problem(source_of(), on_gpu, GPU, EVERY)
    assert problem is not None and "the accelerators of its class have 1.07 GB" in problem.message


@pytest.mark.parametrize(
    ("images", "openvino"),
    [
        pytest.param({}, "localhost/chatmodel-runtime:cpu", id="nothing named"),
        pytest.param({"transformers": "r/cpu@1"}, "r/cpu@1", id="the image that has both"),
        pytest.param({"transformers": "r/cpu@1", "openvino": "r/ov@2"}, "r/ov@2", id="another"),
        pytest.param({"openvino": None}, None, id="none"),
    ],
)
def test_openvino_is_in_the_image_of_transformers_unless_the_administrator_says_otherwise(
    images: Body, openvino: str | None
) -> None:
    assert Settings.model_validate({"images": images}).images.of("OpenVINO") == openvino


def test_a_wrong_image_is_named_once() -> None:
    with pytest.raises(ValueError, match=r"images\.transformers"):
        Settings.model_validate({"images": {"transformers": 5}})
