import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.cli.commands import program
from streams.kafka.connection import Connection, ConnectionSettingError
from streams.runtime.settings import Settings
from streams.settings import KEYS, Loaded, SettingsError, Sources, environment_of, load


def loaded(text: str = "", folder: Path | None = None, **environment: str) -> Loaded:
    """Load settings from a file's text and the environment."""
    file = None
    if folder is not None:
        file = folder / "shipclock.toml"
        file.write_text(text)
    return load(
        Sources(file, {f"SHIPCLOCK_{key}": value for key, value in environment.items()}, {})
    )


def mistakes(text: str = "", folder: Path | None = None, **environment: str) -> list[str]:
    """Return what is wrong with settings."""
    with pytest.raises(SettingsError) as wrong:
        loaded(text, folder, **environment)
    return wrong.value.problems


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    """Each setting comes from the last source that gives it."""
    file = tmp_path / "shipclock.toml"
    file.write_text('app_id = "file"\nclient_rack = "file"\nidle_slack_ms = 700\n')
    environment = {"SHIPCLOCK_APP_ID": "environment", "SHIPCLOCK_CLIENT_RACK": "environment"}
    found = load(Sources(file, environment, {"app_id": ("--app-id", "flag")}))
    assert found.settings.app_id == "flag"
    assert found.connection.client_rack == "environment"
    assert found.settings.idle_slack_ms == 700
    assert found.given["idle_slack_ms"].origin == f"{file}:3"
    named = load(Sources(None, {"SHIPCLOCK_CONFIG": str(file)}, {}))
    assert named.settings.app_id == "file"


def test_every_setting_of_the_worker_and_the_connection_can_be_given() -> None:
    """A new field is reachable by itself, and says what it means."""
    reachable = {field.name for owner in (Connection, Settings) for field in fields(owner)}
    assert reachable - KEYS.keys() == {"accepted_topics", "clock", "connection", "policy_change"}
    assert all(key.meaning for key in KEYS.values())
    for key in KEYS.values():
        if key.kind is int and key.name not in ("metrics_port", "workers"):
            value = {"session_timeout_ms": 4000, "request_timeout_ms": 9000}.get(key.name, 600)
            found = loaded(**{key.name.upper(): str(value)})
            owner = found.connection if key.owner is Connection else found.settings
            assert getattr(owner, key.name) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('boostrap = "a:1"', "toml:1: boostrap is not a setting, did you mean bootstrap?"),
        ("\n\n[kafka]\nx = 1", "shipclock.toml:3: [kafka]: settings stand without tables"),
        ("idle_slack_ms = true", "idle_slack_ms: True is not a whole number from 0 on"),
        ('idle_slack_ms = "5"', "idle_slack_ms: '5' is not a whole number from 0 on"),
        ("idle_slack_ms = -5", "-5 is not a whole number"),
        ("batch_bytes = 0", "batch_bytes: give 1 or more"),
        ("answer_limit_ms = 0", "answer_limit_ms: give 1 or more"),
        ("marks_wait_ms = 60000", "marks_wait_ms: give less than request_timeout_ms (10000)"),
        ('bootstrap = "SASL_SSL://me:hunter2@a:9093"', "bootstrap: give HOST:PORT alone; a login"),
        ('bootstrap = "http://a:9093"', "'http://a:9093' is not HOST:PORT, as in"),
        (('security_protocol = "SASL_SSL"\nsasl_mechanism = "OAUTHBEARER"\n'
         "oauth_token_command = \"a 'b\""), "oauth_token_command: No closing quotation"),
        ('security_protocol = "sasl-ssl"', "is not one of PLAINTEXT, SSL"),
        ('bootstrap = "SASL_SSL://a:9093"',
         "write bootstrap = 'a:9093' and security_protocol = 'SASL_SSL'"),
        ('bootstrap = "a"', "'a' is not HOST:PORT"),
        ('bootstrap = ["a:1", "b:x"]', "'b:x' is not HOST:PORT"),
        ('security_protocol = "SASL_SSL"', "sasl_mechanism: it is missing"),
        ('security_protocol = "SASL_SSL"\nsasl_mechanism = "PLAIN"',
         "sasl_username: it is missing"),
        ('security_protocol = "SASL_SSL"\nsasl_mechanism = "OAUTHBEARER"',
         "oauth_token_command or oauth_token_file: sasl_mechanism is OAUTHBEARER: set one"),
        ('sasl_username = "x"', "which has no login: set security_protocol"),
        ('ssl_ca_file = "ca.pem"', "which uses no certificates"),
        ('security_protocol = "SSL"\nssl_ca_file = "ca.pem"', "ca.pem is not a file"),
        ('topic_prefix = "a b"', "topic_prefix: give letters"),
        ('app_id = "a b"', "'a b' is not a valid app id"),
        ("session_timeout_ms = 100", "give at most a third of session_timeout_ms (100)"),
        ("metrics_port = 65535\nworkers = 2", "need ports beyond 65535"),
        ("a = ", "not valid TOML"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    """File and line, what is wrong, what would be right."""
    found = mistakes(text, tmp_path)
    assert any(message in each for each in found), found
    assert all("shipclock.toml" in each or ":" in each for each in found)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """Of the file and of the environment, each with its nearest name."""
    found = mistakes("x_y_z = 1\nworkers = 0\n", tmp_path, APP_IDD="a", WORKERS="two")
    assert len(found) == 4
    assert "environment SHIPCLOCK_APP_IDD is not a setting, did you mean SHIPCLOCK_APP_ID?" in found


def test_what_kubernetes_adds_to_the_environment_is_no_setting() -> None:
    """A service called shipclock gives its containers variables of this form."""
    loaded(SERVICE_HOST="10.0.0.1", PORT="tcp://10.0.0.1:80", PORT_80_TCP_ADDR="10.0.0.1",
           METRICS_PORT="tcp://10.0.0.1:9100", METRICS_SERVICE_PORT="9100")  # fmt: skip


def test_a_secret_is_never_shown(tmp_path: Path) -> None:
    """Not by a mistake, not by repr, not by `config show`; a flag must not carry it."""
    (tmp_path / "pw").write_text("hush\n")
    shown = " ".join(mistakes(SASL_PASSWORD="hush"))
    settings = {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_MECHANISM": "PLAIN",
                "SASL_USERNAME": "u", "SASL_PASSWORD": "hush"}  # fmt: skip
    shown += repr(loaded(**settings)) + repr(loaded(**settings).settings)
    environment = {f"SHIPCLOCK_{key}": value for key, value in settings.items()}
    result = CliRunner().invoke(program(), ["config", "show", "--all"], env=environment)
    assert result.exit_code == 0
    assert "# sasl_password is hidden: environment SHIPCLOCK_SASL_PASSWORD" in result.output
    assert "hush" not in shown + result.output
    with pytest.raises(SettingsError, match="shows in the list of processes") as wrong:
        load(Sources(None, {}, {"sasl_password": ("--set", "hush")}))
    assert "hush" not in wrong.value.message


def test_shown_settings_can_be_read_back(tmp_path: Path) -> None:
    """`config show` prints the file that gives the same settings, secrets aside."""
    environment = {"SHIPCLOCK_BOOTSTRAP": "a:1,b:2", "SHIPCLOCK_TOPIC_PREFIX": "p.",
                   "SHIPCLOCK_SSL_CHECK_HOSTNAME": "no",
                   "SHIPCLOCK_IDLE_SLACK_MS": "100"}  # fmt: skip
    result = CliRunner().invoke(program(), ["config", "show"], env=environment)
    first = load(Sources(None, environment, {}))
    again = loaded(result.output, tmp_path)
    assert again.settings.connection == first.connection
    assert again.settings.idle_slack_ms == 100
    assert again.settings.probe_interval_ms == first.settings.probe_interval_ms == 30
    assert tomllib.loads(result.output)["policy"] == "douyin-first-scan"


def test_a_file_named_in_a_file_stands_beside_it(tmp_path: Path) -> None:
    """Whatever the folder is in which a command runs."""
    (tmp_path / "pw").write_text("hush")
    text = 'security_protocol = "SASL_PLAINTEXT"\nsasl_mechanism = "PLAIN"\nsasl_username = "u"\n'
    found = loaded(f'{text}sasl_password_file = "pw"\n', tmp_path).connection
    assert found.sasl_password_file == str(tmp_path / "pw")
    Path(str(found.sasl_password_file)).unlink()
    with pytest.raises(ConnectionSettingError, match="No such file"):
        found.admin()


def test_an_environment_gives_the_same_connection() -> None:
    """What a process is started with."""
    connection = Connection("a:1", topic_prefix="p.", ssl_check_hostname=False, client_rack="r")
    assert load(Sources(None, environment_of(connection), {})).connection == connection


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "x"], "--set: 'x' is not KEY=VALUE"),
        (
            ["--set", "topic_prefx=a"],
            "--set topic_prefx is not a setting, did you mean topic_prefix?",
        ),
        (["--config", "none.toml"], "none.toml: No such file or directory"),
    ],
)
def test_wrong_flags_are_wrong_usage(arguments: list[str], message: str) -> None:
    """One line, and exit code 2."""
    result: Any = CliRunner().invoke(program(), ["topics", "acls", *arguments])
    assert result.exception.message == message
    assert result.exception.exit_code == 2


def test_rights_carry_the_prefix_and_nothing_else_changes() -> None:
    """Also the app id, and with it groups and transactions: two prefixes must not share them."""
    plain = CliRunner().invoke(program(), ["topics", "acls", "--json"]).output.splitlines()
    prefixed = CliRunner().invoke(program(), ["topics", "acls", "--json", "--topic-prefix", "p."])
    assert len(plain) > 80
    assert [
        line.replace('"name": "p.', '"name": "') for line in prefixed.output.splitlines()
    ] == plain
    shared = [line for line in prefixed.output.splitlines() if '"name": "p.' not in line]
    assert [line.split('"name": "')[1].split('"')[0] for line in shared] == [
        "shipclock-publish-",
        "shipclock-consumers",
    ]
    lines = CliRunner().invoke(program(), ["topics", "acls", "--kafka-acls", "--for", "worker"])
    assert (
        "kafka-acls.sh --bootstrap-server 127.0.0.1:9092 --add --allow-principal User:shipclock "
        "--operation Write --transactional-id shipclock-orders- --resource-pattern-type prefixed"
    ) in lines.output


def test_no_value_makes_a_setting_go_unread() -> None:
    """Kubernetes gives addresses of services; a setting that looks like one is a mistake."""
    with pytest.raises(SettingsError, match=r"'tcp://kafka:9092' is not HOST:PORT"):
        loaded(BOOTSTRAP="tcp://kafka:9092")
    assert loaded(METRICS_PORT="tcp://10.0.0.1:80").settings.metrics_port is None


def test_a_token_command_is_a_secret() -> None:
    """It may hold one among its arguments."""
    found = loaded(OAUTH_TOKEN_COMMAND="curl -d secret=hunter2", SECURITY_PROTOCOL="SASL_SSL",
                   SASL_MECHANISM="OAUTHBEARER")  # fmt: skip
    assert "hunter2" not in repr(found)
    result: Any = CliRunner().invoke(
        program(), ["config", "show"],
        env={"SHIPCLOCK_OAUTH_TOKEN_COMMAND": "curl -d secret=hunter2",
             "SHIPCLOCK_SECURITY_PROTOCOL": "SASL_SSL", "SHIPCLOCK_SASL_MECHANISM": "OAUTHBEARER"},
    )  # fmt: skip
    assert result.exit_code == 0
    assert "hunter2" not in result.output
    assert "oauth_token_command is hidden" in result.output


def test_a_policy_file_stands_beside_the_settings_that_name_it(tmp_path: Path) -> None:
    """As every file that settings name; a packaged policy is a name."""
    folder = tmp_path / "conf"
    folder.mkdir()
    file = folder / "shipclock.toml"
    file.write_text('policy = "rules.toml"')
    assert load(Sources(file, {}, {})).policies == [str(folder / "rules.toml")]
    file.write_text('policy = "douyin-first-scan"')
    assert load(Sources(file, {}, {})).policies == ["douyin-first-scan"]


def test_settings_shown_can_be_read_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative file in them would count from there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "password").write_text("x")
    (tmp_path / "conf" / "a.toml").write_text(
        'security_protocol = "SASL_PLAINTEXT"\nsasl_mechanism = "PLAIN"\nsasl_username = "u"\n'
        'sasl_password_file = "password"\n'
    )
    shown = CliRunner().invoke(program(), ["config", "show", "--config", "conf/a.toml"])
    (tmp_path / "conf" / "b.toml").write_text(shown.output)
    again = load(Sources(tmp_path / "conf" / "b.toml", {}, {}))
    assert again.connection.sasl_password_file == str(tmp_path / "conf" / "password")


def test_a_check_that_cannot_connect_fails() -> None:
    """What follows it, as a deployment, must not go on."""
    result: Any = CliRunner().invoke(
        program(), ["config", "check", "--bootstrap", "127.0.0.1:1", "--for", "worker"]
    )
    assert "no Kafka broker answers at 127.0.0.1:1" in result.exception.message
    assert result.exception.exit_code == 1
