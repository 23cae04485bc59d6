"""Films: whole rollouts on the tiny world, as text.

`GOLDEN_UPDATE=1` writes the films anew. The invariants hold after every step of every film.
"""

import os
import pathlib

import pytest
import stories
import telling
import tiny_table

FILMS = pathlib.Path(__file__).parent / "rollouts"


@pytest.mark.parametrize("name", stories.STORIES)
def test_the_film_is_as_it_was(name: str) -> None:
    film = "\n".join(telling.film(name).log) + "\n"
    path = FILMS / f"{name}.txt"
    if os.environ.get("GOLDEN_UPDATE"):
        path.write_text(film)
    assert film == path.read_text(), f"the film differs: GOLDEN_UPDATE=1 writes {path.name} anew"


def test_every_film_has_a_story() -> None:
    assert {path.stem for path in FILMS.iterdir()} == set(stories.STORIES)


@pytest.mark.parametrize(
    "name", ["a-model-that-dies-under-traffic-is-rolled-back", "a-mock-goes-live"]
)
def test_nothing_is_written_once_all_is_told(name: str) -> None:
    teller = telling.Teller(stories.STORIES[name])
    world = teller.tell()
    before = world.writes
    for _ in range(10):
        world.seconds += 60
        teller.settle()
    assert world.writes == before


@pytest.mark.parametrize("name", ["three-bad-ones-in-a-row", "a-good-model-replaces-a-mock"])
def test_losing_status_and_a_revision_loses_no_verdict_and_no_files(name: str) -> None:
    for lost in sorted(telling.film(name).revisions()):
        teller = telling.Teller(stories.STORIES[name])
        world = teller.tell()
        before = {n: b["status"].get("verdict") for n, b in world.revisions().items()}
        picked = {n: b["spec"].get("files") for n, b in world.revisions().items()}
        world.lose_status()
        if ("Deployment", lost) in world.objects:
            world.lose("ChatModelRevision", lost)
        teller.settle()
        assert {n: b["status"].get("verdict") for n, b in world.revisions().items()} == before
        assert {n: b["spec"].get("files") for n, b in world.revisions().items()} == picked
        assert before[str(world.selected())] == "Verified"


def test_no_stored_body_was_changed_in_place() -> None:
    telling.film("no-room-swaps-and-measures-the-outage")
    assert tiny_table.TABLE.changed_in_place() == []
