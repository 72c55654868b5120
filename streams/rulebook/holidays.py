"""Public holidays, resolved once when rules are loaded.

What lives here: the only use of the `holidays` package. What must not: working days (`deadlines` of
the core), which only sees dates.
"""

from __future__ import annotations

import difflib
from functools import lru_cache

import holidays

FIRST_YEAR, LAST_YEAR = 2010, 2100


@lru_cache(maxsize=64)
def holiday_ordinals(place: str) -> tuple[int, ...]:
    """Return the public holidays of a country, or `country-subdivision`, as ordinals of dates.

    Raises:
        ValueError: There is no such place.
    """
    places = holidays.list_supported_countries(include_aliases=True)
    country, _, subdivision = str(place).partition("-")
    if country not in places:
        close = difflib.get_close_matches(country, places, n=3, cutoff=0.3)
        hint = f" Near: {', '.join(close)}" if close else ""
        raise ValueError(f'is not a country. Write its ISO 3166 code: "US", "US-CA".{hint}')
    if subdivision and subdivision not in places[country]:
        known = ", ".join(places[country]) or "none"
        raise ValueError(f"is not a subdivision of {country}; there are: {known}")
    found = holidays.country_holidays(
        country, subdiv=subdivision or None, years=range(FIRST_YEAR, LAST_YEAR + 1)
    )
    return tuple(sorted(day.toordinal() for day in found))
