"""Input bytes to events, or the reason why not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import attrgetter, itemgetter
from typing import Any

import msgspec

from streams.core.complaints import spelled_out
from streams.core.facts.events import (
    VALUE_BYTES_MAX,
    AppealDecided,
    Event,
    ExemptionGranted,
    FirstScan,
    OrderPaid,
    Scope,
    TrackingNumberUploaded,
)
from streams.core.facts.inputs import APPEAL_DECIDED, EXEMPTION_GRANTED, INPUTS, ORDER_PAID
from streams.core.facts.instants import both_ways, in_another_unit_ms
from streams.core.facts.outputs import DeadLetterReason, RefusedValue
from streams.core.rules.book import Rulebook
from streams.core.rules.phrases import parse_deadline
from streams.core.text import json_mistake

_FIRST, _LAST = itemgetter(0), itemgetter(-1)
_FORBIDDEN = re.compile("[:\x00-\x1f\x7f-\x9f]").search
_NUMBER = re.compile("[1-9][0-9]{0,8}").fullmatch


class Refused(Exception):
    """An input record that becomes a dead letter."""

    def __init__(self, reason: DeadLetterReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Decoder:
    """Decodes and checks the records of all input topics under a rulebook."""

    def __init__(self, rulebook: Rulebook) -> None:
        self._rulebook = rulebook
        self._decode = tuple(msgspec.json.Decoder(each.event).decode for each in INPUTS)
        self._own_time = tuple(attrgetter(each.own_time) for each in INPUTS)
        self._kinds = rulebook.kinds
        self._future_tolerance = rulebook.processing.future_tolerance
        self._earliest = rulebook.processing.earliest

    def decode(self, rank: int, key: bytes | None, value: bytes | None, timestamp: int) -> Event:
        """Decode one record of the topic of a rank.

        Args:
            timestamp: The record's own timestamp, epoch milliseconds.

        Raises:
            Refused: The record is no valid event.
        """
        if value is None:
            raise Refused("malformed", "the record has no value")
        if type(value) is RefusedValue:
            raise Refused(value.reason, value.detail)
        if len(value) > VALUE_BYTES_MAX:
            raise Refused("invalid", f"a value of {len(value)} bytes is too large")
        try:
            event: Any = self._decode[rank](value)
            if not value.isascii():
                # The parser passes over fields it does not know.
                value.decode()
        except (ValueError, RecursionError) as error:
            raise _unreadable(rank, value, error) from None
        if rank == EXEMPTION_GRANTED:
            if event.kinds is None:
                event = msgspec.structs.replace(event, kinds=[])
            _check_exemption(event)
        else:
            if key != event.order_id.encode():
                raise Refused("wrong-key", f"the key must be the order_id {event.order_id}")
            if rank == APPEAL_DECIDED:
                self._check_appeal(event)
            elif not has_sound_identifiers(event):
                raise _bad_identifier(event)
        own_time = self._own_time[rank](event)
        if own_time > timestamp + self._future_tolerance or own_time < self._earliest:
            self._refuse_time(INPUTS[rank].own_time, own_time, timestamp)
        if rank == ORDER_PAID:
            self._check_order(event, timestamp)
        return event  # type: ignore[no-any-return]

    def _check_order(self, event: OrderPaid, timestamp: int) -> None:
        products = event.product_ids
        if len(products) > 1 and len(dict.fromkeys(products)) < len(products):
            raise Refused("schema", "Expected distinct items - at `$.product_ids`")
        placed_at = event.placed_at
        if placed_at > timestamp + self._future_tolerance or placed_at < self._earliest:
            self._refuse_time("placed_at", placed_at, timestamp)
        for field, given in (
            ("promised_ship_by", event.promised_ship_by),
            ("agreed_ship_by", event.agreed_ship_by),
        ):
            if given is not None and given < self._earliest:
                self._refuse_time(field, given, timestamp)
        version = self._rulebook.version_of(event.platform, placed_at, event.paid_at)
        if version is None:
            raise Refused("no-policy", self._rulebook.why_none(event.platform))
        if event.shipping_mode not in version.modes:
            raise Refused(
                "invalid",
                f"shipping_mode {event.shipping_mode} is not one of {version.policy.label}; its "
                f"modes are {', '.join(version.modes)}",
            )

    def _refuse_time(self, field: str, instant: int, timestamp: int) -> None:
        if instant < self._earliest:
            raise Refused(
                "invalid", f"{field} {both_ways(instant)} lies before {both_ways(self._earliest)}"
            )
        raise Refused(
            "time-in-future",
            f"{field} {both_ways(instant)} lies after the record's timestamp "
            f"{both_ways(timestamp)}",
        )

    def _check_appeal(self, event: AppealDecided) -> None:
        if _FORBIDDEN(event.order_id + event.appeal_id.replace(":", "")):
            raise _bad_identifier(event)
        order_id, _, rest = event.violation_id.partition(":")
        kind, _, number = rest.partition(":")
        if order_id != event.order_id:
            raise Refused("invalid", f"violation_id {event.violation_id} is not of its order")
        if kind not in self._kinds or not _NUMBER(number) or int(number) > self._kinds[kind]:
            valid = ", ".join(f"{name}:1 to {name}:{most}" for name, most in self._kinds.items())
            raise Refused(
                "invalid",
                f"violation_id {event.violation_id} names no violation; after the order come "
                f"{valid}",
            )


def decode_all(decoder: msgspec.json.Decoder[Any], values: Sequence[bytes | None]) -> list[Any]:
    """Decode many values of one topic, all in one call if it can be done.

    Returns:
        The events, `None` for each value that does not fit its schema; of the others all is
        checked but their identifiers, their key and their times.
    """
    try:
        # Then no value goes on in the next, as "}" and "{" never follow each other within one; so
        # with as many events as values, each value is one event.
        if bytes(map(_FIRST, values)) == b"{" * len(values) and bytes(  # type: ignore[arg-type]
            map(_LAST, values)  # type: ignore[arg-type]
        ) == b"}" * len(values):
            lines = b"\n".join(values)  # type: ignore[arg-type]
            if not lines.isascii():
                # The parser passes over fields it does not know.
                lines.decode()
            events: list[Any] = decoder.decode_lines(lines)
            if len(events) == len(values) and max(map(len, values)) <= VALUE_BYTES_MAX:  # type: ignore[arg-type]
                return events
    except (TypeError, IndexError, ValueError, RecursionError):
        pass
    return [_decoded(decoder, value) for value in values]


def _decoded(decoder: msgspec.json.Decoder[Any], value: bytes | None) -> Any:
    """Decode a value; `None` if it is not surely valid."""
    try:
        if value is None or len(value) > VALUE_BYTES_MAX:
            return None
        if not value.isascii():
            value.decode()
        return decoder.decode(value)
    except (ValueError, RecursionError):
        return None


def surely_identifiers(text: str) -> bool:
    """Tell whether identifiers, joined, surely have no character they must not have."""
    return text.isprintable() and ":" not in text


def has_sound_identifiers(event: Any) -> bool:
    """Tell whether the identifiers of a plain fact have no character they must not have."""
    return not _FORBIDDEN(identifiers(event))


def identifiers(event: Any) -> str:
    """All identifiers of a plain fact, joined."""
    if isinstance(event, FirstScan):
        return f"{event.order_id}{event.tracking_number}{event.carrier}"
    if isinstance(event, TrackingNumberUploaded):
        return f"{event.order_id}{event.tracking_number}{event.carrier}{event.replaces or ''}"
    if isinstance(event, OrderPaid):
        products = "".join(event.product_ids)
        others = (
            event.region, event.ship_from_region, event.platform, event.shop_level, event.category,
            event.warehouse,
        )  # fmt: skip
        return f"{event.order_id}{event.shop_id}{products}{''.join(filter(None, others))}"
    order_id: str = event.order_id
    return order_id


def _check_exemption(event: ExemptionGranted) -> None:
    effect, scope = event.effect, event.scope
    if sum(getattr(effect, name) is not None for name in effect.__struct_fields__) != 1:
        names = ", ".join(effect.__struct_fields__)
        raise Refused("schema", f"Expected one of {names} - at `$.effect`")
    if effect.limit is not None:
        try:
            parse_deadline(effect.limit)
        except ValueError as error:
            raise Refused("invalid", f'effect.limit "{effect.limit}" {error}') from None
    _check_scope(event, scope, "scope")
    kinds = "".join(event.kinds or ())
    if _FORBIDDEN(event.exemption_id + kinds):
        raise _bad_identifier(event)
    for path, instant in (
        ("effect.extend_to", effect.extend_to),
        ("effect.set_to", effect.set_to),
    ):
        _check_unit(path, instant)


def _check_scope(event: ExemptionGranted, scope: Scope, path: str) -> None:
    """Check what types cannot, and what a scope excludes likewise."""
    names = [getattr(scope, name) for name in scope.__struct_fields__]
    members = ["".join(each) for each in names if isinstance(each, list)]
    if _FORBIDDEN("".join(members)):
        raise _bad_identifier(event)
    for name in ("paid_from", "paid_until", "deadline_from", "deadline_until"):
        _check_unit(f"{path}.{name}", getattr(scope, name))
    if scope.not_ is not None:
        _check_scope(event, scope.not_, f"{path}.not")


def _check_unit(path: str, instant: int | None) -> None:
    # Any other instant is one, also 0: a scope may be open at either end.
    if instant is not None and in_another_unit_ms(instant) is not None:
        raise Refused("invalid", f"{path} {both_ways(instant)}")


def _bad_identifier(event: Any) -> Refused:
    """Name the field with a character no identifier may have."""

    def search(value: Any, path: str) -> str | None:
        if isinstance(value, str):
            if path in ("$.violation_id", "$.appeal_id"):
                value = value.replace(":", "")
            return path if _FORBIDDEN(value) else None
        if isinstance(value, list):
            children = [(item, f"{path}[{index}]") for index, item in enumerate(value)]
        elif isinstance(value, msgspec.Struct):
            children = [
                (getattr(value, field), f"{path}.{field}") for field in value.__struct_fields__
            ]
        else:
            return None
        return next((found for item, at in children if (found := search(item, at))), None)

    return Refused(
        "schema", f"An identifier has ':' or a control character - at `{search(event, '$')}`"
    )


def _shortened(message: str) -> str:
    """Keep start and end: the message may quote a value, and ends with its path."""
    return message if len(message) <= 400 else f"{message[:200]} … {message[-190:]}"


def _unreadable(rank: int, value: bytes, error: Exception) -> Refused:
    """Tell a value that is not JSON from one that does not fit the schema."""
    if isinstance(error, msgspec.ValidationError):
        try:
            content = msgspec.json.decode(value)
        except (ValueError, RecursionError) as worse:
            error = worse
        else:
            detail = spelled_out(str(error), INPUTS[rank].event, content)
            return Refused("schema", _shortened(detail))
    return Refused("malformed", json_mistake(value, error))
