"""Secrets stay secret; references to them are resolved or refused with what to do."""

import copy
import dataclasses
import logging
import pickle
import traceback
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from rich.traceback import Traceback

from tieline.errors import ConfigurationError
from tieline.settings import Limits, Secret, SystemSettings, resolve_secret, without_password

SECRET = "hunter2-and-more"


@dataclasses.dataclass
class Holder:
    secret: Any


class Keeper(msgspec.Struct):
    secret: Any


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        "{}".format,
        "{!r}".format,
        "{!s:>40}".format,
        "{:>40}".format,
        lambda secret: f"{secret}{secret!r}{secret:10}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
        lambda secret: repr([secret, {"a": secret}, (secret,)]),
        lambda secret: repr(Holder(secret)),
        lambda secret: repr(Keeper(secret)),
        lambda secret: str(dataclasses.asdict(Holder(secret))),
        lambda secret: logging.LogRecord("a", 1, "b", 2, "%s", (secret,), None).getMessage(),
        lambda secret: str(getattr(secret, "__dict__", "")),
        dir,
    ],
)
def test_a_secret_never_shows_itself(show):
    """However it is put into text."""
    assert SECRET not in str(show(Secret(SECRET)))


@pytest.mark.parametrize(
    "carry",
    [
        *(
            lambda secret, protocol=protocol: pickle.dumps(secret, protocol)
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
        lambda secret: pickle.dumps({"a": [secret]}),
        lambda secret: msgspec.json.encode({"a": secret}),
        lambda secret: msgspec.to_builtins([secret]),
        bytes,
    ],
)
def test_a_secret_does_not_leave_its_process(carry):
    """No serialiser gets hold of it, and the refusal does not show it either."""
    with pytest.raises(TypeError) as caught:
        carry(Secret(SECRET))
    assert SECRET not in str(caught.value)


def test_a_secret_does_not_show_in_a_traceback():
    """Not even in one that prints every local variable."""

    def call(secret: Secret, settings: SystemSettings) -> None:
        raise RuntimeError(f"cannot sign in with {secret}")

    secret = Secret(SECRET)
    settings = SystemSettings(name="erp", url=f"postgresql://admin:{SECRET}@db/erp", auth={"password": secret})
    try:
        call(secret, settings)
    except RuntimeError as error:
        console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
        with console.file:
            console.print(Traceback.from_exception(type(error), error, error.__traceback__, show_locals=True))
        shown = console.export_text() + "".join(traceback.format_exception(error))
    assert "settings" in shown
    assert SECRET not in shown.replace(f'SECRET = "{SECRET}"', "").replace(f"SECRET = '{SECRET}'", "")


def test_a_secret_reveals_itself_when_asked():
    """And copies of it are the same secret."""
    secret = Secret(SECRET)
    assert secret.reveal() == SECRET
    assert copy.copy(secret) is secret
    assert copy.deepcopy({"a": secret})["a"] is secret


def test_secrets_compare_by_what_they_hold():
    """With each other, never with text."""
    assert Secret("a") == Secret("a")
    assert Secret("ä") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://erp.example/api", "https://erp.example/api"),
        ("postgresql://user:pw@db:5432/erp", "postgresql://user:••••@db:5432/erp"),
        ("postgresql://user@db/erp", "postgresql://user@db/erp"),
        ("amqp://:pw@mq/", "amqp://:••••@mq/"),
        ("nats://token@one,two:4222", "nats://••••@one,two:4222"),
        ("nats://user:pw@one", "nats://user:••••@one"),
        ("postgresql://user:p@w@db/erp", "postgresql://user:••••@db/erp"),
        ("https://erp.example/api?token=abc&x=1", "https://erp.example/api?••••"),
        ("in/orders", "in/orders"),
        ("sqlite:///shop.db", "sqlite:///shop.db"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_its_password(url, shown):
    """Nor with what its query may hold."""
    assert without_password(url) == shown
    assert shown in repr(SystemSettings(name="erp", url=url))


def test_settings_do_not_show_options_or_auth():
    """Operators put passwords where they fit."""
    settings = SystemSettings(name="erp", url="x", auth={"password": SECRET}, options={"token": SECRET})
    assert SECRET not in f"{settings}{settings!r}"
    assert Limits() == Limits(per_second=0, at_once=4)


# References


def test_a_secret_comes_from_the_environment(monkeypatch):
    """Exactly as it stands there."""
    monkeypatch.setenv("SHOP_TOKEN", f" {SECRET} ")
    assert resolve_secret("${env:SHOP_TOKEN}", "tieline.toml:3").reveal() == f" {SECRET} "


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_secret_comes_from_a_file(tmp_path, end):
    """Relative to the project; an editor's line end is no part of it, spaces are."""
    (tmp_path / "token").write_bytes(f" {SECRET} {end}".encode())
    assert resolve_secret("${file:token}", "tieline.toml:3", tmp_path).reveal() == f" {SECRET} "
    assert resolve_secret(f"${{file:{tmp_path / 'token'}}}", "x", Path("/nowhere")).reveal() == f" {SECRET} "


@pytest.mark.parametrize(
    "text",
    [
        "",
        SECRET,
        "$SHOP_TOKEN",
        "${SHOP_TOKEN}",
        "${env:}",
        "${file:}",
        "${vault:a}",
        "${env:A",
        "env:A}",
        " ${env:A}",
        "${ENV:A}",
    ],
)
def test_a_secret_in_the_open_is_refused_and_not_shown(text):
    """The message has the place and the remedy, never the text itself."""
    with pytest.raises(ConfigurationError) as caught:
        resolve_secret(text, "tieline.toml:3")
    (mistake,) = caught.value.mistakes
    assert mistake.where == "tieline.toml:3"
    assert mistake.remedy == "write ${env:NAME} or ${file:path}"
    assert not text or text not in str(caught.value)


def test_a_reference_to_nothing_is_refused(tmp_path, monkeypatch):
    """Not set, not there, not readable as text, empty: each says what to do about it."""
    monkeypatch.delenv("NO_SUCH", raising=False)
    monkeypatch.setenv("EMPTY", "")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "folder").mkdir()
    for reference, what, remedy in [
        ("${env:NO_SUCH}", "the variable NO_SUCH is not set", "export NO_SUCH=…"),
        ("${env:EMPTY}", "EMPTY is empty", "export EMPTY=…"),
        ("${file:empty}", "empty is empty", "write the secret into empty"),
        ("${file:bytes}", "is no UTF-8 text", "write the secret as text"),
        ("${file:folder}", "Is a directory", "create the file"),
        ("${file:missing}", "No such file or directory", "create the file, readable only by Tieline's user"),
    ]:
        with pytest.raises(ConfigurationError) as caught:
            resolve_secret(reference, "tieline.toml:3", tmp_path)
        (mistake,) = caught.value.mistakes
        assert what in mistake.what
        assert remedy in mistake.remedy
