"""The two small languages of posting templates: account keys with placeholders, and amounts.

A key template is an account key in which `{name}` stands for something of the Move (`{move}`, `{payer}`, an
input …) or of one of its rows (`{line}`, `{line.order}` …). An amount is a whole number, a name, or both
joined by `+ - * //`, `min` and `max`; `bal(debit)` and `bal(credit)` stand for all that is left on that
account of the posting, which only the ledger knows: a balancing leg. Everything is parsed once, when a kind
is read, and names are checked then; nothing is evaluated as Python.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

Amount = int | list[int]
"""One number, or one for each row."""

_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+(?:\.[a-z_]+)?)\}")
_OPERATORS: Final[Mapping[type[ast.operator], Callable[[int, int], int]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}
_FUNCTIONS: Final[Mapping[str, Callable[[int, int], int]]] = {"min": min, "max": max}
_DEPTH_MAX: Final = 20


class TemplateError(ValueError):
    """A template that can't be read. The message says what would be accepted."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text, reason)
        self.text = text
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.text!r}: {self.reason}"


class RowTexts(Protocol):
    """What placeholders stand for, row by row."""

    def __getitem__(self, name: str, /) -> Sequence[str]:
        """One text for each row."""


class KeyTemplate(NamedTuple):
    """A key in pieces: texts at even places, names of placeholders at odd ones."""

    text: str
    pieces: tuple[str, ...]
    rows: tuple[str, ...]  # names that belong to a row

    @property
    def whole(self) -> str:
        """The name of the one placeholder that is all of the template, or ""."""
        return self.pieces[1] if len(self.pieces) == 3 and not self.pieces[0] and not self.pieces[2] else ""

    def one(self, names: Mapping[str, str]) -> str:
        """The key for the whole Move. Raises KeyError for a missing name."""
        pieces = self.pieces
        if len(pieces) == 1:
            return pieces[0]
        return "".join([names[piece] if place & 1 else piece for place, piece in enumerate(pieces)])

    def many(self, names: Mapping[str, str], rows: RowTexts) -> list[str]:
        """A key for each row."""
        texts: list[str | Sequence[str]] = []
        for place, piece in enumerate(self.pieces):
            found = piece if not place & 1 else rows[piece] if piece in self.rows else names[piece]
            if isinstance(found, str) and texts and isinstance(texts[-1], str):
                texts[-1] += found
            else:
                texts.append(found)
        if len(texts) == 3 and isinstance(texts[0], str) and isinstance(texts[2], str):
            before, after = texts[0], texts[2]
            return [before + text + after for text in texts[1]]
        count = len(next(text for text in texts if not isinstance(text, str)))
        columns = [[text] * count if isinstance(text, str) else text for text in texts]
        return ["".join(parts) for parts in zip(*columns, strict=True)]


class AmountTemplate(NamedTuple):
    """An amount, ready to be evaluated. `balancing` is "debit" or "credit" for all that is left there, else
    "".
    """

    text: str
    names: frozenset[str]
    balancing: str
    evaluate: Callable[[Mapping[str, Amount]], Amount]


def parse_key_template(text: str, scalars: frozenset[str], rows: frozenset[str]) -> KeyTemplate:
    """Split a key template at its placeholders. Raises TemplateError for a name that is in neither set."""
    pieces = _PLACEHOLDER.split(text)
    names = pieces[1::2]
    for name in names:
        if name not in scalars and name not in rows:
            raise TemplateError(text, f"unknown name {{{name}}}; known are {_listed(scalars | rows)}")
    if any(brace in piece for piece in pieces[::2] for brace in "{}"):
        raise TemplateError(text, "a placeholder is a name in braces, as in L:order/{move}")
    return KeyTemplate(text, tuple(pieces), tuple(name for name in names if name in rows))


def parse_amount(text: str, scalars: frozenset[str], rows: frozenset[str]) -> AmountTemplate:
    """Read an amount. Raises TemplateError."""
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as exc:
        raise TemplateError(text, "expected names, whole numbers, + - * //, min, max or bal(debit)") from exc
    side = _balanced_side(tree)
    if side:
        return AmountTemplate(text, frozenset(), side, lambda _: 0)
    names: set[str] = set()
    evaluate = _compiled(text, tree, scalars | rows, names, 0)
    return AmountTemplate(text, frozenset(names), "", evaluate)


def _balanced_side(tree: ast.expr) -> str:
    match tree:
        case ast.Call(func=ast.Name(id="bal"), args=[ast.Name(id=side)], keywords=[]) if side in {
            "debit",
            "credit",
        }:
            return side
    return ""


def _compiled(
    text: str, tree: ast.expr, known: frozenset[str], names: set[str], depth: int
) -> Callable[[Mapping[str, Amount]], Amount]:
    """A function that evaluates one node of the tree, itself made of functions for the nodes below."""
    if depth > _DEPTH_MAX:
        raise TemplateError(text, f"nested more than {_DEPTH_MAX} deep")
    match tree:
        case ast.Constant(value=int(number)) if not isinstance(number, bool):
            return lambda _: number
        case ast.Name() | ast.Attribute(value=ast.Name()):
            name = ast.unparse(tree)
            if name not in known:
                raise TemplateError(text, f"unknown name {name}; known are {_listed(known)}")
            names.add(name)
            return lambda values: values[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            function = _OPERATORS[type(op)]
        case ast.Call(func=ast.Name(id=called), args=[left, right], keywords=[]) if called in _FUNCTIONS:
            function = _FUNCTIONS[called]
        case _:
            raise TemplateError(
                text, f"{ast.unparse(tree)} is not accepted; use names, whole numbers, + - * // min max"
            )
    first = _compiled(text, left, known, names, depth + 1)
    second = _compiled(text, right, known, names, depth + 1)
    return lambda values: _combined(function, first(values), second(values))


def _combined(function: Callable[[int, int], int], left: Amount, right: Amount) -> Amount:
    if isinstance(left, int) and isinstance(right, int):
        return function(left, right)
    if isinstance(left, int):
        assert isinstance(right, list)
        return [function(left, value) for value in right]
    if isinstance(right, int):
        return [function(value, right) for value in left]
    return [function(a, b) for a, b in zip(left, right, strict=True)]


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
