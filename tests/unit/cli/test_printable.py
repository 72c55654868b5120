"""Text from events on a terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.cli.printable import printable, printable_json

COMMANDS = "\x00\x07\x1b\x7f\x80\x9b\u200f\u2028\u202e\u2066\ud800\ufeff"


@given(st.text())
def test_text_without_commands_stays_as_it_is(text: str) -> None:
    """Every language, spaces and emoji are left alone; the rest is written as JSON writes it."""
    shown = printable(text)
    assert (shown == text) == (not set(text) & {chr(code) for code in unsafe_codes()})
    assert not [char for char in shown if ord(char) in unsafe_codes()]


def unsafe_codes() -> set[int]:
    """Name what moves a cursor, rewrites a screen, reorders a line or cannot be encoded."""
    controls = [*range(0x20), *range(0x7F, 0xA0)]
    direction = [0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF]
    return {*controls, *direction, *range(0xD800, 0xE000)}


@pytest.mark.parametrize("char", COMMANDS)
def test_a_command_is_shown_and_not_obeyed(char: str) -> None:
    """As an escape that tells which character it was."""
    assert printable(f"a{char}b") == f"a\\u{ord(char):04x}b"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_means_what_it_meant(text: str) -> None:
    """Whatever its strings hold, a line parses to the same."""
    line = json.dumps({text: [text]}, ensure_ascii=False).encode()
    shown = printable_json(line)
    assert json.loads(shown) == {text: [text]}
    assert printable(shown.decode()).encode() == shown
