"""`shipclock exempt`: publish an exemption."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from streams.cli.configured import configured
from streams.cli.options import (
    DEFAULT_POLICY,
    PolicyName,
)
from streams.cli.printable import printable
from streams.cli.times import instant, now_ms
from streams.core.errors import UserError
from streams.core.facts.events import ShippingMode
from streams.core.rules.policy import duration_ms
from streams.core.words import counted
from streams.kafka.connection import Connection
from streams.policies import load_policy

if TYPE_CHECKING:
    from streams.core.facts.events import Effect, ExemptionGranted
    from streams.core.rules.policy import Policy

_MODES: tuple[ShippingMode, ...] = get_args(ShippingMode)


@configured
def exempt(
    exemption_id: Annotated[
        str,
        typer.Option(
            "--id",
            metavar="EXEMPTION_ID",
            help="Its name. Publishing it again under one name is safe: the first content stays.",
        ),
    ],
    waive: Annotated[bool, typer.Option("--waive", help="No violation at all.")] = False,
    extend_to: Annotated[
        str | None, typer.Option(metavar="TIME", help="The deadline is not before this time.")
    ] = None,
    extend_by: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="The deadline is later by this, as 24h or 90m."),
    ] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="Of these kinds only.", show_default="all"),
    ] = None,
    orders: Annotated[
        list[str] | None, typer.Option("--order", metavar="ORDER", help="These orders.")
    ] = None,
    shops: Annotated[
        list[str] | None, typer.Option("--shop", metavar="SHOP", help="Orders of these shops.")
    ] = None,
    regions: Annotated[
        list[str] | None,
        typer.Option("--region", metavar="REGION", help="Orders to these regions, as CN-XJ."),
    ] = None,
    ship_from_regions: Annotated[
        list[str] | None,
        typer.Option("--ship-from-region", metavar="REGION", help="Orders from these regions."),
    ] = None,
    modes: Annotated[
        list[str] | None,
        typer.Option("--mode", metavar="|".join(_MODES), help="Orders shipped this way."),
    ] = None,
    paid_from: Annotated[
        str | None, typer.Option(metavar="TIME", help="Orders paid at or after this time.")
    ] = None,
    paid_until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Orders paid at or before this time; a day ends at 23:59:59.999."
        ),
    ] = None,
    deadline_from: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Orders due, before any exemption, from this time on."),
    ] = None,
    deadline_until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Orders due until this time."),
    ] = None,
    all_orders: Annotated[
        bool, typer.Option("--all-orders", help="Every order, those to come too: no scope.")
    ] = False,
    source: Annotated[
        Literal["platform", "report"],
        typer.Option(help="Granted by the platform, or an approved report of a shop."),
    ] = "platform",
    granted_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="When.", show_default="now")
    ] = None,
    *,
    connection: Connection,
    policy: PolicyName = DEFAULT_POLICY,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Without --order: publish without counting and asking first."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the event, publish nothing.")
    ] = False,
) -> None:
    """Waive or extend the deadlines of some orders, past and future ones.

    Every scope option given must match; one given several times matches any of its values. A TIME
    is 2026-11-30 or '2026-11-30 14:00' in the policy's zone, now, -3h, -2d, ISO 8601 with an
    offset, or epoch milliseconds; bounds are inclusive.
    Orders that were fined already are judged again: what no longer holds is revoked and reversed.
    Where the scope names no --order, the orders it covers and their fines are counted first, and
    you are asked.
    A worker may still refuse it, as conflict: `shipclock dead-letters` tells.
    """
    import msgspec

    from streams.cli.publishing import checked, publish_one, told_of_refusals
    from streams.cli.reading import homes_of, told_of_unknown
    from streams.codec.decode import Decoder
    from streams.core.facts.events import ExemptionGranted, Scope

    rules = load_policy(policy)
    for option, given, known in (("--kind", kinds, rules.violations), ("--mode", modes, _MODES)):
        unknown = [one for one in given or () if one not in known]
        if unknown:
            raise UserError(
                f"{option}: there is no {unknown[0]}", f"known: {', '.join(known)}", exit_code=2
            )
    scope = Scope(
        order_ids=orders or None,
        shop_ids=shops or None,
        regions=regions or None,
        ship_from_regions=ship_from_regions or None,
        shipping_modes=[mode for mode in _MODES if mode in modes] if modes else None,
        paid_from=_time(paid_from, "--paid-from", rules),
        paid_until=_time(paid_until, "--paid-until", rules),
        deadline_from=_time(deadline_from, "--deadline-from", rules),
        deadline_until=_time(deadline_until, "--deadline-until", rules),
    )
    if (scope == Scope()) != all_orders:
        raise UserError(
            "an exemption needs a scope, or --all-orders; not both",
            "a scope is --order, --shop, --region, --mode, --paid-from and the like",
            exit_code=2,
        )
    for first, last, name in (
        (scope.paid_from, scope.paid_until, "paid"),
        (scope.deadline_from, scope.deadline_until, "deadline"),
    ):
        if first is not None and last is not None and first > last:
            raise UserError(
                f"--{name}-from lies after --{name}-until", "no order would match", exit_code=2
            )
    now = now_ms()
    granted = ExemptionGranted(
        effect=_effect(waive, extend_to, extend_by, rules),
        exemption_id=exemption_id,
        granted_at=now
        if granted_at is None
        else instant(granted_at, "--granted-at", rules.time_zone),
        kinds=kinds or None,
        scope=scope,
        source=source,
    )
    fields = msgspec.to_builtins(granted)
    value = msgspec.json.encode({name: fields[name] for name in fields if fields[name] is not None})
    event = checked(Decoder(rules), "exemption-granted", value, now)
    if dry_run:
        typer.echo(value)
        return
    if not orders and not yes:
        _ask(connection, granted, rules)
    if orders:
        event = event._replace(homes=homes_of(connection, orders))
    copies, partitions = publish_one(connection, event)
    typer.echo(
        f"exemption {exemption_id}: published to {copies} of "
        f"{counted(partitions, 'partition')}, at once"
    )
    typer.echo(value)
    told_of_refusals()
    told_of_unknown(orders or (), event.homes)


def _ask(connection: Connection, exemption: ExemptionGranted, rules: Policy) -> None:
    """Count what an exemption without --order covers, and ask whether to publish it.

    Raises:
        UserError: There is nobody to ask, or the logs cannot be read.
        Abort: The answer is no.
    """
    from streams.cli.explanation import money
    from streams.cli.reading import read_logs
    from streams.engine.coverage import Coverage
    from streams.runtime.lookup import fill_coverage

    if not sys.stdin.isatty():
        raise UserError(
            "an exemption without --order can reach many orders, and this is not a terminal to "
            "ask in",
            "give --yes to publish it without asking",
            exit_code=2,
        )
    coverage = Coverage(exemption, rules)
    read_logs(lambda show, note: fill_coverage(connection, coverage, show, note))
    stand = "stands" if coverage.violations == 1 else "stand"
    costs = " and ".join(money(amount, unit) for unit, amount in coverage.totals.items())
    typer.echo(
        printable(
            f"exemption {exemption.exemption_id} covers {counted(coverage.orders, 'known order')}, "
            "and those to come that match: "
            f"{counted(coverage.violations, 'violation')} of them {stand} now"
            + (f", charged {costs}" if costs else "")
        ),
        err=True,
    )
    typer.confirm("publish it?", abort=True, err=True)


def _effect(waive: bool, extend_to: str | None, extend_by: str | None, rules: Policy) -> Effect:
    from streams.core.facts.events import Effect

    if waive + (extend_to is not None) + (extend_by is not None) != 1:
        raise UserError(
            "an exemption does one thing", "give --waive, --extend-to or --extend-by", exit_code=2
        )
    if waive:
        return Effect(waive=True)
    if extend_by is None:
        return Effect(extend_to=_time(extend_to, "--extend-to", rules))
    try:
        return Effect(extend_by=duration_ms(extend_by))
    except ValueError:
        raise UserError(
            f"--extend-by: {extend_by!r} is not a duration",
            "give a number and ms, s, m, h or d, as 24h",
            exit_code=2,
        ) from None


def _time(text: str | None, option: str, rules: Policy) -> int | None:
    return None if text is None else instant(text, option, rules.time_zone)
