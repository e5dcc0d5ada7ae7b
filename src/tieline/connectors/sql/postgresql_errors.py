"""What PostgreSQL's errors mean for a message: is it the value, the moment, the rights or the server?"""

import re
from typing import Final

import psycopg

from tieline.connectors.sql.dialect import LockTimeout, Refusal
from tieline.errors import AccessRefused, ConfigurationError, Mistake, RetryLater, TielineError, Unavailable

# tables, columns, schemas and functions that are not there; a condition that is no SQL; no unique index
_MISTAKES: Final = {"42P01", "42703", "3F000", "42883", "42601", "42P10"}
_REFUSED: Final = r"authentication|pg_hba\.conf|no password supplied|role .* (does not exist|not permitted)"


def problem(error: BaseException, where: str) -> TielineError:
    """The error to raise, or to report of a single change."""
    if not isinstance(error, psycopg.Error):
        return Refusal(str(error))
    state = error.sqlstate
    text = str(error).partition("\n")[0]
    if state is None:
        return _client_problem(error, text, where)
    diagnosis = error.diag
    if state == "53100":
        return Unavailable(f"{where}: the database's disk is full; make room ({text})")
    if state in _MISTAKES:
        return ConfigurationError(Mistake(where, text, "correct the adapter, or restore the table"))
    if state.startswith("28") or state == "42501":
        return AccessRefused(f"{where}: {text}")
    if state[:2] in {"08", "53", "57", "58"} and state != "57014":
        return Unavailable(f"{where}: {text}")
    if state in {"25P03", "25006"} or (state == "0A000" and "cached plan" in text):
        return Unavailable(f"{where}: {text}")
    if state in {"55P03", "57014"}:
        return LockTimeout(text)
    if state in {"40001", "40P01", "25P02"} or state.startswith("XX"):
        return RetryLater(text)
    if state == "23503":
        return RetryLater(f"{text}: {diagnosis.message_detail or 'a row that it refers to is not there'}")
    return _reject(error, text)


def _client_problem(error: psycopg.Error, text: str, where: str) -> TielineError:
    whole = " ".join(str(error).split())  # the client library writes several lines
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        if re.search(_REFUSED, whole):
            return AccessRefused(f"{where}: {whole}")
        if re.search(r'database ".*" does not exist', whole):
            return ConfigurationError(Mistake(where, whole, "correct the url"))
        return Unavailable(f"{where}: {whole}")
    return Refusal(text)


def _reject(error: psycopg.Error, text: str) -> Refusal:
    diagnosis = error.diag
    field, value = diagnosis.column_name, None
    taken = re.search(r"\((.*)\)=\((.*)\)", (diagnosis.message_detail or "").partition("\n")[0])
    if taken and error.sqlstate == "23505":
        field, value = taken.groups()
    placed = re.search(r', column (.*?)(?:: "(.*)")?$', (diagnosis.context or "").partition("\n")[0])
    if placed:
        field, value = placed.groups()
    return Refusal(text, field=field, value=value)
