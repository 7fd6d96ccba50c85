"""What callers of the actors may meet besides results: every error carries its facts and survives
pickling."""


class ActorError(Exception):
    """Base of all errors raised by the actors."""


class Overloaded(ActorError):  # noqa: N818  # a state of the shard, not a mistake of the caller
    """A bounded queue is full; nothing was taken. Try again after `retry_after_s` seconds."""

    def __init__(self, what: str, retry_after_s: int) -> None:
        super().__init__(what, retry_after_s)
        self.what = what
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.what}; try again in {self.retry_after_s} s"


class ShardStopped(ActorError):  # noqa: N818  # a state of the shard, not a mistake of the caller
    """The shard serves no more. What was sent and not answered may or may not have happened: send it again
    with the same ids once a shard serves, and it happens exactly once."""

    def __init__(self, shard: int, reason: str) -> None:
        super().__init__(shard, reason)
        self.shard = shard
        self.reason = reason

    def __str__(self) -> str:
        return f"shard {self.shard} has stopped: {self.reason}"


class ClusterRefused(ActorError):  # noqa: N818  # named for what it tells
    """A cluster can't be run or reached as asked: why, and what to do about it."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason, hint)
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return self.reason


class InvalidRequest(ActorError):  # noqa: N818  # named for the caller
    """The request itself is wrong and changed nothing; `where` names the field, `accepted` what would be
    accepted."""

    def __init__(self, where: str, problem: str, accepted: str = "") -> None:
        super().__init__(where, problem, accepted)
        self.where = where
        self.problem = problem
        self.accepted = accepted

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}" + (f" (accepted: {self.accepted})" if self.accepted else "")


class NotFound(ActorError):  # noqa: N818  # named for the caller
    """There is no such party, thing, account or Move."""

    def __init__(self, what: str, key: str) -> None:
        super().__init__(what, key)
        self.what = what
        self.key = key

    def __str__(self) -> str:
        return f"no {self.what} {self.key}"
