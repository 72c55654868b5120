"""One partition's shops: penalty journal and product bans from what stands.

What lives here: the order in which a shop takes determinations and revocations, settlement, the
re-run after a correction, and bans. What must not: how a cap works (`allocation`), orders, bytes.

Theory of operation. Items wait until the frontier (the caller vouches that no item below it is
still to come) has passed their log time L. Then, instant by instant: all items of one shop with one
L, one allocation, the difference to what the journal holds, one comparison of bans; after the items
of an instant its settlements. The journal therefore follows from what stands, however items
arrived.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any, Protocol

from streams.core.accounts.journal import Claim, append_difference
from streams.core.accounts.shop import WALK_ORDER, Crossings, Shop, Violation
from streams.core.facts.instants import NEVER_MS
from streams.core.facts.outputs import (
    Determined,
    Notification,
    Output,
    Penalty,
    ProductBan,
    Released,
    Revoked,
    ShopItem,
)
from streams.core.rules.policy import Policy
from streams.core.time.calendar import Calendar

# A message names at most so many entries; the journal holds them all. A larger one would not fit
# its topic when a whole shop is corrected at once.
_SUBJECTS_MAX = 1_000


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

    def put_pending(self, item: ShopItem) -> None:
        """Keep an item that waits for the frontier."""

    def drop_pending(self, item: ShopItem) -> None:
        """Forget an item that has been taken."""


class ShopsStage:
    """The shops of one partition.

    `receive` takes items as they come, `advance` works off what the frontier has passed. Results
    gather in `outputs` until the engine takes them.
    """

    def __init__(self, policy: Policy, store: ShopStore) -> None:
        self.outputs: list[Output] = []
        self.frontier_ms = 0
        """No item with a log time below it will come."""
        self.reached_ms = 0
        """Every instant below it has been worked off."""
        self._policy = policy
        self._store = store
        self._calendar = Calendar(policy.time_zone)
        self._shops: dict[str, Shop] = {}
        self._pending: list[tuple[Any, ...]] = []
        self._received = 0
        self._settlements: list[tuple[int, str]] = []
        self._settling: dict[tuple[int, str], None] = {}
        self._visits = 0

    @property
    def next_ms(self) -> int:
        """The instant of the next item or settlement; `NEVER_MS` if none waits."""
        due_item = self._pending[0][0] if self._pending else NEVER_MS
        due_settlement = self._settlements[0][0] if self._settlements else NEVER_MS
        return min(due_item, due_settlement, NEVER_MS)

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
        else:
            place = (2, 0, item.order_id, 0)
        self._received += 1
        heapq.heappush(
            self._pending, (item.log_time_ms, item.shop_id, *place, self._received, item)
        )

    def restore_violations(self, violations: Iterable[Violation]) -> None:
        """Put back all violations; `reached_ms` must have been set before."""
        for violation in sorted(violations, key=WALK_ORDER):
            self._shop(violation.shop_id).restore(violation)
            if violation.standing:
                self._set_settlement(violation)

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
                self._settle(*heapq.heappop(self._settlements))

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
            if not isinstance(item, Revoked | Determined):
                continue
            known = shop.violations.get(item.violation_id)
            if isinstance(item, Revoked):
                if known is None or not known.standing or known.revision != item.revision:
                    continue
                violation = shop.stand_down(known)
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
        entries = self._book(touched.values(), instant, settled_before=instant)
        self._notify_entries(shop_id, entries, instant, f"{shop_id}:re-run:{instant}")
        self._announce_bans(shop_id, shop, crossings, instant)
        for violation in touched.values():
            self._store.put_violation(violation)
            if violation.standing:
                self._set_settlement(violation)

    def _release(self, shop: Shop, order_id: str, instant: int) -> None:
        # An order is known from its placing to its closure, and then as long as its retention.
        policy = self._policy
        closure = 0 if policy.closure is None else policy.closure.after_placed
        known_ms = closure + max(policy.retention.clean, policy.retention.violated)
        released, dropped = shop.release(order_id, max(0, instant - known_ms))
        for violation in released:
            self._store.put_violation(violation)
        for violation in dropped:
            self._store.drop_violation(violation)

    # Settlement

    def _settle_at(self, violation: Violation) -> int | None:
        rules = self._policy.deposit
        if rules is None:
            return None
        return self._calendar.next_day_at(violation.determined_at, rules.settle_at)

    def _set_settlement(self, violation: Violation) -> None:
        due = self._settle_at(violation)
        if due is None or due < self.reached_ms:
            return
        timer = (due, violation.shop_id)
        if timer not in self._settling:
            self._settling[timer] = None
            heapq.heappush(self._settlements, timer)

    def _settle(self, due: int, shop_id: str) -> None:
        """Charge the deposit of the local day before `due` together."""
        del self._settling[due, shop_id]
        shop = self._shop(shop_id)
        end = self._calendar.local_day(due).start
        start = self._calendar.local_day(end - 1).start
        of_day = [
            violation
            for violation in shop.standing[shop.place((start, "")) : shop.place((end, ""))]
            if violation.deposit
        ]
        self._visits += len(of_day)
        entries = self._book(of_day, due, settled_before=due + 1)
        self._notify_entries(shop_id, entries, due, f"{shop_id}:settlement:{due}")
        for violation in of_day:
            self._store.put_violation(violation)

    # What is put out

    def _book(
        self, violations: Iterable[Violation], log_time: int, settled_before: int
    ) -> list[Penalty]:
        """Bring the journal up to date with some violations; days settle before an instant."""
        claims = []
        for violation in violations:
            settle_at = self._settle_at(violation)
            settled = settle_at is not None and settle_at < settled_before
            day = self._calendar.local_day(violation.determined_at).name
            claims.append(Claim(violation, day, settle_at if settled else None))
        entries = append_difference(self._policy, claims, log_time)
        for entry in entries:
            self._put_out("penalty", entry, log_time, entry.entry_id, entry.type,
                          entry.effective_at, entry.order_id)  # fmt: skip
        return entries

    def _announce_bans(self, shop_id: str, shop: Shop, crossings: Crossings, log_time: int) -> None:
        rules = self._policy.ban
        for product_id in sorted(product_id for product_id, noted in crossings.items() if noted):
            violation, revision, stands = next(iter(crossings[product_id].values()))
            effective_at = log_time
            imposed = product_id not in shop.banned
            if imposed:
                shop.banned[product_id] = None
                self._store.put_ban(shop_id, product_id)
            else:
                del shop.banned[product_id]
                self._store.drop_ban(shop_id, product_id)
            if imposed and rules is not None:
                order_id = violation.order_id
                beyond = shop.beyond(order_id, violation.kind) or shop.beyond(order_id)
                effective_at = beyond[rules.standing_more_than].determined_at
            ban = ProductBan(
                effective_at=effective_at,
                order_id=violation.order_id,
                product_id=product_id,
                shop_id=shop_id,
                type="product-ban.imposed" if imposed else "product-ban.lifted",
                violation_id=violation.violation_id,
            )
            name = f"{shop_id}:{product_id}:{violation.violation_id}:{revision}:{ban.type}"
            if imposed != stands:
                # Only rules that changed do this; under others the same change told the usual.
                name += ":changed-rules"
            self._put_out("product-ban", ban, log_time, name, ban.type, effective_at, product_id)
            self._notify(shop_id, ban.type, [product_id], effective_at, log_time, name)

    def _notify_entries(
        self, shop_id: str, entries: list[Penalty], instant: int, name: str
    ) -> None:
        """Tell the shop of entries; points alone are told by the timeout's own message."""
        if any(entry.account != "points" for entry in entries):
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
        self, topic: str, value: Penalty | ProductBan | Notification, log_time: int, name: str,
        kind: str, instant: int, subject: str,
    ) -> None:  # fmt: skip
        key = value.shop_id.encode()
        self.outputs.append(Output(topic, key, value, log_time, name, kind, instant, subject))

    def _shop(self, shop_id: str) -> Shop:
        shop = self._shops.get(shop_id)
        if shop is None:
            shop = self._shops[shop_id] = Shop(self._policy, self._calendar)
        return shop


def _without_pairs(items: list[ShopItem]) -> list[ShopItem]:
    """Leave out what was determined and revoked again at one log time: it never stood."""
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
