"""`shipclock exempt`: publish an exemption."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streams.cli.configured import configured
from streams.cli.options import Policies
from streams.cli.printable import printable
from streams.cli.times import instant, now_ms
from streams.core.errors import UserError
from streams.core.rules.phrases import deadline_forms, parse_deadline, parse_duration
from streams.core.words import counted
from streams.kafka.connection import Connection
from streams.rulebook import load_rulebook

if TYPE_CHECKING:
    from streams.core.facts.events import Effect, ExemptionGranted
    from streams.core.rules.book import Rulebook


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
    set_to: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The deadline is this time, earlier or later."),
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option(metavar="DEADLINE", help="Another deadline rule, as '48h after paid'."),
    ] = None,
    waive_penalty: Annotated[
        bool, typer.Option("--waive-penalty", help="The violation stands and costs nothing.")
    ] = False,
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
        typer.Option("--mode", metavar="MODE", help="Orders shipped this way."),
    ] = None,
    platforms: Annotated[
        list[str] | None,
        typer.Option("--platform", metavar="PLATFORM", help="Orders of these platforms."),
    ] = None,
    shop_levels: Annotated[
        list[str] | None,
        typer.Option("--shop-level", metavar="LEVEL", help="Orders of shops of these levels."),
    ] = None,
    categories: Annotated[
        list[str] | None,
        typer.Option("--category", metavar="CATEGORY", help="Orders of these categories."),
    ] = None,
    agreed: Annotated[
        bool | None,
        typer.Option("--agreed/--not-agreed", help="Orders with, or without, an agreed date."),
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
    policies: Policies,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Without --order: publish without counting and asking first."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the event, publish nothing.")
    ] = False,
) -> None:
    """Waive or move the deadlines of some orders, or what they cost; past and future ones.

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

    rulebook = load_rulebook(policies)
    for option, given, known in (
        ("--kind", kinds, list(rulebook.kinds)),
        ("--mode", modes, rulebook.modes),
        ("--platform", platforms, list(rulebook.versions)),
    ):
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
        shipping_modes=modes or None,
        paid_from=_time(paid_from, "--paid-from", rulebook),
        paid_until=_time(paid_until, "--paid-until", rulebook),
        deadline_from=_time(deadline_from, "--deadline-from", rulebook),
        deadline_until=_time(deadline_until, "--deadline-until", rulebook),
        platforms=platforms or None,
        shop_levels=shop_levels or None,
        categories=categories or None,
        agreed=agreed,
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
        effect=_effect(
            rulebook,
            waive=waive,
            extend_to=extend_to,
            extend_by=extend_by,
            set_to=set_to,
            limit=limit,
            waive_penalty=waive_penalty,
        ),
        exemption_id=exemption_id,
        granted_at=now
        if granted_at is None
        else instant(granted_at, "--granted-at", rulebook.time_zone),
        kinds=kinds or None,
        scope=scope,
        source=source,
    )
    fields = msgspec.to_builtins(granted)
    value = msgspec.json.encode({name: fields[name] for name in fields if fields[name] is not None})
    event = checked(Decoder(rulebook), "exemption-granted", value, now)
    if dry_run:
        typer.echo(value)
        return
    if not orders and not yes:
        _ask(connection, granted, rulebook)
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


def _ask(connection: Connection, exemption: ExemptionGranted, rulebook: Rulebook) -> None:
    """Count what an exemption without --order covers, and ask whether to publish it.

    Raises:
        UserError: There is nobody to ask, or the logs cannot be read.
        Abort: The answer is no.
    """
    from streams.cli.reading import read_logs
    from streams.core.facts.money import money
    from streams.engine.coverage import Coverage
    from streams.runtime.lookup import fill_coverage

    if not sys.stdin.isatty():
        raise UserError(
            "an exemption without --order can reach many orders, and this is not a terminal to "
            "ask in",
            "give --yes to publish it without asking",
            exit_code=2,
        )
    coverage = Coverage(exemption, rulebook)
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


def _effect(rulebook: Rulebook, **given: Any) -> Effect:
    from streams.core.facts.events import Effect

    effects = [name for name, value in given.items() if value]
    if len(effects) != 1:
        *others, last = (f"--{name.replace('_', '-')}" for name in given)
        raise UserError(
            "an exemption does one thing", f"give {', '.join(others)} or {last}", exit_code=2
        )
    (name,) = effects
    option, value = f"--{name.replace('_', '-')}", given[name]
    try:
        if name == "extend_by":
            value = parse_duration(value)
        elif name == "limit":
            parse_deadline(value)
        elif name in ("extend_to", "set_to"):
            value = _time(value, option, rulebook)
    except ValueError as error:
        hint = deadline_forms() if name == "limit" else "as in: --extend-by 24h"
        raise UserError(f"{option}: {value!r} {error}", hint, exit_code=2) from None
    return Effect(**{name: value})


def _time(text: str | None, option: str, rulebook: Rulebook) -> int | None:
    return None if text is None else instant(text, option, rulebook.time_zone)
