"""What an operator may change: addresses, secrets by reference, limits, owners."""

import hmac
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, SupportsIndex

import msgspec

from tieline.errors import ConfigurationError, Mistake

_SHOWN: Final = "••••"


class Secret:
    """A secret that never shows itself, nor leaves the process; `reveal()` gives the text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself; hand it to a client library, never to a log."""
        return self._text

    def __repr__(self) -> str:
        return _SHOWN

    def __format__(self, spec: str) -> str:
        return format(_SHOWN, spec)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a secret is not copied out of its process; hand on the reference to it")

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: object) -> "Secret":
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(other._text.encode(), self._text.encode())

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
    `generation` goes up when the system behind the name is replaced by one that holds nothing of ours.
    """

    name: str
    url: str
    auth: Mapping[str, Any] = {}
    limits: Limits = Limits()
    options: Mapping[str, Any] = {}
    owner: str = ""
    folder: Path = Path()
    timeout: float = 30.0
    generation: int = 1

    @property
    def held_as(self) -> str:
        """The name under which it is kept what the system holds of ours: its generations are kept apart."""
        return self.name if self.generation == 1 else f"{self.name}#{self.generation}"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # Neither the address nor the options may carry a password into a log or a traceback.
        return [("name", self.name), ("url", without_password(self.url))]

    def __repr__(self) -> str:
        return f"SystemSettings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


def without_password(url: str) -> str:
    """An address as it may be shown: its password, and whatever its query holds, hidden."""
    address, mark, _ = url.partition("?")
    scheme, separator, rest = address.partition("://")
    if separator:
        host, slash, path = rest.partition("/")
        user, at, host = host.rpartition("@")
        name, colon, _ = user.partition(":")
        if scheme == "nats" and at and not colon:
            name = _SHOWN  # a token
        address = f"{scheme}://{name}{colon and ':' + _SHOWN}{at}{host}{slash}{path}"
    return f"{address}{mark}{mark and _SHOWN}"


def resolve_secret(reference: str, where: str, folder: Path = Path()) -> Secret:
    """The secret behind ``${env:NAME}`` or ``${file:path}``; line ends at a file's end are no part of it.

    Raises:
        ConfigurationError: when the reference is malformed or nothing stands behind it.
    """
    inside = reference[2:-1] if reference.startswith("${") and reference.endswith("}") else ""
    kind, _, name = inside.partition(":")
    if kind not in {"env", "file"} or not name:
        raise ConfigurationError(
            Mistake(where, "a secret stands here in the open or misspelt", "write ${env:NAME} or ${file:path}")
        )
    if kind == "env":
        text = os.environ.get(name)
        if text is None:
            raise ConfigurationError(Mistake(where, f"the variable {name} is not set", f"export {name}=…"))
        remedy = f"export {name}=…"
    else:
        text = _read(folder / name, where)
        remedy = f"write the secret into {name}"
    if not text:
        raise ConfigurationError(Mistake(where, f"{name} is empty", remedy))
    return Secret(text)


def _read(path: Path, where: str) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        what, remedy = error.strerror or "cannot be read", "create the file, readable only by Tieline's user"
    except UnicodeDecodeError:
        what, remedy = "is no UTF-8 text", "write the secret as text"
    raise ConfigurationError(Mistake(where, f"{path}: {what}", remedy))
