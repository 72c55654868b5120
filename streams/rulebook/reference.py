"""The reference page of policy files: `python -m streams.rulebook.reference` writes it.

What lives here: the page's text around the tables. What must not: keys and meanings (`grammar`).
"""

from __future__ import annotations

from pathlib import Path

from streams.core.rules.phrases import FORMS, UNITS_MS
from streams.core.rules.policy import STARTS, STOPS
from streams.rulebook.grammar import REQUIRED, SECTIONS, TABLE, Section

_TOP = """\
# Policy files

This page is made from the grammar that reads them; `python -m streams.rulebook.reference` writes
it. [Write your own rules](write-your-own-rules.md) leads through a file step by step.

A policy file is TOML. One file is one version of one platform's rules. What it leaves out is off,
or has the default below; `shipclock policy show FILE` prints it with every default spelled out, and
`shipclock policy check FILE` names all its mistakes.

## Facts

One vocabulary for all sections: `placed` and `paid` (of the order), `uploaded` (the first upload of
a tracking number), `scanned` (the first scan), `closed`, `promised` and `agreed` (shipping times in
the order itself). A clock may run from {starts}, and is stopped by {stops}.

## Deadlines

| write | meaning |
|---|---|
{forms}

A duration is a number and one of {units}; `d` is 24 hours.

## Amounts

Money and points are written as people say them, in quotes: `"10.00"` beside `currency = "CNY"`,
`"0.1"` beside `points = "B"`. They are counted in the smallest unit, in whole numbers: fen, tenths
of a point. Shares are rounded down.
"""


def reference() -> str:
    """Return the page."""
    forms = "\n".join(f"| `{form.example}` | {form.meaning} |" for form in FORMS)
    text = _TOP.format(
        starts=_words(STARTS), stops=_words(STOPS), forms=forms, units=_words(tuple(UNITS_MS))
    )
    return text + "".join(map(_section, SECTIONS))


def _section(section: Section) -> str:
    title = f"`{section.header}`" if section.header else "Above all tables"
    rows = []
    for key in section.keys:
        allowed = "" if key.value is TABLE else key.value.allowed
        default = "**required**" if key.default is REQUIRED else key.default_text
        example = f"`{key.example}`" if key.example else ""
        cells = (f"`{key.name}`", key.meaning, allowed, default, example)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return (
        f"\n## {title}\n\n{section.meaning}\n\n"
        "| key | meaning | takes | default | example |\n|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def _words(names: tuple[str, ...]) -> str:
    *others, last = (f"`{name}`" for name in names)
    return f"{', '.join(others)} and {last}"


def main() -> None:
    """Write the page of a checkout."""
    path = Path(__file__).parents[2] / "docs" / "policy-reference.md"
    path.write_text(reference(), encoding="utf-8")
    print(path.name)


if __name__ == "__main__":
    main()
