"""The shops stage of one partition: repartitioned violations to journal, bans and actions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

from streams.codec.encode import encode_value
from streams.codec.state import StateVersionError
from streams.codec.states import shop_v1
from streams.core.accounts.shop import ActionTold
from streams.core.accounts.violation import Violation
from streams.core.facts.instants import END_OF_TIME_MS, NEVER_MS
from streams.core.facts.outputs import (
    DeadLetterReason,
    Determined,
    FrontierMark,
    RefusedValue,
    Released,
    Revised,
    Revoked,
    ShopItem,
    ShopMessage,
)
from streams.core.rules.book import Rulebook
from streams.core.stages import announce
from streams.core.stages.shops import ShopsStage
from streams.engine.marks import request_record
from streams.engine.records import (
    META_KEY,
    SHOP_VIOLATIONS,
    SHOPS_CHANGELOG,
    Checkpoint,
    Columns,
    CorruptChangelog,
    InRecord,
    check_app,
    check_partitions,
    out_record,
    read_stored,
)
from streams.engine.task import PartitionTask

_BAN_KEY = b"\x00ban:"
_ACTION_KEY = b"\x00action:"
_PENDING_KEY = b"\x00pending:"
_STATE_VERSION = b"\x02"
_META_VERSION = 2
# Items and violations one step looks at, but for those of one shop and instant: some 0.2 s.
_VISITS_MAX = 5_000

_decode_message = msgspec.json.Decoder(ShopMessage).decode
_decode_item = msgspec.json.Decoder(Determined | Revised | Revoked | Released).decode
_encode = msgspec.msgpack.Encoder().encode


class _Meta(Struct, array_like=True):
    """The checkpoint's own record in the changelog."""

    version: int
    policy: str
    reached_ms: int
    marks: list[int]
    """A zero for each order partition: older programs kept its last mark here."""
    offset: int
    violations: int
    pending: int
    app_id: str = ""
    partitions: int = 0
    bans: int | None = None
    """`None`: written by a program that kept none."""
    topic_id: str = ""
    """Of the input topic; empty if it is not known."""
    actions: int = 0


class _Ban(Struct, array_like=True):
    """A product that was told to be banned."""

    shop_id: str
    product_id: str


_decode_meta = msgspec.msgpack.Decoder(_Meta).decode
_decode_violation = msgspec.msgpack.Decoder(Violation).decode
_decode_ban = msgspec.msgpack.Decoder(_Ban).decode
_decode_action = msgspec.msgpack.Decoder(ActionTold).decode


class _Changes:
    """What a batch changes: the stage's store, flushed into a checkpoint."""

    def __init__(self) -> None:
        self.entries: dict[bytes, Violation | ShopItem | _Ban | ActionTold | None] = {}
        self.violations: dict[bytes, None] = {}
        """Keys of the violations in the changelog."""
        self.pending: dict[bytes, None] = {}
        """Keys of the waiting items in the changelog."""
        self.bans: dict[bytes, None] = {}
        """Keys of the bans in the changelog."""
        self.actions: dict[bytes, None] = {}
        """Keys of what was told of actions on shops."""

    def put_violation(self, violation: Violation) -> None:
        self.entries[_violation_key(violation)] = violation

    def drop_violation(self, violation: Violation) -> None:
        self.entries[_violation_key(violation)] = None

    def put_ban(self, shop_id: str, product_id: str) -> None:
        self.entries[_ban_key(shop_id, product_id)] = _Ban(shop_id, product_id)

    def drop_ban(self, shop_id: str, product_id: str) -> None:
        self.entries[_ban_key(shop_id, product_id)] = None

    def put_action(self, told: ActionTold) -> None:
        self.entries[_action_key(told)] = told

    def put_pending(self, item: ShopItem) -> None:
        self.entries[_pending_key(item)] = item

    def drop_pending(self, item: ShopItem) -> None:
        self.entries[_pending_key(item)] = None

    def flush(self) -> dict[bytes, bytes | None]:
        """Changelog records of the batch; what came and went within it leaves no trace."""
        records: dict[bytes, bytes | None] = {}
        for key, entry in self.entries.items():
            kept = self.kept(key)
            if isinstance(entry, Violation | _Ban | ActionTold):
                records[key] = _STATE_VERSION + _encode(entry)
                kept[key] = None
            elif entry is not None:
                records[key] = encode_value(entry)
                kept[key] = None
            elif key in kept:
                records[key] = None
                del kept[key]
        self.entries.clear()
        return records

    def kept(self, key: bytes) -> dict[bytes, None]:
        """Where a key belongs that the changelog holds."""
        if key.startswith(_PENDING_KEY):
            return self.pending
        if key.startswith(_ACTION_KEY):
            return self.actions
        return self.bans if key.startswith(_BAN_KEY) else self.violations

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """How many violations, waiting items, bans and actions the changelog holds."""
        return len(self.violations), len(self.pending), len(self.bans), len(self.actions)


class ShopsTask(PartitionTask):
    """Shops of one partition, from offered messages to checkpoints; call order as `OrdersTask`.

    Args:
        sources: Number of order partitions; a state of another number is refused.
        app_id: Whose changelog this is; another's is refused.
        partitions: As for `OrdersTask`, of `shop-violations`.
    """

    def __init__(
        self, partition: int, rulebook: Rulebook, sources: int, app_id: str = "",
        partitions: int = 0,
    ) -> None:  # fmt: skip
        self.partition = partition
        self._rulebook = rulebook
        self._app_id = app_id
        self._partitions = partitions
        self._changes = _Changes()
        self._sources = sources
        self._stage = ShopsStage(rulebook, self._changes)
        self._held: list[Columns] = []
        self._taken = self._more = False
        self._requested_ms = -1
        """For which instant marks were requested last."""
        self._offset = 0
        self.topic_ids = {}
        self._meta: _Meta | None = None
        self._restoring: dict[bytes, bytes] = {}

    # Restore

    def restore(self, entries: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take the next changelog records, in order."""
        restoring = self._restoring
        for key, value in entries:
            if value is None:
                restoring.pop(key, None)
            else:
                restoring[key] = value

    def restored(self) -> None:
        """Finish the restore once the changelog has been read to its end.

        Raises:
            CorruptChangelog: The changelog does not hold what its last checkpoint says, or
                something that no program wrote.
            StateVersionError: A newer program wrote it.
        """
        restoring, self._restoring = self._restoring, {}
        raw = restoring.pop(META_KEY, None)
        meta = (
            None
            if raw is None
            else read_stored(_decode_meta, SHOPS_CHANGELOG, self.partition, META_KEY, raw)
        )
        changes = self._changes
        for key in restoring:
            changes.kept(key)[key] = None
        found, stored = changes.counts, (0, 0, 0, 0)
        if meta is not None:
            stored = meta.violations, meta.pending, meta.bans or 0, meta.actions
        if found != stored:
            raise CorruptChangelog(
                f"shops-changelog[{self.partition}] does not hold what its last checkpoint counted",
                "{} violations, {} waiting items, {} bans and {} actions in ".format(*found)
                + f"partition {self.partition}, "
                + "{}, {}, {} and {} counted".format(*stored),
            )
        if meta is None:
            return
        if meta.version > _META_VERSION:
            raise StateVersionError(
                f"shops-changelog[{self.partition}] has checkpoints of version {meta.version}, "
                f"known is {_META_VERSION}"
            )
        check_app(SHOPS_CHANGELOG, self.partition, meta.app_id, self._app_id)
        check_partitions(SHOPS_CHANGELOG, self.partition, meta.partitions, self._partitions)
        self._meta = meta
        stage = self._stage
        self._offset = meta.offset
        if meta.topic_id:
            self.topic_ids = {SHOP_VIOLATIONS: meta.topic_id}
        if len(meta.marks) != self._sources:
            raise CorruptChangelog(
                f"shops-changelog[{self.partition}] counts {len(meta.marks)} order partitions, "
                f"there are {self._sources}"
            )
        stage.reached_ms = self.marked_ms = meta.reached_ms
        for key in changes.pending:
            stage.restore_pending(
                read_stored(_decode_item, SHOPS_CHANGELOG, self.partition, key, restoring[key])
            )
        stage.restore_violations(
            read_stored(unpack_violation, SHOPS_CHANGELOG, self.partition, key, restoring[key])
            for key in changes.violations
        )
        if meta.bans is None:
            stage.adopt_bans()
        for key in changes.bans:
            ban = read_stored(_unpack_ban, SHOPS_CHANGELOG, self.partition, key, restoring[key])
            stage.restore_ban(ban.shop_id, ban.product_id)
        for key in changes.actions:
            told = read_stored(_unpack_action, SHOPS_CHANGELOG, self.partition, key, restoring[key])
            stage.restore_action(told)

    @property
    def states(self) -> int:
        """Violations, waiting items, bans and actions as of the last checkpoint."""
        return sum(self._changes.counts)

    @property
    def policy(self) -> str:
        """The policy judged by, `name@version`."""
        return self._rulebook.label

    @property
    def restored_policy(self) -> str | None:
        """Policy of the last checkpoint, `name@version`; `None` without one."""
        return None if self._meta is None else self._meta.policy

    @property
    def policy_changed(self) -> bool:
        """The last checkpoint was made under other rules."""
        return self._meta is not None and self._meta.policy != self.policy

    @property
    def next_offsets(self) -> dict[str, int]:
        """First offset not processed yet."""
        return {SHOP_VIOLATIONS: self._offset}

    @property
    def frontier_ms(self) -> int:
        """Every instant below it has been worked off."""
        return self._stage.reached_ms

    @property
    def mark_ms(self) -> int:
        """Every instant below it has been worked off."""
        return self._stage.reached_ms

    @property
    def waits_for_ms(self) -> int:
        """The log time of the first waiting item, or when the next day is settled."""
        return self._stage.next_ms

    @property
    def buffered(self) -> int:
        """Records offered and not taken yet."""
        return sum(len(records.offsets) for records in self._held)

    def adopt(self, offsets: Mapping[str, int], topic_ids: Mapping[str, str]) -> None:
        """Take what the runtime found about the input; the next checkpoint commits it."""
        self._offset = offsets[SHOP_VIOLATIONS]
        self.topic_ids = topic_ids
        self._taken = True

    # Feed

    def offer(self, topic: str, records: Columns, now_ms: int) -> None:  # noqa: ARG002
        """Take the next records of `shop-violations`."""
        if records.offsets:
            self._held.append(records)

    def complete(self, topic: str, as_of_ms: int) -> None:  # noqa: ARG002
        """Note that `shop-violations` has been read to the end it had at an instant of its time.

        Args:
            as_of_ms: The least of the order partitions' marks that had been read before the end
                was asked for.
        """
        self._stage.complete(as_of_ms)

    def drain(self) -> None:
        """Take all items as received: they are worked off and all days settled."""
        self._stage.complete(END_OF_TIME_MS)

    # Work

    @property
    def pending(self) -> int:
        """Outputs and states that wait for the next checkpoint."""
        return len(self._stage.outputs) + len(self._changes.entries)

    def work(self, outputs_max: int) -> bool:
        """Take what was offered and work off what the frontier has passed."""
        held, self._held = self._held, []
        for records in held:
            for record in zip(*records, strict=True):
                self._receive(InRecord(*record))
            self._offset = records.offsets[-1] + 1
            self._taken = True
        stage = self._stage
        self._more = stage.advance(len(stage.outputs) + outputs_max, _VISITS_MAX)
        return self._more

    def checkpoint(self, mark: bool) -> Checkpoint | None:
        """Gather what was done since the last checkpoint, and request marks if something waits.

        Args:
            mark: Keep how far the partition has come even if nothing else changed.
        """
        stage = self._stage
        changelog = self._changes.flush()
        waiting_ms = stage.next_ms
        request = stage.frontier_ms <= waiting_ms < NEVER_MS and waiting_ms != self._requested_ms
        mark = mark and stage.reached_ms > self.marked_ms
        if not (self._taken or changelog or stage.outputs or request or mark):
            return None
        outputs = [out_record(output) for output in stage.outputs]
        stage.outputs.clear()
        if request:
            self._requested_ms = waiting_ms
            who = f"shops:{self.partition}"
            outputs.append(request_record(self._app_id, who, waiting_ms))
        changelog[META_KEY] = self._meta_value()
        offsets = [(SHOP_VIOLATIONS, self._offset)] if self._taken else []
        self._taken, self.marked_ms = False, stage.reached_ms
        return Checkpoint(outputs, changelog, offsets, self._more)

    def _receive(self, record: InRecord) -> None:
        """Take a message; what no program of ours wrote is set aside, and the others go on."""
        offset, timestamp, key, value = record
        try:
            message = _decode_message(value or b"")
        except (ValueError, RecursionError) as error:
            if _is_message(value):
                # Ours, in a form this program does not know: a fine or its end hangs on it.
                raise CorruptChangelog(
                    f"{SHOP_VIOLATIONS}[{self.partition}] offset {offset}, key {key!r}: "
                    f"what stands there cannot be read: {error}; run the program that wrote it"
                ) from error
            reason: DeadLetterReason = "malformed"
            detail = str(error)
            if isinstance(value, RefusedValue):
                reason, detail = value.reason, value.detail
            self._stage.outputs.append(
                announce.dead_letter(
                    self.partition, SHOP_VIOLATIONS, offset, timestamp, key, value,
                    reason, detail, timestamp,
                )
            )  # fmt: skip
            return
        # Older programs' marks: the same partition has come further in `frontier-marks`.
        if not isinstance(message, FrontierMark):
            self._stage.receive(message)

    def _meta_value(self) -> bytes:
        return msgspec.msgpack.encode(
            _Meta(
                version=_META_VERSION,
                app_id=self._app_id,
                policy=self._rulebook.label,
                reached_ms=self._stage.reached_ms,
                marks=[0] * self._sources,
                offset=self._offset,
                violations=len(self._changes.violations),
                pending=len(self._changes.pending),
                partitions=self._partitions,
                bans=len(self._changes.bans),
                topic_id=self.topic_ids.get(SHOP_VIOLATIONS, ""),
                actions=len(self._changes.actions),
            )
        )


def _is_message(value: bytes | None) -> bool:
    """Tell whether a record names a type, as everything the orders stage sends does."""
    try:
        found = msgspec.json.decode(value or b"")
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "type" in found


def unpack_violation(packed: bytes) -> Violation:
    """Read a violation as the shops changelog holds it.

    Raises:
        StateVersionError: A newer program wrote it.
    """
    version, value = _versioned("violation", packed)
    return _decode_violation(value) if version > 1 else shop_v1.unpack_violation(value)


def _unpack_ban(packed: bytes) -> _Ban:
    return _decode_ban(_versioned("ban", packed)[1])


def _unpack_action(packed: bytes) -> ActionTold:
    return _decode_action(_versioned("action", packed)[1])


def _versioned(what: str, packed: bytes) -> tuple[int, memoryview]:
    version = int.from_bytes(packed[:1])
    if not 1 <= version <= _STATE_VERSION[0]:
        raise StateVersionError(f"{what} of version {version}, known is {_STATE_VERSION[0]}")
    return version, memoryview(packed)[1:]


def _violation_key(violation: Violation) -> bytes:
    return f"{violation.shop_id}:{violation.violation_id}".encode()


def _action_key(told: ActionTold) -> bytes:
    return _ACTION_KEY + f"{told.shop_id}:{told.platform}:{told.action}".encode()


def _ban_key(shop_id: str, product_id: str) -> bytes:
    return _BAN_KEY + f"{shop_id}:{product_id}".encode()


def _pending_key(item: ShopItem) -> bytes:
    if isinstance(item, Determined | Revoked):
        kind = "determined" if isinstance(item, Determined) else "revoked"
        name = f"{item.shop_id}:{item.violation_id}:{item.revision}:{kind}"
    elif isinstance(item, Revised):
        # One revision may have several, which wait together.
        name = f"{item.shop_id}:{item.violation_id}:{item.revision}:revised:{item.log_time_ms}"
    else:
        name = f"{item.shop_id}:{item.order_id}:released"
    return _PENDING_KEY + name.encode()
