"""The mutants of what is compiled: their texts must be there, or the command finds nothing."""

from __future__ import annotations

import pytest

from tests.property.native_mutants import MUTANTS, ROOT, mutated


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_text_of_a_mutant_stands_once(name: str) -> None:
    """Whether it is noticed, `python -m tests.property.native_mutants` tells."""
    source, *edit = MUTANTS[name]
    text = (ROOT / source).read_text()
    assert mutated(text, *edit) != text
