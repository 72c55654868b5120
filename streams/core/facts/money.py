"""Amounts for people: the smallest units of currencies (ISO 4217), and how an amount is written.

Here, because policies are read and amounts are shown by it, in different rooms.
"""

from __future__ import annotations

# The currencies whose minor unit is not a hundredth.
_DIGITS = dict.fromkeys(
    "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF".split(), 0
)
_DIGITS |= dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3)
_POINTS = "tenth-point:"
_POINT_DIGITS = 1


def minor_digits(currency: str) -> int:
    """Return how many decimal places the amounts of a currency have."""
    return _DIGITS.get(currency, 2)


def is_currency(unit: str) -> bool:
    """Tell whether an account's unit is a currency (ISO 4217)."""
    return len(unit) == 3 and unit.isascii() and unit.isalpha() and unit.isupper()


def points_class(unit: str) -> str:
    """Return the class of points that an account's unit is of; empty if it is not points."""
    return unit.removeprefix(_POINTS) if unit.startswith(_POINTS) else ""


def digits_of(unit: str) -> int:
    """Return how many decimal places people write of an account's unit."""
    if points_class(unit):
        return _POINT_DIGITS
    return minor_digits(unit) if is_currency(unit) else 0


def decimal_text(amount: int, digits: int) -> str:
    """Write an amount of smallest units with decimal places."""
    if not digits:
        return f"{amount}"
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), 10**digits)
    return f"{sign}{whole}.{rest:0{digits}}"


def money(amount: int, unit: str) -> str:
    """Write an amount of an account's unit: 1000 of `CNY` is `10.00 CNY`."""
    points = points_class(unit)
    return f"{decimal_text(amount, digits_of(unit))} {f'{points} points' if points else unit}"
