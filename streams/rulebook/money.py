"""Amounts as people write them: `10.00` of CNY, `0.1` points, `1 %`.

What lives here: from digits to whole numbers of the smallest unit and back, never by way of a
float. What must not: what an amount is for.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from streams.core.facts.money import (
    decimal_text,
    digits_of,
    is_currency,
    points_class,
)

_DECIMAL = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,6}))?")
_SHARE = re.compile(r"([0-9]{1,3})(?:\.([0-9]))? ?%")
# What one violation may cost: a year of charges still fits the integers of every consumer.
AMOUNT_MAX = 10**12


class Unit(NamedTuple):
    """What an account counts in, and how many decimal places people write of it."""

    name: str
    digits: int
    word: str
    """What messages call the smallest unit."""


def currency(code: str) -> Unit:
    """Return the unit of a currency (ISO 4217)."""
    return Unit(code, digits_of(code), f"minor units of {code}")


def points(kind: str) -> Unit:
    """Return the unit of points of a class, such as `B`: tenths of a point."""
    name = f"tenth-point:{kind}"
    return Unit(name, digits_of(name), "tenths of a point")


def plain(name: str) -> Unit:
    """Return a unit that is counted in whole numbers."""
    return Unit(name, 0, name)


def parse_amount(value: object, unit: Unit) -> int:
    """Read an amount; return it in the smallest unit.

    Raises:
        ValueError: It is not an amount of the unit; the message is the predicate of a sentence
            whose subject is the value.
    """
    if type(value) is int and unit.digits == 0:
        value = str(value)
    if type(value) is int:
        raise ValueError(
            f'could be meant either way. Write "{value}{"." + "0" * unit.digits}" or '
            f'"{amount_text(value, unit)}" ({value} {unit.word})'
        )
    match = _DECIMAL.fullmatch(value) if isinstance(value, str) else None
    example = amount_text(10**unit.digits * 10, unit)
    if match is None:
        raise ValueError(f'is not an amount. Write digits in quotes: "{example}"')
    whole, fraction = str(match[1]), str(match[2] or "")
    if len(fraction) > unit.digits:
        raise ValueError(f'is finer than {unit.name} can be. Write it as "{example}"')
    amount: int = int(whole) * 10**unit.digits + int(fraction.ljust(unit.digits, "0") or "0")
    if amount > AMOUNT_MAX:
        raise ValueError(f'is too large. The most is "{amount_text(AMOUNT_MAX, unit)}"')
    return amount


def amount_text(amount: int, unit: Unit) -> str:
    """Write an amount as `parse_amount` reads it."""
    return decimal_text(amount, unit.digits)


def unit_of(name: str) -> Unit:
    """Return the unit of an account by the name that entries carry."""
    kind = points_class(name)
    if kind:
        return points(kind)
    return currency(name) if is_currency(name) else plain(name)


def parse_share(value: object) -> int:
    """Read a share such as `10 %`; return thousandths.

    Raises:
        ValueError: It is not a share in whole or tenth percents up to 100 %.
    """
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    per_mille = 0 if match is None else int(match[1]) * 10 + int(match[2] or 0)
    if not 0 < per_mille <= 1_000:
        raise ValueError('is not a share. Write a percentage with at most one decimal: "1.5 %"')
    return per_mille


def share_text(per_mille: int) -> str:
    """Write a share as `parse_share` reads it."""
    whole, rest = divmod(per_mille, 10)
    return f"{whole}.{rest} %" if rest else f"{whole} %"
