"""Which servers are chosen, what is installed for them, and that nothing of them stays behind."""

import pathlib
import sys

import contenders
import environments
import fits
import processes
import pytest
import runtime_models

SERVER = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print(child.pid, flush=True)
there = ("127.0.0.1", int(sys.argv[1]))
http.server.HTTPServer(there, http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def names(only: str) -> list[str]:
    return [contender.name for contender in contenders.choose(only)]


def test_servers_are_chosen_by_how_their_names_begin() -> None:
    assert names("ours,llama.cpp") == ["ours-auto-gguf", "llama.cpp", "ours-auto-safetensors"]
    assert names("") == [contender.name for contender in contenders.CONTENDERS]


def test_a_server_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody is none of"):
        contenders.choose("ours,nobody")


@pytest.mark.parametrize("given", [["--parts", "sped"], ["--levels", "17"], ["--only", "x"]])
def test_what_cannot_be_measured_is_refused_before_anything_starts(given: list[str]) -> None:
    with pytest.raises(SystemExit):
        runtime_models.read_arguments(given)


def test_a_short_form_is_read() -> None:
    args = runtime_models.read_arguments("--rounds 1 --only ours,llama --parts speed".split())
    assert (args.rounds, args.parts, len(args.only)) == (1, ("speed",), 3)


def test_requirements_of_extras_and_those_that_are_shared_are_left_out() -> None:
    listed = ["torch==2.13.0+cpu; x", "torchaudio", "numpy", 'ray; extra == "ray"', "fastapi[a]<1"]
    assert environments.choose(listed, ("torch", "torchaudio")) == ["numpy", "fastapi[a]<1"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("Looking\nERROR: no such wheel\nnotice: newer pip", "ERROR: no such wheel"),
        pytest.param("it went wrong\n\n", "it went wrong"),
        pytest.param("", "it said nothing"),
    ],
)
def test_an_installation_that_fails_says_why(text: str, line: str) -> None:
    assert environments.last_error(text) == line


def test_both_numbers_of_a_refusal_are_found_in_the_log() -> None:
    told = "needs 0.76 GB, 0.20 GB of it weights; 0.54 GB may be used"
    assert fits.read_numbers(f'{{"message": "InsufficientMemory: {told}"}}') == told
    assert fits.read_numbers('{"message": "ModelLoadFailed: needs something"}') == ""


def test_a_tree_is_a_process_and_all_below_it() -> None:
    parents = {2: 1, 3: 2, 4: 3, 5: 1, 6: 5}
    assert sorted(processes.find_tree(2, parents)) == [2, 3, 4]


def test_children_end_with_their_server(tmp_path: pathlib.Path) -> None:
    port, log = processes.free_port(), tmp_path / "log"
    command = [sys.executable, "-c", SERVER, str(port)]
    url = f"http://127.0.0.1:{port}/"
    with processes.run(command, {}, url, log, seconds=60) as running:
        child = int(log.read_text().split()[0])
        assert running.tree() == [running.pid, child]
        assert running.peak_mib() > running.pss_mib() > 0
    assert not {running.pid, child} & processes.read_parents().keys()


def test_a_server_that_ends_says_its_last_words(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no room')"]
    with (
        pytest.raises(processes.DidNotStart, match="ended with 1: no room"),
        processes.run(command, {}, "http://127.0.0.1:9/", tmp_path / "log", seconds=60),
    ):
        pass
