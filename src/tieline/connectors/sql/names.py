"""Names and ids: how identifiers are quoted, and how the parts of a key become one id."""

import re
import uuid
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

Name = tuple[str, ...]
"""The parts of a dotted name, such as ("sales", "orders")."""


def parse_name(text: str) -> Name:
    """The parts of a name as SQL writes it: dots separate, double quotes keep what is inside.

    Raises:
        ValueError: for an empty part, a NUL, or a quote that does not end.
    """
    parts: list[str] = []
    part, quoted, at = "", False, 0
    while at < len(text):
        char = text[at]
        if char == '"' and quoted and text[at + 1 : at + 2] == '"':
            part += char
            at += 1
        elif char == '"':
            quoted = not quoted
        elif char == "." and not quoted:
            parts.append(part)
            part = ""
        else:
            part += char
        at += 1
    parts.append(part)
    if quoted or not all(parts) or "\0" in text:
        raise ValueError(f"{text!r} is not a name")
    return tuple(parts)


def spell_name(name: Name) -> str:
    """A name as `parse_name` reads it, quoted only where it must be."""
    return ".".join('"' + part.replace('"', '""') + '"' if {".", '"'} & set(part) else part for part in name)


def id_part(value: Any) -> str:
    """One key value as text: what a person would write, the same for every driver."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def join_id(values: Sequence[Any]) -> str:
    """One id of the values of a key; `/` separates them, and is escaped inside one."""
    if len(values) == 1:
        return id_part(values[0])
    return "/".join(id_part(value).replace("\\", "\\\\").replace("/", "\\/") for value in values)


def split_id(id: str, parts: int) -> list[str] | None:
    """The parts of an id that `join_id` made, or None where it has another number of them."""
    if parts == 1:
        return [id]
    found = [""]
    escaped = False
    for char in id:
        if escaped:
            found[-1] += char
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == "/":
            found.append("")
        else:
            found[-1] += char
    return found if len(found) == parts and not escaped else None


def is_integer(text: str) -> bool:
    """Whether a text is how a whole number of 64 bits is written, and no other way to write it."""
    return re.fullmatch(r"0|-?[1-9][0-9]{0,18}", text) is not None and -(2**63) <= int(text) < 2**63


def is_uuid(text: str) -> bool:
    """Whether a database would take the text as a UUID."""
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def is_utf8(text: str) -> bool:
    """Whether a text can be sent at all: a lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
