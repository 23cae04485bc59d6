"""The parts of a start, one after another and nothing else: `engine_parts.py ENGINE FOLDER BEGAN`.

Run by `starts` in a process of its own; BEGAN is the monotonic clock when that was started. Prints
seconds as JSON: `import` (with the interpreter's own start), `hash`, `load`, `first`.
"""

import asyncio
import importlib
import itertools
import json
import os
import pathlib
import sys
import time

LIBRARIES = {"OpenVINO": ["openvino_genai"], "Transformers": ["torch", "transformers"]}
MODULES = {"OpenVINO": "openvino", "Transformers": "torch"}
CLASSES = {"OpenVINO": "OpenVINOEngine", "Transformers": "TorchEngine"}


def main(engine: str, folder: pathlib.Path, began: float) -> None:
    """Go through a start, part by part."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    for name in ["chatmodel_runtime.commands", *LIBRARIES[engine]]:
        importlib.import_module(name)
    from chatmodel_runtime import generating, management, model_manager, prompts

    at = [began, time.monotonic()]

    model_manager.check(folder)
    at.append(time.monotonic())

    module = importlib.import_module(f"chatmodel_runtime.engines.{MODULES[engine]}")
    loaded = getattr(module, CLASSES[engine])(folder)
    loaded.load()
    at.append(time.monotonic())

    messages = prompts.build_triage_messages(prompts.VERIFICATION_QUERY, None)
    prompt = generating.build_prompt(loaded.tokenizer, messages)
    generation = generating.Generation(loaded, prompt, management.BUDGET)

    async def generate() -> None:
        async for _ in generation.run():
            pass

    asyncio.run(generate())
    at.append(time.monotonic())
    loaded.close()
    seconds = [after - before for before, after in itertools.pairwise(at)]
    print(json.dumps(dict(zip(("import", "hash", "load", "first"), seconds, strict=True))))


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]), float(sys.argv[3]))
