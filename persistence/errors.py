# ruff: noqa: N818  # names that say what happened read better than ones that all end in "Error"
"""What can go wrong between the engine and PostgreSQL, in words of our own.

Nothing above `persistence/` sees a psycopg exception: this package translates at its edge. Every error
carries the ids and the state that its reader needs, as attributes, and survives pickling.
"""

from collections.abc import Mapping
from typing import Any


def _rebuild(
    kind: type["PersistenceError"], args: tuple[Any, ...], state: dict[str, Any]
) -> "PersistenceError":
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class PersistenceError(Exception):
    """The base of this package's errors. `state` holds what else is known, by name."""

    def __init__(self, message: str, **state: object) -> None:
        super().__init__(message)
        self.state: Mapping[str, object] = state

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class EmbeddedServerFailed(PersistenceError):
    """The embedded server could not be made, started or stopped; `data_dir` says which."""

    def __init__(self, message: str, data_dir: str, **state: object) -> None:
        super().__init__(message, **state)
        self.data_dir = data_dir


class DatabaseUnreachable(PersistenceError):
    """No connection after `attempts` tries in `seconds` seconds."""

    def __init__(self, message: str, attempts: int, seconds: float) -> None:
        super().__init__(message)
        self.attempts = attempts
        self.seconds = seconds


class DatabaseRefused(PersistenceError):
    """A database that must not be used; `reason` is one word: version, pooler, standby, fsync, clock,
    settings."""

    def __init__(self, message: str, reason: str, **state: object) -> None:
        super().__init__(message, **state)
        self.reason = reason


class QueryFailed(PersistenceError):
    """PostgreSQL refused a statement; `sqlstate` is its five-character code, empty if it gave none."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class ConnectionLost(QueryFailed):
    """The session ended while a statement was under way; whether a write took effect is unknown."""


class SchemaNewer(PersistenceError):
    """A newer Tessera migrated this database: it has migration `found`, this code knows up to `known`."""

    def __init__(self, message: str, found: int, known: int) -> None:
        super().__init__(message)
        self.found = found
        self.known = known


class SchemaOlder(PersistenceError):
    """This database has migration `found`, and whoever may not migrate it needs `known`."""

    def __init__(self, message: str, found: int, known: int) -> None:
        super().__init__(message)
        self.found = found
        self.known = known


class SchemaChanged(PersistenceError):
    """Migration `number` was applied with other content than this code's."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class LogError(PersistenceError):
    """The base of the log's errors; `shard` says whose."""

    def __init__(self, message: str, shard: int, **state: object) -> None:
        super().__init__(message, **state)
        self.shard = shard


class LockHeld(LogError):
    """Another session is the shard's writer: its backend's `pid`, its `application`, connected `since`."""

    def __init__(self, message: str, shard: int, pid: int, application: str, since: str) -> None:
        super().__init__(message, shard)
        self.pid = pid
        self.application = application
        self.since = since


class Deposed(LogError):
    """This writer no longer owns the log: another one took over. It must neither append nor answer."""


class OutcomeUnknown(LogError):
    """Whether records `first` to `last` are durable is unknown; only `Log.resolve` can tell."""

    def __init__(self, message: str, shard: int, first: int, last: int) -> None:
        super().__init__(message, shard)
        self.first = first
        self.last = last


class LogUnavailable(LogError):
    """The log cannot be written now; nothing of the attempted append is there."""


class LogFull(LogUnavailable):
    """PostgreSQL has no disk space left; nothing of the attempted append is there."""


class LogDiverged(LogError):
    """The log holds something else at `lsn` than this writer put there: recover from the log."""

    def __init__(self, message: str, shard: int, lsn: int) -> None:
        super().__init__(message, shard)
        self.lsn = lsn


class LogDamaged(LogError):
    """The log itself is wrong at `lsn`: a hole, a falling epoch or a broken chain."""

    def __init__(self, message: str, shard: int, lsn: int) -> None:
        super().__init__(message, shard)
        self.lsn = lsn


class ProjectionConflict(PersistenceError):
    """The projection is not where this projector left it: another one is at work."""

    def __init__(self, message: str, shard: int) -> None:
        super().__init__(message)
        self.shard = shard


class ProjectionGap(PersistenceError):
    """The projection needs record `expected` next and was given `found`."""

    def __init__(self, message: str, shard: int, expected: int, found: int) -> None:
        super().__init__(message)
        self.shard = shard
        self.expected = expected
        self.found = found


class FilterRefused(PersistenceError):
    """A question that makes no sense; `field` is the part of the filter that is wrong."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class KeyNotFound(PersistenceError):
    """There is no API key of that `id`."""

    def __init__(self, message: str, id: str) -> None:
        super().__init__(message)
        self.id = id


class WebhookGone(PersistenceError):
    """There is no webhook of that `id` any more."""

    def __init__(self, message: str, id: str) -> None:
        super().__init__(message)
        self.id = id


class LeaseLost(PersistenceError):
    """Another gateway has taken over."""


class TooManyWebhooks(PersistenceError):
    """There are as many webhooks as a tenant may have, `limit`."""

    def __init__(self, message: str, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class SnapshotTooEarly(PersistenceError):
    """A snapshot of the state after record `lsn`, which is not in the log."""

    def __init__(self, message: str, shard: int, lsn: int) -> None:
        super().__init__(message)
        self.shard = shard
        self.lsn = lsn


class ExportRefused(PersistenceError):
    """An export that is not what was written, or that can't be made or used here; `path` says which file."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


class BackupRefused(PersistenceError):
    """A backup that can't be made or used here, or is not what was written; `path` says which file or
    folder."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path
