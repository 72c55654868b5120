import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from streams.broker.jars import KAFKA_VERSION
from tests.tidy import rules
from tests.tidy.rules import PACKAGE, ROOT

CORE = sorted((PACKAGE / "core").rglob("*.py"))
PACKAGE_FILES = sorted(PACKAGE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def relative(path: Path) -> str:
    """Name a file in test ids the way people do."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", CORE, ids=relative)
def test_core_module_is_deterministic_and_says_what_lives_in_it(path: Path) -> None:
    """A core module holds nothing that differs between runs, and opens with its law."""
    source = path.read_text()
    assert rules.core_purity(source) == []
    assert rules.has_header(source), "open the module with what lives here and what must not"


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("limit = 0.5", "float literal"),
        ("half = total / 2", "true division"),
        ("total /= 2", "true division"),
        ("assert total >= 0", "assert vanishes"),
        ("bucket = hash(order_id) % 4", "hash()"),
        ("share = float(amount)", "float()"),
        ("today = datetime.now(UTC)", "wall clock"),
        ("for shop in {a, b}: pass", "a set has no order"),
        ("ids = [x for x in set(rows)]", "a set has no order"),
        ("for x in set(old) - set(new): pass", "a set has no order"),
    ],
)
def test_core_purity_sees_each_offence(source: str, complaint: str) -> None:
    """Every purity rule complains about the thing it forbids."""
    (found,) = rules.core_purity(source)
    assert complaint in found


def test_core_purity_lets_order_through() -> None:
    """Sorted sets, integer division and membership tests are fine."""
    assert rules.core_purity("for x in sorted({a, b}): y = x // 2 if x in {1, 2} else 0") == []


def test_header_rule_wants_more_than_a_line() -> None:
    """No docstring, and a single line, are both refused."""
    assert not rules.has_header("x = 1")
    assert not rules.has_header('"""Timers."""')
    assert rules.has_header('"""Timers.\n\nNothing here waits.\n"""')


@pytest.mark.parametrize("path", PACKAGE_FILES, ids=relative)
def test_package_file_is_short_and_finished(path: Path) -> None:
    """A file a reader can hold in mind, without marks of unfinished work."""
    text = path.read_text()
    assert len(text.splitlines()) <= rules.PACKAGE_LINES_MAX
    assert rules.leftovers(text) == []


def test_leftover_rule_sees_a_mark() -> None:
    """A mark is found as a word, not inside one."""
    assert rules.leftovers("# TODO: later") == ["TODO"]
    assert rules.leftovers("TODOS and HACKNEY") == []


@pytest.mark.parametrize("path", PACKAGE_FILES, ids=relative)
def test_one_place_makes_kafka_clients(path: Path) -> None:
    """Only a connection knows how a cluster lets a client in: a client made elsewhere would not."""
    made = rules.made_clients(path.read_text())
    assert made == [] or relative(path) == "streams/kafka/connection.py"


def test_client_rule_sees_each_way_to_make_one() -> None:
    """A call counts however the class is reached; a type and a method of a connection do not."""
    assert rules.made_clients("x = AIOKafkaConsumer(y)") == ["AIOKafkaConsumer"]
    assert rules.made_clients("x = aiokafka.admin.AIOKafkaAdminClient()") == ["AIOKafkaAdminClient"]
    assert rules.made_clients("x: AIOKafkaProducer = connection.producer()") == []


@pytest.mark.parametrize("path", PACKAGE_FILES, ids=relative)
def test_no_message_advises_deletion(path: Path) -> None:
    """Facts, journals, changelogs and state are what fines rest on: there is always another way."""
    found = [rules.deletion_advice(text) for text in rules.messages(path.read_text())]
    assert [advice for advice in found if advice] == []


def test_no_document_advises_deletion() -> None:
    """A person who is in trouble does what stands there."""
    pages = [rules.ROOT / "README.md", *sorted((rules.ROOT / "docs").rglob("*.md"))]
    found = {relative(page): rules.deletion_advice(rules.text_of(page)) for page in pages}
    assert {name: advice for name, advice in found.items() if advice} == {}


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("would not meet; delete the topics whose count is wrong", ["delete the topics"]),
        ("give --partitions as they are, or delete the topics", ["delete the topics"]),
        ("start with another --app-id and empty changelogs", ["and empty changelogs"]),
        ("its own cluster, or emptied changelogs", ["emptied changelogs"]),
        ("the topic was deleted, and its state is whole", []),
        ("take a broker whose topics are empty", []),
        ("repair it, or delete the line", []),
    ],
)
def test_deletion_rule_tells_advice_from_reports(text: str, advice: list[str]) -> None:
    """The first four once stood in the product."""
    assert rules.deletion_advice(text) == advice


def test_messages_are_strings_that_are_shown() -> None:
    """Also the parts of one that is put together; docstrings and names are not."""
    source = '"""delete topics"""\nx = f"delete {y} topics" + "drop it all"\nz = "name"'
    assert "delete   topics" in rules.messages(source)
    assert "drop it all" in rules.messages(source)
    assert rules.messages('"""delete topics"""') == []


def test_no_file_names_a_machine() -> None:
    """No committed text holds an absolute path of somebody's machine."""
    found = {relative(path): rules.machine_paths(rules.text_of(path)) for path in rules.files()}
    assert {name: paths for name, paths in found.items() if paths} == {}


def test_machine_path_rule_sees_one() -> None:
    """Home directories are found; URLs and relative paths with such a part are not."""
    home = "/".join(["", "home", "ann", "x"])
    assert rules.machine_paths(f'open("{home}")') == [home[:7]]
    assert rules.machine_paths("https://example.org/home/x docs/work/plan") == []


def test_every_import_is_declared() -> None:
    """The package imports only what an installation without the dev tools brings."""
    extras = PROJECT["optional-dependencies"]
    declared = rules.required_names([*PROJECT["dependencies"], *extras["local"]])
    providers = packages_distributions()
    for path in PACKAGE_FILES:
        for name in rules.third_parties(path.read_text()):
            found = rules.required_names(providers.get(name, [name]))
            # Faust's own foundation comes with it and is part of its interface.
            assert found & (declared | {"mode-streaming"}), f"{relative(path)} imports {name}"


def test_every_requirement_is_imported() -> None:
    """What only tests use is a dev tool; zone data and YAML are used by way of others."""
    providers = packages_distributions()
    imported = {name for path in PACKAGE_FILES for name in rules.third_parties(path.read_text())}
    found = rules.required_names([each for name in imported for each in providers.get(name, [])])
    assert rules.required_names(PROJECT["dependencies"]) - found == {"pyyaml", "tzdata"}


def test_import_rule_sees_a_stranger() -> None:
    """Standard library and own modules are left out, everything else is named."""
    source = "import os, faust.app\nfrom streams.core import x\nfrom pydantic.v1 import y"
    assert rules.third_parties(source) == {"faust", "pydantic"}


def test_locks_hold_every_requirement_and_agree() -> None:
    """Both locks pin what pyproject.toml asks for, at the same versions, and name no index."""
    checkout_text = (ROOT / "requirements.lock").read_text()
    image_text = (ROOT / "deploy/docker/requirements.lock").read_text()
    checkout, image = rules.pins(checkout_text), rules.pins(image_text)
    asked = rules.required_names(PROJECT["dependencies"])
    extras = [name for extra in PROJECT["optional-dependencies"].values() for name in extra]
    assert asked <= image.keys()
    assert image.items() <= checkout.items()
    assert asked | rules.required_names(extras) <= checkout.keys()
    assert "://" not in checkout_text + image_text


def test_pins_are_read_from_a_lock() -> None:
    """Names are normalised and comments are no pins."""
    assert rules.pins("Type_X==1.2 \\\n    --hash=sha256:00\n    # via y==3") == {"type-x": "1.2"}


def test_front_door_refuses_an_unknown_word() -> None:
    """A wrong command is exit 2, one error line and a hint, before anything is installed."""
    run = subprocess.run(
        [sys.executable, ROOT / "dev.py", "dmeo"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert run.stderr.splitlines() == [
        "error: unknown or incomplete command: dmeo",
        "hint: python3 dev.py --help",
    ]


def test_compose_runs_the_embedded_brokers_version_and_is_not_open_to_the_network() -> None:
    """Compose starts the same Kafka, pinned, with ports bound to loopback."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert services["broker"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    for service in services.values():
        assert "build" in service or ":" in service["image"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
