"""What a person sees: lines that scroll by, and below them, on a terminal, the running figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streams.core.words import counted
from streams.demo.cast import CAST, Shop
from streams.demo.narrate import WORDS, Line, Narrator
from streams.demo.surge import END_MS, HOUR_MS, START_MS
from streams.demo.tally import ShopSums, Tally, points, yuan

_STYLES = {
    "order": "dim",
    "scan": "dim",
    "timeout": "yellow",
    "points": "magenta",
    "settled": "magenta",
    "reversed": "green",
    "corrected": "green",
    "ban": "bold red",
    "ban lifted": "bold green",
    "late scan": "cyan",
    "exemption": "cyan",
    "appeal": "cyan",
    "warning": "dim",
    "dead letter": "red",
}
_WORD_WIDTH = max(map(len, WORDS))
# Without a terminal the figures come as a line, twice a day of the story.
_FIGURES_EVERY_MS = 12 * HOUR_MS


class Screen:
    """Shows the demo while used as a context manager; afterwards `console` prints as usual."""

    def __init__(self, console: Console, narrator: Narrator, shops: Mapping[str, Shop]) -> None:
        self.console = console
        self._narrator = narrator
        self._crowd = [shop_id for shop_id, shop in shops.items() if not shop.story]
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._next_figures_ms = START_MS + _FIGURES_EVERY_MS

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(
        self, lines: Iterable[Line], now_ms: int, tally: Tally, sent: Mapping[str, int]
    ) -> None:
        """Add lines and bring the figures up to date."""
        for line in lines:
            self.console.print(self._text(line), soft_wrap=True)
        if self._live is not None:
            self._live.update(self._figures(now_ms, tally, sent), refresh=True)
        elif now_ms >= self._next_figures_ms:
            self._next_figures_ms += _FIGURES_EVERY_MS
            self.console.print(
                f"{self._narrator.clock(now_ms)}  -- {self._counts(tally, sent)}", soft_wrap=True
            )

    def _text(self, line: Line) -> Text:
        return Text.assemble(
            (f"{self._narrator.clock(line.at_ms)}  ", "dim"),
            (f"{line.word:<{_WORD_WIDTH}}  ", _STYLES[line.word]),
            line.text,
        )

    def _counts(self, tally: Tally, sent: Mapping[str, int]) -> str:
        return (
            f"{sent['order-paid']:,} paid, {sent['tracking-number-uploaded']:,} uploaded, "
            f"{sent['first-scan']:,} scanned; "
            f"{counted(tally.types['timeout.determined'], 'timeout')}, "
            f"{tally.types['timeout.revoked']:,} revoked; {counted(len(tally.bans), 'ban')}; "
            f"{counted(tally.outputs['deadline-warning'], 'warning')}, "
            f"{counted(tally.outputs['dead-letter'], 'dead letter')}"
        )

    def _figures(self, now_ms: int, tally: Tally, sent: Mapping[str, int]) -> Group:
        top = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=END_MS - START_MS, completed=now_ms - START_MS, width=40)
        top.add_row(Text(self._narrator.clock(now_ms), "bold"), bar)
        table = Table("shop", "watch for", box=None, padding=(0, 2, 0, 0), header_style="dim")
        for name in ("orders", "timeouts", "points", "deposit", "bans"):
            table.add_column(name, justify="right")
        for shop in CAST:
            _add_row(table, shop.name, shop.story, tally.shops[shop.shop_id])
        crowd = ShopSums()
        for shop_id in self._crowd:
            crowd.add(tally.shops[shop_id])
        _add_row(table, f"{len(self._crowd)} others", "", crowd)
        return Group(Text(), top, Text(self._counts(tally, sent)), Text(), table)


def _add_row(table: Table, name: str, story: str, sums: ShopSums) -> None:
    table.add_row(
        name, Text(story, "dim"), f"{sums.orders:,}", str(sums.standing), points(sums.points),
        yuan(sums.deposit), Text(str(sums.bans), "bold red" if sums.bans else ""),
    )  # fmt: skip
