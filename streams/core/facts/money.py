"""The smallest units of currencies, ISO 4217.

Here, because policies are read and amounts are shown by it, in different rooms.
"""

from __future__ import annotations

# The currencies whose minor unit is not a hundredth.
_DIGITS = dict.fromkeys(
    "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF".split(), 0
)
_DIGITS |= dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3)


def minor_digits(currency: str) -> int:
    """Return how many decimal places the amounts of a currency have."""
    return _DIGITS.get(currency, 2)
