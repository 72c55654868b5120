"""Numbers and names in sentences."""

from __future__ import annotations

import pytest

from streams.core.words import counted, shortened


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 bans"), (1, "1 ban"), (2, "2 bans"), (12_345, "12,345 bans")]
)
def test_one_is_not_many(count: int, expected: str) -> None:
    """The thing agrees with its number, and large numbers can be read."""
    assert counted(count, "ban") == expected


def test_a_name_from_outside_fits_a_line() -> None:
    """However long somebody made it."""
    assert shortened("x" * 60) == "x" * 60
    assert shortened("x" * 1_000_000) == "x" * 60 + "…"
