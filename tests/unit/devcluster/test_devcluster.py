"""The parts of devcluster that need no cluster: keys, command lines, sentences, bookkeeping."""

import contextlib
import io
import json
import pathlib
import signal
import socket
import subprocess
import sys
import tarfile

import pytest

from devcluster import archive, backends, build, images, preflight, settings
from devcluster.processes import Daemons, start_time
from devcluster.shell import Problem, run, wait_for


@pytest.fixture
def config(tmp_path: pathlib.Path) -> settings.Settings:
    return settings.Settings(cache=tmp_path / "cache", home=tmp_path / "home")


def test_the_key_changes_with_any_input_and_with_nothing_else(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").write_text("one")
    first = build.key_of(tmp_path, "text")
    assert build.key_of(tmp_path, "text") == first
    assert build.key_of(tmp_path, "other") != first
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/a.pyc").write_text("x")
    assert build.key_of(tmp_path, "text") == first
    (tmp_path / "a").write_text("two")
    assert build.key_of(tmp_path, "text") != first


def test_what_is_current_is_not_made_again(tmp_path: pathlib.Path) -> None:
    made = []

    def work(path: pathlib.Path) -> None:
        made.append(path)
        path.write_text("done")

    target = tmp_path / "bin/tool"
    assert build.make(target, "key", "tool", work)
    assert not build.make(target, "key", "tool", work)
    assert build.make(target, "other", "tool", work)
    assert len(made) == 2


def test_a_build_that_fails_leaves_no_half_file(tmp_path: pathlib.Path) -> None:
    def work(path: pathlib.Path) -> None:
        path.write_text("half")
        raise Problem("cut off")

    with pytest.raises(Problem, match="cut off"):
        build.make(tmp_path / "tool", "key", "tool", work)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["containerd.toml", "kubelet.yaml", "cni.conflist", "Corefile"])
def test_an_unknown_name_in_a_template_is_an_error(name: str) -> None:
    with pytest.raises(KeyError):
        settings.render(f"templates/{name}", {})


def test_templates_are_filled_in_whole(config: settings.Settings) -> None:
    text = settings.render("manifests/dns.yaml", config.variables())
    assert "10.96.0.10" in text
    assert "@" not in text


@pytest.mark.parametrize(
    ("system", "uid", "sentence"),
    [
        pytest.param("Darwin", 0, "needs Linux, this is Darwin", id="not Linux"),
        pytest.param("Linux", 1000, "needs root: run it with sudo", id="not root"),
    ],
)
def test_a_machine_that_will_not_do_is_told_what_to_do(
    system: str, uid: int, sentence: str
) -> None:
    with pytest.raises(Problem, match=sentence):
        preflight.check_machine(system, uid)


def test_a_full_disk_is_told_before_anything_is_built(tmp_path: pathlib.Path) -> None:
    with pytest.raises(Problem, match="make room, or set XDG_CACHE_HOME"):
        preflight.check_disk(tmp_path / "not/there", needed=1 << 60)


def test_whoever_holds_the_port_is_named(config: settings.Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        taken = settings.Settings(api_port=port, cache=config.cache, home=config.home)
        with pytest.raises(Problem, match=f"port {port} on loopback is taken by"):
            preflight.check_port(taken, Daemons(config.run, config.log))


def test_without_go_the_user_is_told_where_it_is_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Problem, match=r"Go 1\.26 or newer is needed"):
        preflight.check_go()


def test_a_daemon_is_started_once_and_stopped(tmp_path: pathlib.Path) -> None:
    daemons = Daemons(tmp_path / "run", tmp_path / "log")
    daemons.start("sleeper", None, ["sleep", "60"])
    pid = daemons.pid("sleeper")
    daemons.start("sleeper", None, ["sleep", "60"])
    assert daemons.pid("sleeper") == pid is not None
    daemons.stop(["sleeper"])
    assert daemons.pid("sleeper") is None
    assert daemons.names() == []


def test_a_pid_that_went_to_another_program_is_left_alone(tmp_path: pathlib.Path) -> None:
    daemons = Daemons(tmp_path / "run", tmp_path / "log")
    (tmp_path / "run").mkdir()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        started = start_time(stranger.pid)
        assert started is not None
        record = {"pid": stranger.pid, "started": started - 1}
        (tmp_path / "run/ours.json").write_text(json.dumps(record))
        assert daemons.pid("ours") is None
        daemons.stop(["ours"])
        assert stranger.poll() is None
        stranger.kill()


def test_a_daemon_that_does_not_listen_to_reason_is_ended(tmp_path: pathlib.Path) -> None:
    daemons = Daemons(tmp_path / "run", tmp_path / "log")
    ready = tmp_path / "ready"
    code = f"import signal, time; signal.signal({int(signal.SIGTERM)}, signal.SIG_IGN);"
    code += f"open({str(ready)!r}, 'w').close(); time.sleep(60)"
    daemons.start("stubborn", None, [sys.executable, "-c", code])
    wait_for(10, "the daemon", ready.exists)
    daemons.stop(["stubborn"], seconds=0.3)
    assert daemons.pid("stubborn") is None


def test_docker_and_buildah_get_their_own_command_lines(tmp_path: pathlib.Path) -> None:
    image = next(i for i in images.IMAGES if i.name == "cpu")
    docker = images.build_command(image, tmp_path, docker=True, wheels=None)
    assert docker[:3] == ["docker", "buildx", "build"]
    assert f"BASE={images.PUBLIC_BASE}" in docker
    assert docker[-1] == str(tmp_path)
    buildah = images.build_command(image, tmp_path, docker=False, wheels=pathlib.Path("/w"))
    assert buildah[:2] == ["buildah", "bud"]
    assert buildah[buildah.index("--network") + 1] == "host"
    assert "/w:/wheels:ro" in buildah
    assert buildah[buildah.index("--target") + 1] == "cpu"


@pytest.mark.parametrize("docker", [True, False])
def test_an_image_with_models_inside_is_told_where_they_are(
    tmp_path: pathlib.Path, docker: bool
) -> None:
    image = next(i for i in images.IMAGES if i.models)
    hub = "http://127.0.0.1:8080"
    words = images.build_command(image, tmp_path, docker=docker, wheels=None, hub=hub)
    assert f"HF_ENDPOINT={hub}" in words
    assert f"MODEL_ID={' '.join(image.models)}" in words
    assert words[words.index("--network") + 1] == "host"


def test_an_unknown_image_is_named_with_those_there_are(config: settings.Settings) -> None:
    with pytest.raises(Problem, match="there is no image nope; there are: operator, mock"):
        images.build_images(config, ["nope"])


def test_kind_gets_its_command_lines(config: settings.Settings) -> None:
    kind = backends.Kind(config)
    assert kind.create_command()[:5] == ["kind", "create", "cluster", "--name", "chatmodel"]
    assert kind.load_command(pathlib.Path("/x.tar")) == [
        *"kind load image-archive /x.tar --name chatmodel".split()
    ]


def test_an_unknown_cluster_is_named_with_those_there_are(config: settings.Settings) -> None:
    with pytest.raises(Problem, match="use one of embedded, current, kind"):
        backends.choose(config, "minikube")


def test_the_current_cluster_is_the_one_of_the_kubeconfig(
    config: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/one:/two")
    assert backends.Current(config).kubeconfig() == pathlib.Path("/one")


def test_an_image_of_one_program_is_the_same_every_time(tmp_path: pathlib.Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"\x7fELF")
    outs = [tmp_path / "a.tar", tmp_path / "b.tar"]
    for out in outs:
        archive.write_image(program, "localhost/pause:1", out, entrypoint="/pause", user="1:1")
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert images.unpacked_bytes(outs[0]) == 4
    with tarfile.open(outs[0]) as tar:
        handle = tar.extractfile("manifest.json")
        assert handle is not None
        with contextlib.closing(io.BytesIO(handle.read())) as body:
            assert json.load(body)[0]["RepoTags"] == ["localhost/pause:1"]


def test_a_command_that_fails_says_its_last_words() -> None:
    with pytest.raises(Problem, match="no such thing"):
        run("sh", "-c", "echo no such thing >&2; exit 3")


def test_help_lists_every_command() -> None:
    text = run(sys.executable, "-m", "devcluster", "--help")
    for word in ("up", "down", "status", "kubeconfig", "images", "load", "forward", "check"):
        assert f"\n    {word}" in text


def test_a_second_cluster_keeps_its_state_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVCLUSTER_NAME", "two")
    monkeypatch.setenv("DEVCLUSTER_API_PORT", "16444")
    second, usual = settings.Settings.of_environment(), settings.Settings()
    assert (second.name, second.api_port) == ("two", 16444)
    assert {second.home, second.state, second.switch}.isdisjoint(
        {usual.home, usual.state, usual.switch}
    )
    assert second.bin == usual.bin
