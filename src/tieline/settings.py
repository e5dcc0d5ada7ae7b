"""What an operator may change: addresses, secrets by reference, limits, owners."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from tieline.errors import ConfigurationError, Mistake

_SHOWN: Final = "••••"


class Secret:
    """A secret that never shows itself; `reveal()` gives the text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself; hand it to a client library, never to a log."""
        return self._text

    def __repr__(self) -> str:
        return _SHOWN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How hard a system may be pressed: calls per second (0: no limit) and calls at the same time."""

    per_second: float = 0
    at_once: int = 4


class SystemSettings(msgspec.Struct, frozen=True):
    """One system's connection as the operator gave it, references resolved.

    `auth` maps a way (`bearer`, `user`, `password`, `key`, `header` …) to a Secret or text;
    `options` are the connector's own settings; `folder` is the project's, for relative paths.
    """

    name: str
    url: str
    auth: Mapping[str, Any] = {}
    limits: Limits = Limits()
    options: Mapping[str, Any] = {}
    owner: str = ""
    folder: Path = Path()
    timeout: float = 30.0


def resolve_secret(reference: str, where: str, folder: Path = Path()) -> Secret:
    """The secret behind ``${env:NAME}`` or ``${file:path}``.

    Raises:
        ConfigurationError: when the reference is malformed or nothing stands behind it.
    """
    kind, _, name = reference.removeprefix("${").removesuffix("}").partition(":")
    if not (reference.startswith("${") and reference.endswith("}")) or kind not in {"env", "file"}:
        raise ConfigurationError(
            Mistake(where, "a secret stands here in the open or misspelt", "write ${env:NAME} or ${file:path}")
        )
    if kind == "env":
        text = os.environ.get(name)
        if text is None:
            raise ConfigurationError(Mistake(where, f"the variable {name} is not set", f"export {name}=…"))
        return Secret(text)
    try:
        return Secret((folder / name).read_text().strip())
    except OSError as error:
        raise ConfigurationError(
            Mistake(where, f"{name}: {error.strerror}", "create the file, readable only by Tieline's user")
        ) from error
