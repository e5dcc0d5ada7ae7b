"""Small facts by name."""

import json
from typing import Any

from tieline.ledgers.dialect import Merge, Session
from tieline.ledgers.texts import beginning


class SqlNotes:
    """Small facts by name."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, name: str) -> Any:
        rows = self._session.rows("select value from note where name = ?", name)
        return json.loads(rows[0][0]) if rows else None

    def put(self, name: str, value: Any) -> None:
        if value is None:
            self._session.run("delete from note where name = ?", name)
            return
        self._session.merge(Merge("note", "name value", "text text", key="name"), [(name, json.dumps(value))])

    def starting(self, prefix: str) -> dict[str, Any]:
        which, values = beginning("name", prefix)
        query = f"select name, value from note where {which} order by name"
        return {name: json.loads(value) for name, value in self._session.rows(query, *values)}
