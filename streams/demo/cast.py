"""The shops of the demo: a few with a story, and the crowd."""

from __future__ import annotations

from typing import NamedTuple


class Shop(NamedTuple):
    """A shop of the sale; `story` is what a person should watch for, empty in the crowd."""

    shop_id: str
    name: str
    story: str = ""


LOTUS = Shop("lotus-tea", "Lotus Tea", "ships everything in time")
SILK = Shop("swift-silk", "Swift Silk", "slow carrier: both penalty caps bind")
PHONES = Shop("moon-phones", "Moon Phones", "never ships one product: ban")
LAMPS = Shop("lucky-lamps", "Lucky Lamps", "banned, then the scan turns up")
DOWN = Shop("north-down", "North Down", "caught in the snow: exempted")
GOURMET = Shop("good-gourmet", "Good Gourmet", "appeals twice, wins once")

CAST = (LOTUS, SILK, PHONES, LAMPS, DOWN, GOURMET)

_COLOURS = "Amber Coral Ivory Jade Plum Ruby"
_GOODS = "Books Candles Gloves Kettles Scarves Toys"

CROWD = tuple(
    Shop(f"{colour}-{goods}".lower(), f"{colour} {goods}")
    for goods in _GOODS.split()
    for colour in _COLOURS.split()
)
