"""Who gave a verdict is told by its label's id, whatever the provider of logins calls them."""

from __future__ import annotations

import random

import pytest

from sentinel.dashboard import words
from sentinel.dashboard.login.door import header_of, name_in
from sentinel.ingest.guard import Guard

NAMES = (
    "ann@example.com",
    "渡辺 健",
    "żaneta+1@example.pl",
    "100%41",
    "ann\n<b>\u202e",
    "4111111111111111",
    "4111 1111 1111 1111 ",
    "%B4111111111111111^DOE/JOHN^29122011000012300000?",
    "x" * 500,
)


@pytest.mark.parametrize("name", NAMES)
def test_the_pages_learn_the_name_as_it_is(name: str) -> None:
    header = header_of(name)
    assert header.isascii()
    assert name_in(header.decode("ascii")) == name


@pytest.mark.parametrize("name", NAMES)
def test_every_verdict_has_an_id_that_the_api_takes(name: str) -> None:
    given = {words.verdict_id(name) for _ in range(100)}
    assert len(given) == 100
    for label_id in given:
        assert Guard().id("label_id", label_id) == label_id


def test_what_is_random_in_an_id_is_never_taken_for_a_card_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = iter(("3d841f89296543d38644146597533648", "3261451c1916488ea677590430686172"))

    class Drawn:
        @property
        def hex(self) -> str:
            return next(seen)

    monkeypatch.setattr("uuid.uuid4", Drawn)
    for _ in range(2):
        label_id = words.verdict_id("ann")
        assert Guard().id("label_id", label_id) == label_id


def test_names_of_digits_are_taken() -> None:
    draw = random.Random(1)
    for _ in range(2_000):
        name = "".join(draw.choices("0123456789- ", k=draw.randrange(1, 30)))
        label_id = words.verdict_id(name)
        assert Guard().id("label_id", label_id) == label_id.strip()
