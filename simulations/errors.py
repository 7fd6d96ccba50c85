"""What can be wrong with a simulation's input, said so that it can be put right; errors survive pickling."""


class SimulationError(Exception):
    """Base of all errors raised by the simulations."""


class SalesFileError(SimulationError):
    """A sales file cannot be read, and nothing of it was posted.

    `line` (from 1, the header included) and `column` are None where the trouble is with the file as a whole;
    `accepted` says what would be accepted.
    """

    def __init__(
        self, path: str, problem: str, line: int | None = None, column: str | None = None, accepted: str = ""
    ) -> None:
        super().__init__(path, problem, line, column, accepted)
        self.path = path
        self.problem = problem
        self.line = line
        self.column = column
        self.accepted = accepted

    def __str__(self) -> str:
        where = self.path
        if self.line is not None:
            where += f", line {self.line}"
        if self.column is not None:
            where += f", column {self.column}"
        return f"{where}: {self.problem}" + (f" (accepted: {self.accepted})" if self.accepted else "")


class PaymentsFileError(SimulationError):
    """A file of payments or transfers cannot be used. `column` says where, `accepted` what would do."""

    def __init__(self, path: str, problem: str, column: str | None = None, accepted: str = "") -> None:
        super().__init__(path, problem, column, accepted)
        self.path = path
        self.problem = problem
        self.column = column
        self.accepted = accepted

    def __str__(self) -> str:
        where = self.path if self.column is None else f"{self.path}, column {self.column}"
        return f"{where}: {self.problem}" + (f" (accepted: {self.accepted})" if self.accepted else "")
