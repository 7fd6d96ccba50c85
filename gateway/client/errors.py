"""What can go wrong for a client, beside results, which are values."""

from collections.abc import Sequence


class ClientError(Exception):
    """Base of everything that this package raises."""


class RequestRefused(ClientError):  # noqa: N818  # says what happened
    """The server refused a request as a whole, and changed nothing. Sending it again won't help.

    `code` is one word for programs, `where` the field, column or parameter that is wrong.
    """

    def __init__(self, status: int, code: str, detail: str, where: str = "", accepted: str = "") -> None:
        super().__init__(status, code, detail, where, accepted)
        self.status = status
        self.code = code
        self.detail = detail
        self.where = where
        self.accepted = accepted

    def __str__(self) -> str:
        accepted = f" (accepted: {self.accepted})" if self.accepted else ""
        return f"{self.code}: {self.detail}{accepted}"


class Unavailable(ClientError):  # noqa: N818  # says what happened
    """The server could not be reached, or took no work, for as long as the client was told to try.

    Whatever was on its way may have happened: send the same legs with the same ids again, and it happens
    once.
    """

    def __init__(self, reason: str, attempts: int) -> None:
        super().__init__(reason, attempts)
        self.reason = reason
        self.attempts = attempts

    def __str__(self) -> str:
        return f"gave up after {self.attempts} attempts: {self.reason}"


class RowsRefused(ClientError):  # noqa: N818  # says what happened
    """Some legs or accounts were refused; the others are in the ledger. Raised by `Answers.check` only."""

    def __init__(self, refused: int, of: int, row: int, code: str) -> None:
        super().__init__(refused, of, row, code)
        self.refused = refused
        self.of = of
        self.row = row
        self.code = code

    def __str__(self) -> str:
        return f"{self.refused} of {self.of} were refused, the first, at row {self.row}, with {self.code}"


class InvalidColumns(ClientError, ValueError):  # noqa: N818  # says what happened
    """What was given can't be made into columns; nothing was sent."""

    def __init__(self, column: str, problem: str, accepted: Sequence[str] = ()) -> None:
        super().__init__(column, problem, tuple(accepted))
        self.column = column
        self.problem = problem
        self.accepted = tuple(accepted)

    def __str__(self) -> str:
        accepted = f" (accepted: {', '.join(self.accepted)})" if self.accepted else ""
        return f"{self.column}: {self.problem}{accepted}"
