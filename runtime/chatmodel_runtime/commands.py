"""The image's commands: serve, inspect, stage, download. Chooses the engine; nothing else does.

`python -m chatmodel_runtime COMMAND`. In pods the configuration is CHATMODEL_CONFIG; outside, the
environment variables of `.env.example`. Ends with 0, 64, 65, 70 or 75 (docs/design.md, 5.1), and
with 143 when it is told to end before its work is done.
"""

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import uvloop

from chatmodel_runtime import (
    app,
    chat_log,
    draining,
    endings,
    hub,
    keys,
    management,
    metrics,
    model_manager,
    patients,
    pruning,
    scheduling,
    server,
    settings,
    tracing,
    triage,
)
from chatmodel_runtime.engines import Engine, choosing, machine
from chatmodel_runtime.engines.mock import MockEngine, read_behaviour
from chatmodel_runtime.engines.vllm import VllmEngine
from chatmodel_runtime.errors import EXIT_TERMINATED
from chatmodel_runtime.logs import configure_logs
from chatmodel_runtime.progress import Progress, Reporter

logger = logging.getLogger("chatmodel_runtime")
PUBLIC_PORT, MANAGEMENT_PORT = 8002, 9090


def main() -> None:
    """Run one command; its ending is the exit code and the termination message."""
    parser = argparse.ArgumentParser(prog="chatmodel-runtime", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve a model on 8002, management on 9090")
    commands.add_parser("inspect", help="say what a model on the hub is (in Jobs)")
    commands.add_parser("stage", help="fetch a commit into a volume (in pods)")
    commands.add_parser("download", help="fetch the model of LLM_MODE into MODEL_CACHE_DIR")
    command = parser.parse_args().command
    env = {**_read_dotenv(pathlib.Path(".env")), **os.environ}
    configure_logs()
    endings.leave(endings.end(COMMANDS[command], env))


def _read_dotenv(path: pathlib.Path) -> dict[str, str]:
    """Return the variables of a `.env` file: NAME=value lines, # comments."""
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {key.strip(): value.split(" #")[0].strip().strip("\"'") for key, value in pairs}


def inspect(env: Mapping[str, str]) -> dict[str, Any]:
    """Find out what a model is; the result is the termination message."""
    config = settings.read_config("inspect", env.get(settings.ENV_CONFIG, ""))
    assert isinstance(config, settings.InspectConfig)
    client = hub.HubClient(config.hub)
    found = model_manager.inspect(
        client, config.model_id, config.model_revision, config.quantization
    )
    logger.info("inspected", extra={"bytes": found["totalBytes"]})
    return found


def stage(env: Mapping[str, str]) -> dict[str, Any]:
    """Fetch a commit into a volume, saying on port 9090 how far it is."""
    config = settings.read_config("stage", env.get(settings.ENV_CONFIG, ""))
    assert isinstance(config, settings.StageConfig)
    progress = Progress(config.commit)
    server.serve_in_thread(management.build_progress_app(progress.read), MANAGEMENT_PORT)
    started = time.monotonic()
    if config.keep is not None:  # before the room is looked at
        own = model_manager.model_folder(
            pathlib.Path(), config.model_id, config.commit, config.quantization
        )
        removed = pruning.prune(config.models_root, {str(own), *config.keep})
        logger.info("pruned", extra={"models": removed})
    with _reporting(progress):
        model_manager.stage(
            hub.HubClient(config.hub),
            config.model_id,
            config.commit,
            config.models_root,
            progress,
            quantization=config.quantization,
            files=config.files,
        )
    return {
        "commit": config.commit,
        "totalBytes": progress.total_bytes,
        "seconds": round(time.monotonic() - started, 3),
    }


@contextlib.contextmanager
def _reporting(progress: Progress) -> Iterator[None]:
    """Log how far a staging is, now and then, and that it is done."""
    reporter = Reporter(progress, lambda seen: logger.info("staging", extra=seen))
    reporter.start()
    try:
        yield
    finally:
        reporter.finished.set()
    logger.info("staged", extra={"bytes": progress.total_bytes})


def download(env: Mapping[str, str]) -> None:
    """Fetch the model of LLM_MODE for standalone use, as the origin's download_model_if_needed."""
    model_id = settings.standalone_model_id(env)
    token = env.get("HF_TOKEN") or env.get("HUGGINGFACE_TOKEN")
    where = settings.Hub(endpoint=env.get("HF_ENDPOINT") or None)
    client = hub.HubClient(where, token)
    word, root = settings.quantization(env), settings.cache_dir(env)
    found = model_manager.inspect(client, model_id, env.get("MODEL_REVISION") or "main", word)
    print(f"{model_id} at {found['commit']}: {found['totalBytes']} bytes", file=sys.stderr)
    progress = Progress(found["commit"])
    with _reporting(progress):
        folder = model_manager.stage(
            client, model_id, found["commit"], root, progress, quantization=word
        )
    print(f"complete in {folder}", file=sys.stderr)


def serve(env: Mapping[str, str]) -> None:
    """Serve until SIGTERM; from files alone, whatever a library would like to ask the hub."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.update({name: text for name, text in env.items() if name.startswith("OTEL_")})
    text = env.get(settings.ENV_CONFIG)
    if text is None:
        config = settings.read_environment(env)
        host = "127.0.0.1"
    else:
        parsed = settings.read_config("serve", text)
        assert isinstance(parsed, settings.ServeConfig)
        config, host = parsed, "0.0.0.0"
    if config.engine == "Auto":
        config = _resolve_engine(config)
    ports = (
        settings.port(env, "CHAT_API_PORT", PUBLIC_PORT),
        settings.port(env, "MANAGEMENT_PORT", MANAGEMENT_PORT),
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config, env, host, ports))


async def _serve(
    config: settings.ServeConfig, env: Mapping[str, str], host: str, ports: tuple[int, int]
) -> None:
    api_keys = keys.ApiKeys(config.auth)
    api_keys.check()
    scheduler, limits = _build_scheduler(config, env), config.limits
    verifier = management.Verifier(config, scheduler)
    servers = server.Servers(draining.Drain(limits.drain_seconds))
    story = triage.Triage(config, _choose_patients(config), scheduler, _choose_chat_log(config))
    traced = tracing.choose(env, config.chat_model)
    public = app.build_app(config, scheduler, story, api_keys, traced.telemetry)
    # Standalone with keys the service may be meant for others; without them it is not.
    public_host = host if config.auth.mode == "None" else "0.0.0.0"
    aging = server.EndConnections(public, limits.max_connection_age_seconds, servers.drain)
    servers.add(aging, public_host, ports[0])
    probes = management.build_serve_app(scheduler, verifier, management.MainLoop(), servers.drain)
    servers.add(probes, host, ports[1], beside=True)

    try:
        has_served = await servers.run(_load(config, scheduler, verifier))
    finally:
        gc.freeze()  # libraries collect garbage when closed; all of it goes with the process
        scheduler.close()
        await story.close()
        traced.close()
    if not has_served:
        endings.leave(EXIT_TERMINATED)  # or the thread that loads would be waited for


async def _load(
    config: settings.ServeConfig, scheduler: scheduling.Scheduler, verifier: management.Verifier
) -> None:
    started = time.monotonic()
    if config.model_dir is not None:
        await asyncio.to_thread(model_manager.check, config.model_dir)

    async def warm_up() -> None:
        await verifier.ask()

    await scheduler.start(warm_up)
    logger.info("ready", extra={"seconds": round(time.monotonic() - started, 3)})


def _build_scheduler(config: settings.ServeConfig, env: Mapping[str, str]) -> scheduling.Scheduler:
    limits = config.limits
    return scheduling.Scheduler(
        _choose_engine(config, env),
        scheduling.Room(limits.max_concurrent_requests, limits.max_queued_requests),
        scheduling.Deadlines(
            total=limits.request_deadline_seconds,
            first=limits.first_token_deadline_seconds,
            idle=limits.idle_deadline_seconds,
            step=limits.stuck_step_seconds,
        ),
        metrics.Metrics(
            metrics.Identity(config.mode, config.engine, config.model_id or "mock", config.revision)
        ),
    )


def _resolve_engine(config: settings.ServeConfig) -> settings.ServeConfig:
    assert config.model_dir is not None
    engine, why = choosing.choose_engine(
        config.model_dir, gpus=machine.count_gpus(), has_vllm=shutil.which("vllm") is not None
    )
    logger.info("engine chosen", extra={"engine": engine, "why": why})
    return config.model_copy(update={"engine": engine})


def _choose_engine(config: settings.ServeConfig, env: Mapping[str, str]) -> Engine:
    if config.engine == "Mock":
        return MockEngine(read_behaviour(env))
    assert config.model_dir is not None
    if config.engine == "OpenVINO":
        from chatmodel_runtime.engines.openvino import OpenVINOEngine

        return OpenVINOEngine(config.model_dir, config.threads)
    if config.engine == "VLLM":
        return VllmEngine(config.model_dir, gpus=machine.count_gpus())
    from chatmodel_runtime.engines.torch import TorchEngine

    return TorchEngine(config.model_dir, config.threads)


def _choose_patients(config: settings.ServeConfig) -> patients.PatientSource:
    if config.patient_context.source == "Demo":
        return patients.DemoPatients()
    if config.patient_context.url is not None:
        most = config.limits.request_deadline_seconds
        return patients.HttpPatients(
            config.patient_context.url, min(patients.TIMEOUT_SECONDS, most)
        )
    return patients.NoPatients()


def _choose_chat_log(config: settings.ServeConfig) -> chat_log.ChatLog | None:
    url = config.patient_context.url
    return None if url is None else chat_log.ChatLog(url)


COMMANDS: dict[str, endings.Command] = {
    "serve": serve,
    "inspect": inspect,
    "stage": stage,
    "download": download,
}
