import base64
import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console

from streams.codec.decode import Decoder, Refused
from streams.codec.encode import encode_value
from streams.core.facts.inputs import INPUT_TOPICS
from streams.core.facts.outputs import Penalty, ProductBan, Timeout
from streams.demo.cast import CAST, DOWN, GOURMET, LAMPS, LOTUS, PHONES, SILK
from streams.demo.narrate import WORDS, Line, Narrator
from streams.demo.play import Played, judged_without_broker
from streams.demo.screen import Screen
from streams.demo.surge import END_MS, ORDERS_MIN, START_MS, Surge, make_surge
from streams.demo.tally import Inputs, Tally, checks
from streams.demo.worker import Worker
from streams.rulebook import load_rulebook
from streams.runtime.settings import Settings

POLICY = load_rulebook(["douyin-first-scan"])
SEEDS = (1, 2, 7)


def lines_of(surge: Surge) -> list[bytes]:
    """Write a surge as the file of a simulation, everything in one partition."""
    return [
        encode_value(
            {
                "topic": record.topic,
                "timestamp": record.at_ms,
                "partition": 0,
                "key": record.key.decode(),
                "raw": record.value.decode(),
            }
        )
        for record in surge.records
    ]


def inputs_of(surge: Surge) -> Inputs:
    """Say what a run that went well would have sent."""
    shipped = {
        record.order_id
        for record in surge.records
        if record.topic in ("first-scan", "order-closed") and record.order_id
    }
    sent = len(surge.records)
    return Inputs(sent, sent, len(surge.shop_of), shipped, surge.spoilt)


@cache
def surge_of(seed: int) -> Surge:
    """Make the smallest sale of a seed, once."""
    return make_surge(ORDERS_MIN, seed)


def judged(seed: int) -> Tally:
    """Judge it anew: a tally can be changed."""
    surge = surge_of(seed)
    return judged_without_broker(Played(inputs_of(surge), Tally(), lines_of(surge)), POLICY)


def test_a_seed_is_a_sale() -> None:
    """The same seed gives the same bytes, another one another sale."""
    assert make_surge(ORDERS_MIN, 3) == make_surge(ORDERS_MIN, 3)
    assert make_surge(ORDERS_MIN, 3).records != make_surge(ORDERS_MIN, 4).records


@pytest.mark.parametrize("orders", [ORDERS_MIN, 1_000])
def test_sale_has_the_orders_asked_for(orders: int) -> None:
    """Those of the shops with a story are among them, and all records lie within the story."""
    surge = make_surge(orders, 1)
    assert len(surge.shop_of) == orders
    assert {shop.shop_id for shop in CAST} <= set(surge.shop_of.values()) <= surge.shops.keys()
    times = [record.at_ms for record in surge.records]
    assert times == sorted(times)
    assert times[0] >= START_MS
    assert times[-1] < END_MS


@pytest.mark.parametrize("seed", SEEDS)
def test_only_spoilt_records_are_refused(seed: int) -> None:
    """Every record is a valid event under its key, but for those that are spoilt by themselves."""
    decoder, refused = Decoder(POLICY), []
    for record in surge_of(seed).records:
        try:
            decoder.decode(INPUT_TOPICS.index(record.topic), record.key, record.value, record.at_ms)
        except Refused as error:
            refused.append(error.reason)
            assert not record.order_id
    assert refused == ["malformed", "time-in-future", "wrong-key"]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_stories_come_true(seed: int) -> None:
    """Whatever the crowd does, each shop with a story ends as its story says."""
    tally = judged(seed)
    ended = {shop: tally.shops[shop.shop_id] for shop in CAST}
    assert (ended[LOTUS].standing, ended[LOTUS].deposit) == (0, 0)
    assert (ended[SILK].points, ended[SILK].deposit) == (20, 50_000)
    assert ended[SILK].standing > 50
    assert (ended[PHONES].standing, ended[PHONES].bans) == (6, 1)
    assert (ended[LAMPS].standing, ended[LAMPS].points, ended[LAMPS].deposit) == (0, 0, 0)
    assert tally.types["product-ban.lifted"] >= 1
    assert (LAMPS.shop_id, "moon-lamp") not in tally.bans
    assert (ended[DOWN].standing, ended[DOWN].deposit) == (0, 0)
    assert (ended[GOURMET].standing, ended[GOURMET].deposit) == (1, 1_000)
    assert tally.outputs["dead-letter"] == surge_of(seed).spoilt


@pytest.mark.parametrize("seed", SEEDS)
def test_a_good_run_adds_up(seed: int) -> None:
    """All sums hold for what a simulation puts out."""
    found = list(checks(judged(seed), inputs_of(surge_of(seed)), judged(seed)))
    assert [check.text for check in found if not check.good] == []
    assert len({check.text.split()[0] for check in found}) == len(found) == 8


def lose_a_timeout(tally: Tally) -> None:
    """Forget one that stands."""
    tally.standing.popitem()


def charge_too_much(tally: Tally) -> None:
    """Add a unit to an entry."""
    place = next(place for place, amount in tally.journal.items() if amount > 0)
    tally.journal[place] += 1


def write_twice(tally: Tally) -> None:
    """Write one record two times."""
    order_id = "O-1"
    value = Timeout(
        deadline=1, determined_at=1, kind="late-scan", occurrence=1, order_id=order_id,
        policy="p@1", product_ids=["x"], revision=1, shop_id=LOTUS.shop_id,
        type="timeout.determined", violation_id=f"{order_id}:late-scan:1",
    )  # fmt: skip
    tally.add("timeout", "same", value)
    tally.add("timeout", "same", value)


def lose_a_ban(tally: Tally) -> None:
    """Forget one in force."""
    tally.bans.pop()


def lose_a_dead_letter(tally: Tally) -> None:
    """Count one too few."""
    tally.outputs["dead-letter"] -= 1


@pytest.mark.parametrize(
    ("spoil", "wrong"),
    [
        (lose_a_timeout, {"timeouts", "again"}),
        (charge_too_much, {"again"}),
        (write_twice, {"once", "again"}),
        (lose_a_ban, {"bans", "again"}),
        (lose_a_dead_letter, {"records"}),
    ],
)
def test_each_sum_sees_its_error(spoil: Callable[[Tally], None], wrong: set[str]) -> None:
    """What is lost, doubled or charged wrongly does not add up."""
    tally = judged(1)
    spoil(tally)
    found = list(checks(tally, inputs_of(surge_of(1)), judged(1)))
    assert wrong <= {check.text.split()[0] for check in found if not check.good}


def test_records_that_wait_do_not_add_up() -> None:
    """A worker that has not taken everything is not done."""
    inputs = inputs_of(surge_of(1))
    behind = Inputs(inputs.sent, inputs.sent - 1, inputs.orders, inputs.shipped, inputs.spoilt)
    (records, *_) = checks(judged(1), behind, judged(1))
    assert not records.good
    assert "+ 1 waiting" in records.text


def narrator() -> Narrator:
    """Make one that has told nothing yet."""
    return Narrator(surge_of(1).shops, POLICY)


def timeout(shop_id: str, number: int) -> Timeout:
    """Determine a timeout in the night of the 15th."""
    order_id = f"O-{number}"
    return Timeout(
        deadline=1_671_035_340_000, determined_at=1_671_035_340_000, kind="late-scan",
        occurrence=1, order_id=order_id, policy="p@1", product_ids=["x"], revision=1,
        shop_id=shop_id, type="timeout.determined", violation_id=f"{order_id}:late-scan:1",
    )  # fmt: skip


def test_lines_have_names_and_the_shops_time() -> None:
    """A line names the order, the shop and the local time."""
    told = narrator()
    (line,) = told.tell([], [timeout(LOTUS.shop_id, 1042)])
    assert told.clock(line.at_ms) == "12-15 00:29"
    assert (line.word, line.text) == ("timeout", "O-1042 #1 late-scan (Lotus Tea)")


def test_few_of_many_are_told() -> None:
    """A round tells the first of a story and one of the crowd."""
    crowd = next(shop_id for shop_id, shop in surge_of(1).shops.items() if not shop.story)
    values = [timeout(shop_id, n) for n in range(500) for shop_id in (SILK.shop_id, crowd)]
    assert len(narrator().tell([], values)) == 4


def test_settlement_is_one_line_and_names_the_limit() -> None:
    """What a shop pays for a day is told as one sum."""
    entries = [
        Penalty(
            account="deposit", amount=1_000, batch_id="b", day="2022-12-15",
            effective_at=1_671_120_000_000, entry_id=f"O-{n}:late-scan:1:deposit:1",
            order_id=f"O-{n}", shop_id=SILK.shop_id, type="penalty.charged", unit="CNY",
            violation_id=f"O-{n}:late-scan:1",
        )
        for n in range(50)
    ]  # fmt: skip
    (line,) = narrator().tell([], entries)
    assert line.text == "Swift Silk pays 500.00 CNY for 2022-12-15, the day's limit"


def test_causes_are_told_before_effects() -> None:
    """Lines of one instant go from the input to its last consequence."""
    ban = ProductBan(
        effective_at=1_671_035_340_000, order_id="O-1", product_id="fold-phone",
        shop_id=PHONES.shop_id, type="product-ban.imposed", violation_id="O-1:late-scan:3",
    )  # fmt: skip
    told = narrator().tell([], [ban, timeout(PHONES.shop_id, 1)])
    assert [line.word for line in told] == ["timeout", "ban"]


@pytest.mark.parametrize("terminal", [False, True])
def test_screen_fits_where_it_is_shown(terminal: bool) -> None:
    """A terminal gets figures that renew themselves, anything else plain lines."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120)
    tally = judged(1)
    with Screen(console, narrator(), surge_of(1).shops) as screen:
        lines = [Line(START_MS, word, "said") for word in WORDS]
        screen.show(lines, END_MS, tally, dict.fromkeys(INPUT_TOPICS, 1))
    shown = out.getvalue()
    assert ("\x1b" in shown) is terminal
    assert ("watch for" in shown) is terminal
    assert "12-11 22:00" in shown


def test_raw_of_a_dead_letter_tells_them_apart() -> None:
    """Dead letters are compared with their bytes, not only counted."""
    raws = {base64.b64decode(raw) for _, _, raw in judged(1).dead_letters}
    assert len(raws) == surge_of(1).spoilt


BROKEN = """\
2026-11-22T17:19:28.656Z ERROR broken stage=orders
Traceback (most recent call last):
KeyError: 'x'
2026-11-22T17:19:29.656Z INFO  stopped
"""


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("", "its log is empty"),
        ("2026-11-22T17:19:28.656Z INFO  started pid=1\n", "INFO  started pid=1"),
        (BROKEN, "ERROR broken stage=orders: KeyError: 'x'"),
    ],
)
def test_last_words_of_a_worker(tmp_path: Path, log: str, said: str) -> None:
    """A person is told what went wrong, not where in the code."""
    path = tmp_path / "worker.log"
    worker = Worker(Settings(), POLICY, path)
    assert worker.last_words() == "it has written no log"
    path.write_text(log)
    assert worker.last_words() == said
