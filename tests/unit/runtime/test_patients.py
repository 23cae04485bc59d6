"""Where patients come from."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from chatmodel_runtime import patients

OK = (200, '{"patient": {"sex": "male"}}')


@contextlib.asynccontextmanager
async def patient_api(
    status: int, body: str, *headers: str
) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve one answer to everything; yields the URL and the paths that were asked."""
    paths: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        paths.append(head.decode().split(" ")[1])
        more = "".join(f"{line}\r\n" for line in headers)
        start = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
        writer.write(f"{start}{more}\r\n{body}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", paths


async def find(url: str, mrn: str) -> patients.Summary | None:
    source = patients.HttpPatients(url)
    try:
        return await source.find(mrn)
    finally:
        await source.close()


async def test_no_source_finds_nothing_for_everybody() -> None:
    assert await patients.NoPatients().find("MRN-001") is None


@pytest.mark.parametrize(("one", "other"), [("MRN-001", "P000123"), ("MRN-002", "P000124")])
async def test_a_demo_patient_has_two_numbers(one: str, other: str) -> None:
    source = patients.DemoPatients()
    assert await source.find(one) == await source.find(other)


async def test_demo_patients_have_the_shape_of_the_origins_summary() -> None:
    summary = await patients.DemoPatients().find("MRN-001")
    assert summary is not None
    assert set(summary) == {
        "patient",
        "recent_encounters",
        "recent_claims",
        "documents",
        "summary_metadata",
    }
    assert {"mrn", "name", "dob", "sex", "conditions", "medications", "allergies"} <= set(
        summary["patient"]
    )


@pytest.mark.parametrize("mrn", ["MRN-999", "", "mrn-001", ".."])
async def test_an_unknown_demo_patient_is_not_found(mrn: str) -> None:
    with pytest.raises(patients.PatientNotFound):
        await patients.DemoPatients().find(mrn)


async def test_the_patient_api_is_asked_for_the_summary() -> None:
    async with patient_api(*OK) as (url, paths):
        assert await find(url, "P000123") == {"patient": {"sex": "male"}}
    assert paths == ["/patients/P000123/summary"]


@pytest.mark.parametrize("mrn", ["a/../../admin", "a?b=c", "a#b", "a b", "ä", "%2e%2e"])
async def test_a_strange_number_stays_one_part_of_the_path(mrn: str) -> None:
    async with patient_api(*OK) as (url, paths):
        await find(url, mrn)
    assert paths[0].startswith("/patients/") and paths[0].endswith("/summary")
    assert paths[0].count("/") == 3 and "?" not in paths[0]


@pytest.mark.parametrize("mrn", [".", ".."])
async def test_a_number_of_dots_asks_for_no_other_path(mrn: str) -> None:
    async with patient_api(*OK) as (url, paths):
        with contextlib.suppress(patients.PatientNotFound):
            await find(url, mrn)
    assert paths in ([], [f"/patients/{mrn}/summary"])
    assert paths == []


async def test_a_404_is_a_patient_that_is_not_there() -> None:
    async with patient_api(404, "{}") as (url, _):
        with pytest.raises(patients.PatientNotFound):
            await find(url, "P1")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(500, "{}", id="an error"),
        pytest.param(403, "{}", id="a refusal"),
        pytest.param(302, "{}", id="a redirect, which is not followed"),
        pytest.param(200, "not json", id="no JSON"),
        pytest.param(200, "[]", id="a list"),
        pytest.param(200, "", id="nothing"),
    ],
)
async def test_anything_but_a_summary_means_that_the_source_is_down(status: int, body: str) -> None:
    async with patient_api(status, body, "location: http://127.0.0.1:1/x") as (url, paths):
        with pytest.raises(patients.PatientSourceDown):
            await find(url, "P1")
        assert len(paths) == 1


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"a": "' + "x" * patients.MAX_SUMMARY + '"}', id="too large"),
        pytest.param("[" * 100_000 + "]" * 100_000, id="too deep"),
        pytest.param("9" * 5000, id="a number too long to read"),
    ],
)
async def test_a_summary_that_is_too_much_is_no_summary(body: str) -> None:
    async with patient_api(200, body) as (url, _):
        with pytest.raises(patients.PatientSourceDown):
            await find(url, "P1")


async def test_a_source_that_trickles_is_given_up_after_the_time_of_the_whole() -> None:
    gone = asyncio.Event()

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()
        gone.set()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        source = patients.HttpPatients(url, timeout_seconds=0.2)
        with pytest.raises(patients.PatientSourceDown):
            await source.find("P1")
        await source.close()
        await asyncio.wait_for(gone.wait(), 10)


async def test_a_proxy_of_the_environment_is_not_told_the_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with patient_api(*OK) as (url, paths):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        assert await find(url, "P1") == {"patient": {"sex": "male"}}
    assert paths == ["/patients/P1/summary"]


async def test_a_source_that_does_not_listen_is_down_and_the_error_names_nobody() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(patients.PatientSourceDown) as caught:
            await find(f"http://127.0.0.1:{taken.getsockname()[1]}", "P000123")
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    assert "P000123" not in str(caught.value)
