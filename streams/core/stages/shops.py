"""One partition's shops: penalty journal, product bans and actions on shops from what stands.

What lives here: the order in which a shop takes determinations and revocations, settlement, the
re-run after a correction, and sanctions. What must not: how a cap works (`allocation`), orders,
bytes.

Theory of operation. Items wait until the frontier (the caller vouches that no item below it is
still to come) has passed their log time L. Then, instant by instant: all items of one shop with one
L, one allocation, the difference to what the journal holds, one comparison of sanctions; after the
items of an instant its settlements, and the actions that end by themselves. The journal therefore
follows from what stands, however items arrived.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import msgspec

from streams.core.accounts.journal import Due, append_difference
from streams.core.accounts.sanctions import Force
from streams.core.accounts.shop import ActionTold, Crossings, Shop
from streams.core.accounts.violation import WALK_ORDER, Violation
from streams.core.facts.instants import NEVER_MS
from streams.core.facts.money import is_currency
from streams.core.facts.outputs import (
    Determined,
    Notification,
    Output,
    Penalty,
    ProductBan,
    Released,
    Revised,
    Revoked,
    ShopAction,
    ShopItem,
)
from streams.core.rules.book import Rulebook, Version

# A message names at most so many entries; the journal holds them all. A larger one would not fit
# its topic when a whole shop is corrected at once.
_SUBJECTS_MAX = 1_000
# From a determination to its settlement: to the end of the next local day, and an hour or two more
# where clocks are set back.
_SETTLES_WITHIN_MS = 50 * 3_600_000


class ShopStore(Protocol):
    """Where the stage's changes are kept.

    Keys are (shop_id, violation_id), of bans (shop_id, product_id).
    """

    def put_violation(self, violation: Violation) -> None:
        """Keep a changed violation."""

    def drop_violation(self, violation: Violation) -> None:
        """Forget a violation."""

    def put_ban(self, shop_id: str, product_id: str) -> None:
        """Keep that a product was told to be banned."""

    def drop_ban(self, shop_id: str, product_id: str) -> None:
        """Forget that, once it was told to be free."""

    def put_action(self, told: ActionTold) -> None:
        """Keep what was told of an action on a shop."""

    def put_pending(self, item: ShopItem) -> None:
        """Keep an item that waits for the frontier."""

    def drop_pending(self, item: ShopItem) -> None:
        """Forget an item that has been taken."""


class ShopsStage:
    """The shops of one partition.

    `receive` takes items as they come, `advance` works off what the frontier has passed. Results
    gather in `outputs` until the engine takes them.
    """

    def __init__(self, rulebook: Rulebook, store: ShopStore) -> None:
        self.outputs: list[Output] = []
        self.frontier_ms = 0
        """No item with a log time below it will come."""
        self.reached_ms = 0
        """Every instant below it has been worked off."""
        self._rulebook = rulebook
        self._store = store
        self._shops: dict[str, Shop] = {}
        self._pending: list[tuple[Any, ...]] = []
        self._received = 0
        self._timers: list[tuple[int, str]] = []
        """When a shop settles, or an action on it ends by itself."""
        self._set_timers: dict[tuple[int, str], None] = {}
        self._visits = 0

    @property
    def next_ms(self) -> int:
        """The instant of the next item or timer; `NEVER_MS` if none waits."""
        due_item = self._pending[0][0] if self._pending else NEVER_MS
        due_timer = self._timers[0][0] if self._timers else NEVER_MS
        return min(due_item, due_timer, NEVER_MS)

    def complete(self, frontier_ms: int) -> None:
        """Note that no item with a log time below an instant will come any more."""
        self.frontier_ms = max(self.frontier_ms, frontier_ms)

    def receive(self, item: ShopItem) -> None:
        """Take one item of the repartition topic."""
        self.restore_pending(item)
        self._store.put_pending(item)

    def restore_pending(self, item: ShopItem) -> None:
        """Queue an item until the frontier has passed its log time."""
        if isinstance(item, Revoked):
            place = (0, item.determined_at, item.violation_id, item.revision)
        elif isinstance(item, Determined):
            place = (1, item.determined_at, item.violation_id, item.revision)
        elif isinstance(item, Revised):
            place = (2, item.determined_at, item.violation_id, item.revision)
        else:
            place = (3, 0, item.order_id, 0)
        self._received += 1
        heapq.heappush(
            self._pending, (item.log_time_ms, item.shop_id, *place, self._received, item)
        )

    def restore_violations(self, violations: Iterable[Violation]) -> None:
        """Put back all violations; `reached_ms` must have been set before."""
        for violation in sorted(violations, key=WALK_ORDER):
            self._shop(violation.shop_id).restore(violation)
            if violation.standing:
                self._set_settlements(self._shop(violation.shop_id), violation)

    def restore_action(self, told: ActionTold) -> None:
        """Put back what was told of an action; after all violations and `reached_ms`."""
        shop = self._shop(told.shop_id)
        key = told.platform, told.action
        shop.actions[key] = told
        if told.in_force:
            force = shop.actions_in_force(self.reached_ms).get(key)
            # Where other rules had imposed it, it ends with the next change of the shop.
            if force is not None:
                self._set_timer(force.until, told.shop_id)

    def restore_ban(self, shop_id: str, product_id: str) -> None:
        """Put back that a product was told to be banned."""
        self._shop(shop_id).banned[product_id] = None

    def adopt_bans(self) -> None:
        """Take what the restored violations ban as told: older programs kept no bans."""
        for shop_id, shop in self._shops.items():
            for product_id in shop.banning:
                shop.banned[product_id] = None
                self._store.put_ban(shop_id, product_id)

    def advance(self, outputs_max: int, visits_max: int) -> bool:
        """Work off instants below the frontier; True if some remain beyond a limit.

        Args:
            visits_max: Items and violations to look at: a correction makes a shop go over all that
                stands since the week it concerns, and may put out nothing.
        """
        frontier = self.frontier_ms
        self._visits = 0
        while True:
            instant = self.next_ms
            if instant >= frontier or instant >= NEVER_MS:
                self.reached_ms = max(self.reached_ms, frontier)
                return False
            self.reached_ms = instant
            if len(self.outputs) >= outputs_max or self._visits >= visits_max:
                return True
            if self._pending and self._pending[0][0] == instant:
                self._take_next_shop(instant)
            else:
                self._fire(*heapq.heappop(self._timers))

    def _take_next_shop(self, instant: int) -> None:
        """Take all items of the first waiting shop at an instant."""
        shop_id: str = self._pending[0][1]
        items: list[ShopItem] = []
        while self._pending and self._pending[0][:2] == (instant, shop_id):
            item = heapq.heappop(self._pending)[-1]
            self._store.drop_pending(item)
            items.append(item)
        shop = self._shop(shop_id)
        last_taken = shop.last_taken
        touched: dict[str, Violation] = {}
        crossings: Crossings = {}
        earliest = NEVER_MS
        re_run = False
        for item in _without_pairs(items):
            if isinstance(item, Released):
                self._release(shop, item.order_id, instant)
                continue
            if not isinstance(item, Revoked | Determined | Revised):
                continue
            known = shop.violations.get(item.violation_id)
            if not isinstance(item, Determined):
                if known is None or not known.standing or known.revision != item.revision:
                    continue
                if isinstance(item, Revoked):
                    violation = shop.stand_down(known)
                elif item.penalty_waived == known.penalty_waived:
                    continue
                else:
                    violation = known
                    violation.penalty_waived = item.penalty_waived
                    violation.revised += 1
                re_run = True
            else:
                if known is not None and known.revision >= item.revision:
                    continue
                if known is not None and known.standing:
                    # With a grace a revocation may carry a later L than what replaces it.
                    earliest = min(earliest, known.determined_at)
                    shop.stand_down(known)
                    re_run = True
                violation = shop.stand(item)
                re_run = re_run or WALK_ORDER(violation) < last_taken
            earliest = min(earliest, item.determined_at)
            touched[violation.violation_id] = violation
            shop.note_crossing(violation, crossings)
        self._visits += len(items)
        if not touched:
            return
        if re_run:
            self._visits += len(shop.standing)
            for violation in shop.allocate_from(earliest):
                touched[violation.violation_id] = violation
        else:
            for violation in touched.values():
                shop.allocate(violation)
        entries = self._book(shop, touched.values(), instant, settled_before=instant)
        self._notify_entries(shop_id, entries, instant, f"{shop_id}:re-run:{instant}")
        self._announce_bans(shop_id, shop, crossings, instant)
        if self._rulebook.acts_on_shops or shop.actions:
            self._announce_actions(shop_id, shop, instant)
        for violation in touched.values():
            self._store.put_violation(violation)
            if violation.standing:
                self._set_settlements(shop, violation)

    def _release(self, shop: Shop, order_id: str, instant: int) -> None:
        # An order is known from its placing to its closure, and then as long as its retention.
        released, dropped = shop.release(order_id, max(0, instant - self._rulebook.known_ms))
        for violation in released:
            self._store.put_violation(violation)
        for violation in dropped:
            self._store.drop_violation(violation)

    # Timers

    def _set_timer(self, due: int, shop_id: str) -> None:
        timer = due, shop_id
        if self.reached_ms <= due < NEVER_MS and timer not in self._set_timers:
            self._set_timers[timer] = None
            heapq.heappush(self._timers, timer)

    def _set_settlements(self, shop: Shop, violation: Violation) -> None:
        version = shop.version_of(violation)
        if version is not None:
            for due in _settlements(version, violation).values():
                if due is not None:
                    self._set_timer(due, violation.shop_id)

    def _fire(self, due: int, shop_id: str) -> None:
        """Charge together what is settled at an instant; end the actions that end by then."""
        del self._set_timers[due, shop_id]
        shop = self._shop(shop_id)
        settled = []
        first = shop.place((due - _SETTLES_WITHIN_MS, ""))
        for violation in shop.standing[first : shop.place((due, ""))]:
            version = shop.version_of(violation)
            if version is not None and any(
                settles == due and account in violation.charges
                for account, settles in _settlements(version, violation).items()
            ):
                settled.append(violation)
        self._visits += len(settled)
        entries = self._book(shop, settled, due, settled_before=due + 1)
        self._notify_entries(shop_id, entries, due, f"{shop_id}:settlement:{due}")
        for violation in settled:
            self._store.put_violation(violation)
        if shop.actions:
            self._announce_actions(shop_id, shop, due)

    # What is put out

    def _book(
        self, shop: Shop, violations: Iterable[Violation], log_time: int, settled_before: int
    ) -> list[Penalty]:
        """Bring the journal up to date with some violations; days settle before an instant."""
        dues = [due for each in violations for due in _dues(shop, each, settled_before)]
        entries = append_difference(dues, log_time)
        for entry in entries:
            self._put_out("penalty", entry, log_time, entry.entry_id, entry.type,
                          entry.effective_at, entry.order_id)  # fmt: skip
        return entries

    def _announce_bans(self, shop_id: str, shop: Shop, crossings: Crossings, log_time: int) -> None:
        for product_id in sorted(product_id for product_id, noted in crossings.items() if noted):
            violation, mark, counts = next(iter(crossings[product_id].values()))
            effective_at = log_time
            imposed = product_id not in shop.banned
            if imposed:
                shop.banned[product_id] = None
                self._store.put_ban(shop_id, product_id)
            else:
                del shop.banned[product_id]
                self._store.drop_ban(shop_id, product_id)
            exceeding = shop.exceeding(violation) if imposed else None
            if exceeding is not None:
                effective_at = exceeding.determined_at
            ban = ProductBan(
                effective_at=effective_at,
                order_id=violation.order_id,
                product_id=product_id,
                shop_id=shop_id,
                type="product-ban.imposed" if imposed else "product-ban.lifted",
                violation_id=violation.violation_id,
            )
            name = f"{shop_id}:{product_id}:{violation.violation_id}:{mark}:{ban.type}"
            if imposed != counts:
                # Only rules that changed do this; under others the same change told the usual.
                name += ":changed-rules"
            self._put_out("product-ban", ban, log_time, name, ban.type, effective_at, product_id)
            self._notify(shop_id, ban.type, [product_id], effective_at, log_time, name)

    def _announce_actions(self, shop_id: str, shop: Shop, now: int) -> None:
        """Say which actions on a shop begin and end at an instant."""
        in_force = shop.actions_in_force(now)
        for key in sorted({**shop.actions, **in_force}):
            force, told = in_force.get(key), shop.actions.get(key)
            if force is not None:
                self._set_timer(force.until, shop_id)
            if (force is not None) == (told is not None and told.in_force):
                continue
            told = shop.actions[key] = _turned(shop_id, key, told, force)
            self._store.put_action(told)
            action = ShopAction(
                action=told.action,
                effective_at=now if force is None else force.violation.determined_at,
                order_id=told.order_id,
                platform=told.platform,
                shop_id=shop_id,
                type="shop-action.imposed" if told.in_force else "shop-action.lifted",
                violation_id=told.violation_id,
            )
            name = f"{shop_id}:{told.platform}:{told.action}:{told.times}:{action.type}"
            self._put_out(
                "shop-action", action, now, name, action.type, action.effective_at, shop_id
            )
            self._notify(shop_id, action.type, [told.action], action.effective_at, now, name)

    def _notify_entries(
        self, shop_id: str, entries: list[Penalty], instant: int, name: str
    ) -> None:
        """Tell the shop of entries; points alone are told by the timeout's own message."""
        if any(is_currency(entry.unit) for entry in entries):
            ids = [entry.entry_id for entry in entries[:_SUBJECTS_MAX]]
            self._notify(shop_id, entries[0].type, ids, instant, instant, name)

    def _notify(
        self, shop_id: str, template: str, subjects: list[str], instant: int, log_time: int,
        name: str,
    ) -> None:  # fmt: skip
        value = Notification(
            channel="in-site-message",
            effective_at=instant,
            shop_id=shop_id,
            subjects=subjects,
            template=template,
        )
        self._put_out("notification", value, log_time, name, "notification", instant, shop_id)

    def _put_out(
        self, topic: str, value: Penalty | ProductBan | ShopAction | Notification, log_time: int,
        name: str, kind: str, instant: int, subject: str,
    ) -> None:  # fmt: skip
        key = value.shop_id.encode()
        self.outputs.append(Output(topic, key, value, log_time, name, kind, instant, subject))

    def _shop(self, shop_id: str) -> Shop:
        shop = self._shops.get(shop_id)
        if shop is None:
            shop = self._shops[shop_id] = Shop(self._rulebook)
        return shop


def _dues(shop: Shop, violation: Violation, settled_before: int) -> Iterator[Due]:
    """Say what the journal should hold of a violation, account by account."""
    version = shop.version_of(violation)
    charges = violation.charges
    if version is None:
        # No rules are left to say more than what they said before.
        for account, charge in charges.items():
            wanted = charge.booked if violation.standing else 0
            yield Due(violation, account, wanted, charge.unit, charge.day, 0, False)
        return
    day = version.clock.calendar.local_day(violation.determined_at).name
    accounts = {each.name: each for each in version.accounts(violation.kind)}
    settlements = _settlements(version, violation)
    for name in dict.fromkeys([*accounts, *charges]):
        rules, settles = accounts.get(name), settlements.get(name)
        since = violation.determined_at if settles is None else settles
        wanted = charges[name].allocated if name in charges else 0
        if settles is not None and settles >= settled_before:
            wanted, since = 0, 0
        unit = None if rules is None else rules.unit
        yield Due(violation, name, wanted, unit, day, since, settles is not None)


def _settlements(version: Version, violation: Violation) -> dict[str, int | None]:
    """Return when each account of a violation is settled; `None` where it is charged at once."""
    next_day_at = version.clock.calendar.next_day_at
    return {
        each.name: (
            None if each.settle_at is None else next_day_at(violation.determined_at, each.settle_at)
        )
        for each in version.accounts(violation.kind)
    }


def _turned(
    shop_id: str, key: tuple[str, str], told: ActionTold | None, force: Force | None
) -> ActionTold:
    """Return what has been told of an action once it begins, or ends."""
    times = 0 if told is None else told.times
    if force is None and told is not None:
        return msgspec.structs.replace(told, in_force=False)
    if force is None:
        raise ValueError(f"action {key} of shop {shop_id} ends and never began")
    violation = force.violation
    return ActionTold(shop_id, *key, True, times + 1, violation.violation_id, violation.order_id)


def _without_pairs(items: list[ShopItem]) -> list[ShopItem]:
    """Leave out what was determined and revoked again at one log time: it never stood.

    Of several revisions of a penalty at one log time only the last one counts.
    """
    last = {i.violation_id: i for i in items if isinstance(i, Revised)}
    if last:
        items = [
            item
            for item in items
            if not isinstance(item, Revised) or last[item.violation_id] is item
        ]
    determined = {(i.violation_id, i.revision) for i in items if isinstance(i, Determined)}
    revoked = {(i.violation_id, i.revision) for i in items if isinstance(i, Revoked)}
    pairs = determined & revoked
    if not pairs:
        return items
    return [
        item
        for item in items
        if not isinstance(item, Determined | Revoked)
        or (item.violation_id, item.revision) not in pairs
    ]
