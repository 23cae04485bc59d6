"""From generated text to an answer."""

import pytest

from chatmodel_runtime import answers


@pytest.mark.parametrize(
    ("query", "urgency"),
    [
        pytest.param("I have crushing chest pain", "emergency", id="chest pain"),
        pytest.param("CHEST PAIN since noon", "emergency", id="in capitals"),
        pytest.param("she can't breathe", "emergency", id="cannot breathe, short"),
        pytest.param("he cannot breathe", "emergency", id="cannot breathe, long"),
        pytest.param("shortness of breath", "emergency", id="short of breath"),
        pytest.param("I took an overdose", "emergency", id="overdose"),
        pytest.param("thinking of suicide", "emergency", id="suicide"),
        pytest.param("a high fever and a stiff neck", "urgent", id="fever and stiff neck"),
        pytest.param("I fainted, and have chest pain", "emergency", id="the worse of two wins"),
        pytest.param("my foot itches", "unknown", id="nothing on the list says nothing"),
        pytest.param("", "unknown", id="no words"),
    ],
)
def test_urgency_comes_from_the_red_flags_alone(query: str, urgency: str) -> None:
    assert answers.urgency_of(query) == urgency


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("I can\u2019t breathe", id="a curly apostrophe"),
        pytest.param("I can not breathe", id="in two words"),
        pytest.param("chest  pain", id="two spaces"),
        pytest.param("pain in my chest", id="the other way round"),
        pytest.param("I think it is a heart attack", id="heart attack"),
        pytest.param("he has a seizure", id="seizure"),
    ],
)
def test_red_flags_are_seen_in_the_spellings_people_use(query: str) -> None:
    assert answers.urgency_of(query) == "emergency"


def test_the_note_says_that_this_is_no_medical_device() -> None:
    assert "not a medical device" in answers.SAFETY_NOTE
