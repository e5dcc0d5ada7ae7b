"""What an adapter's author declares of a system's models."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Child:
    """Rows of another model that belong to a record, such as a sale's lines.

    `parent` is their field that holds the record's id. With `watched`, a change of such a row alone
    counts as a change of the record; it costs two more calls at each reading.
    """

    model: str
    parent: str
    fields: Sequence[str] = ()
    watched: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """One model. `fields` are what is read, ``party.code`` reaching into another model.

    `match` is the field that finds a row which has no known id yet. `domain` says which rows there
    are, in Tryton's notation. `page` is the number of rows read at once. `actions` are the steps that may
    be called. Lists of children are replaced only while the field `state`, where
    the model has it, holds one of `draft`. `create_only` are fields that are given when a row is made
    and left alone afterwards.
    """

    model: str
    fields: Sequence[str] = ()
    match: str | None = None
    children: Mapping[str, Child] = dataclasses.field(default_factory=dict)
    domain: Sequence[Any] = ()
    page: int = 200
    actions: Sequence[str] = ()
    writes: bool = True
    state: str = "state"
    draft: Sequence[str] = ("draft",)
    create_only: Sequence[str] = ()
