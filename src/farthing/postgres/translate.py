"""psycopg's errors as ours, by table.

What decides is whether the same statement with the same values can ever succeed. It can once the server is back, has room, is
migrated or has let go of a lock: `Unavailable`. It cannot when a value breaks a type, a constraint or a limit: `InvalidRequest`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import psycopg
from psycopg import errors as pg

from farthing.errors import FarthingError, InvalidRequest, Unavailable

TABLE: dict[type[psycopg.Error], type[InvalidRequest | Unavailable]] = {
    psycopg.DataError: InvalidRequest,  # SQLSTATE class 22: \u0000, a number out of range, text that is no UUID
    psycopg.IntegrityError: InvalidRequest,  # class 23: NULL where a value must be, a CHECK, a unique key
    pg.ProgramLimitExceeded: InvalidRequest,  # 54000: too long for its index
    pg.StatementTooComplex: InvalidRequest,  # 54001: JSON nested too deep
    pg.TooManyColumns: InvalidRequest,
    pg.TooManyArguments: InvalidRequest,
    psycopg.OperationalError: Unavailable,  # connection, resources, locks, deadlocks, time-outs, shutdown; the pool's own errors
    psycopg.InterfaceError: Unavailable,  # the connection was closed under us
    psycopg.InternalError: Unavailable,  # damaged data, a transaction that has failed already, a read-only standby
    psycopg.ProgrammingError: Unavailable,  # a table, role or right is missing: not migrated, or not by this version
    psycopg.NotSupportedError: Unavailable,  # an older server than we asked for
    psycopg.DatabaseError: Unavailable,  # SQLSTATEs that psycopg files under no standard class
}
"""The nearest class in the order of inheritance counts."""


def translate(error: psycopg.Error) -> InvalidRequest | Unavailable:
    """Our error for one of psycopg's. The original belongs into `__cause__`.

    The message of `Unavailable` may reach a stranger, so it holds no address and no SQL.
    """
    kind = next((TABLE[base] for base in type(error).__mro__ if base in TABLE), Unavailable)
    if kind is InvalidRequest:
        return InvalidRequest(f"PostgreSQL cannot store this: {error.diag.message_primary or error}")
    return Unavailable(f"The database cannot serve this now ({type(error).__name__}).")


@contextmanager
def translated() -> Iterator[None]:
    """Raise our errors for psycopg's. Text that is not Unicode (lone surrogates) is an `InvalidRequest` too."""
    try:
        yield
    except FarthingError:
        raise
    except psycopg.Error as error:
        raise translate(error) from error
    except UnicodeError as error:
        raise InvalidRequest(f"PostgreSQL cannot store this: {error.reason if isinstance(error, UnicodeEncodeError) else error}") from error


_REFUSED = ("password authentication failed", "no pg_hba.conf entry", "no password supplied", "authentication failed", "does not exist")
"""What PostgreSQL and libpq say of a login that will not succeed by waiting. Before the login there is no SQLSTATE, only this text."""


class Absence(msgspec.Struct, frozen=True, kw_only=True):
    """Why a database was away. `refused`: it is there and turns this login down, or has no such database. For the operator's log only."""

    reason: str
    refused: bool


def absence(error: BaseException) -> Absence:
    """What is behind an `Unavailable`, in one line."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = " ".join(str(cause).split()) or type(cause).__name__
    refused = isinstance(cause, psycopg.OperationalError) and any(fragment in text for fragment in _REFUSED)
    return Absence(reason=text, refused=refused)
