"""A shop's violations: walk order, allocation from a point on, bans, release."""

from __future__ import annotations

import copy

from streams.core.accounts.shop import Crossings, Shop
from streams.core.accounts.violation import Violation
from streams.core.facts.outputs import Determined
from tests.unit.samples import DAY_MS, POLICY

MONDAY = 1_670_169_600_000  # 2022-12-05 00:00:00 +08:00


def new_shop() -> Shop:
    """Return a shop without violations."""
    return Shop(POLICY)


def item(
    order_id: str = "O1", number: int = 1, at: int = MONDAY, products: tuple[str, ...] = ("P1",)
) -> Determined:
    """Return a determination."""
    return Determined(
        determined_at=at,
        kind="late-scan",
        log_time_ms=at,
        occurrence=number,
        order_id=order_id,
        product_ids=list(products),
        revision=1,
        shop_id="S1",
        violation_id=f"{order_id}:late-scan:{number}",
    )


def third_time(shop: Shop, order_id: str, products: tuple[str, ...] = ("P1",)) -> list[Violation]:
    """Let three violations of an order stand and tell its products' bans; returns them."""
    violations = [shop.stand(item(order_id, number, products=products)) for number in (1, 2, 3)]
    for violation in violations:
        shop.note_crossing(violation, {})
    shop.banned |= dict.fromkeys(products)
    return violations


def cost(violation: Violation, account: str) -> int:
    """Return what a violation is allocated on an account."""
    charge = violation.charges.get(account)
    return 0 if charge is None else charge.allocated


def noted(crossings: Crossings) -> dict[str, tuple[Violation, str, bool]]:
    """Return, for each product whose ban changes, by what it does."""
    return {name: next(iter(each.values())) for name, each in crossings.items() if each}


def names(violations: list[Violation]) -> list[str]:
    """Return the violation ids."""
    return [violation.violation_id for violation in violations]


def test_standing_violations_are_in_walk_order() -> None:
    """By determined_at, then by violation_id, however they came."""
    shop = new_shop()
    for order_id, at in (("B", 2), ("C", 1), ("A", 2)):
        shop.stand(item(order_id, at=MONDAY + at))
    assert names(shop.standing) == ["C:late-scan:1", "A:late-scan:1", "B:late-scan:1"]
    assert shop.last_taken == (MONDAY + 2, "B:late-scan:1")


def test_violation_that_fell_can_stand_again_elsewhere() -> None:
    """A new revision takes the place its new instant gives it."""
    shop = new_shop()
    shop.stand(item("A", at=MONDAY))
    shop.stand(item("B", at=MONDAY + 1))
    shop.stand_down(shop.violations["A:late-scan:1"])
    assert names(shop.standing) == ["B:late-scan:1"]
    shop.stand(item("A", at=MONDAY + 2))
    assert names(shop.standing) == ["B:late-scan:1", "A:late-scan:1"]
    assert len(shop.violations) == 2


def test_allocation_from_an_instant_returns_what_changed() -> None:
    """A freed charge goes to the first that had none; who keeps his is not named."""
    shop = new_shop()
    for number in (1, 2, 3):
        shop.allocate(shop.stand(item(number=number, at=MONDAY + number)))
    other = shop.stand(item("O2", at=MONDAY + 8 * DAY_MS))
    shop.allocate(other)
    assert [cost(violation, "deposit") for violation in shop.standing] == [1000, 1000, 0, 1000]
    shop.stand_down(shop.violations["O1:late-scan:1"])
    assert names(shop.allocate_from(MONDAY + 1)) == ["O1:late-scan:3"]
    assert [cost(violation, "deposit") for violation in shop.standing] == [1000, 1000, 1000]


def test_allocation_of_earlier_weeks_counts_for_an_order() -> None:
    """An order charged twice in an old week is not charged again when a later one is re-run."""
    shop = new_shop()
    for number in (1, 2):
        shop.allocate(shop.stand(item(number=number, at=MONDAY + number)))
    late = MONDAY + 8 * DAY_MS
    third = shop.stand(item(number=3, at=late))
    shop.allocate_from(late)
    assert (cost(third, "points"), cost(third, "deposit")) == (1, 0)


def test_third_standing_violation_bans_every_product() -> None:
    """Two are no ban; the third crosses, for each product of the order."""
    shop = new_shop()
    crossings: Crossings = {}
    for number in (1, 2):
        shop.note_crossing(shop.stand(item(number=number, products=("P1", "P2"))), crossings)
    assert (noted(crossings), shop.banning) == ({}, {})
    third = shop.stand(item(number=3, products=("P1", "P2")))
    shop.note_crossing(third, crossings)
    assert noted(crossings) == {"P1": (third, "1", True), "P2": (third, "1", True)}
    assert set(shop.banning) == {"P1", "P2"}


def test_ban_stays_while_another_order_is_beyond() -> None:
    """A product is free when the last order that bans it falls below."""
    shop = new_shop()
    third_time(shop, "O1")
    third_time(shop, "O2")
    crossings: Crossings = {}
    shop.note_crossing(shop.stand_down(shop.violations["O1:late-scan:2"]), crossings)
    assert noted(crossings) == {}
    last = shop.stand_down(shop.violations["O2:late-scan:1"])
    shop.note_crossing(last, crossings)
    assert (noted(crossings), shop.banning) == ({"P1": (last, "1", False)}, {})


def test_ban_crossed_twice_at_once_is_no_crossing() -> None:
    """Only what differs after the last change of an instant is told."""
    shop = new_shop()
    third_time(shop, "O1")
    crossings: Crossings = {}
    shop.note_crossing(shop.stand_down(shop.violations["O1:late-scan:3"]), crossings)
    assert set(noted(crossings)) == {"P1"}
    shop.note_crossing(shop.stand(item("O1", 3)), crossings)
    assert noted(crossings) == {}


def test_restored_shop_goes_on_as_the_first_one() -> None:
    """Indexes follow from the violations alone, also from those that fell."""
    shop, again = new_shop(), new_shop()
    for violation in third_time(shop, "O1"):
        shop.allocate(violation)
    shop.stand(item("O2", at=MONDAY + 1))
    shop.stand_down(shop.violations["O2:late-scan:1"])
    for violation in shop.violations.values():
        again.restore(copy.deepcopy(violation))
    assert names(again.standing) == names(shop.standing)
    assert (again.banning, again.last_taken) == (shop.banning, shop.last_taken)
    third = again.stand(item("O1", 4, at=MONDAY + 1))
    again.allocate(third)
    assert (cost(third, "points"), cost(third, "deposit")) == (1, 0)


LATER = MONDAY + 100 * DAY_MS


def test_week_is_dropped_when_its_last_order_is_released() -> None:
    """Until then a correction may come that needs all of the week."""
    shop = new_shop()
    shop.stand(item("O1"))
    shop.stand(item("O2", at=MONDAY + DAY_MS))
    shop.stand(item("O3", at=MONDAY + 7 * DAY_MS))
    released, dropped = shop.release("O1", LATER)
    assert (names(released), dropped) == (["O1:late-scan:1"], [])
    _, dropped = shop.release("O2", LATER)
    assert names(dropped) == ["O1:late-scan:1", "O2:late-scan:1"]
    assert list(shop.violations) == names(shop.standing) == ["O3:late-scan:1"]


def test_week_is_kept_while_an_older_one_is() -> None:
    """Weeks go oldest first: a correction of the old one reaches into the later."""
    shop = new_shop()
    shop.stand(item("O1"))
    shop.stand(item("O2", at=MONDAY + 7 * DAY_MS))
    assert shop.release("O2", LATER)[1] == []
    assert names(shop.release("O1", LATER)[1]) == ["O1:late-scan:1", "O2:late-scan:1"]
    assert shop.violations == {}


def test_week_is_kept_while_an_open_order_may_reach_it() -> None:
    """An order not judged yet can still bring a violation of that week."""
    shop = new_shop()
    shop.stand(item("O1"))
    assert shop.release("O1", MONDAY + 6 * DAY_MS)[1] == []
    assert len(shop.violations) == 1


def test_dropped_violations_no_longer_count() -> None:
    """A shop that dropped a week allocates as one restored from what it kept."""
    shop, again = new_shop(), new_shop()
    for number in (1, 2):
        shop.allocate(shop.stand(item("O1", number)))
    shop.allocate(shop.stand(item("O2", at=MONDAY + 7 * DAY_MS)))
    shop.release("O1", MONDAY + 8 * DAY_MS)
    for violation in shop.standing:
        again.restore(copy.deepcopy(violation))
    for each in (shop, again):
        each.allocate(each.stand(item("O1", 3, at=MONDAY + 8 * DAY_MS)))
    assert names(shop.standing) == ["O2:late-scan:1", "O1:late-scan:3"]
    assert shop.standing == again.standing


def test_restored_shop_drops_what_was_released_before() -> None:
    """What goes hangs on what the shop holds, never on restarts."""
    shop, again = new_shop(), new_shop()
    shop.stand(item("O1"))
    assert shop.release("O1", MONDAY)[1] == []
    for violation in shop.violations.values():
        again.restore(copy.deepcopy(violation))
    for each in (shop, again):
        each.stand(item("O2", at=MONDAY + 7 * DAY_MS))
        assert names(each.release("O2", MONDAY + 7 * DAY_MS)[1]) == ["O1:late-scan:1"]


def test_banning_violations_are_kept_for_good() -> None:
    """A ban holds after its order can no longer be corrected."""
    shop = new_shop()
    third_time(shop, "O1")
    released, dropped = shop.release("O1", LATER)
    assert (len(released), dropped) == (3, [])
    assert set(shop.banning) == {"P1"}


def test_release_of_an_order_without_violations_does_nothing() -> None:
    """An order the shop knows nothing of drops nobody else's."""
    shop = new_shop()
    shop.stand(item("O1"))
    assert shop.release("O9", LATER) == ([], [])
    assert len(shop.violations) == 1
