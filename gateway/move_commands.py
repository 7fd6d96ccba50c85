"""From a Move as a client writes it, row by row, to the command that the engine takes, column by column."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

import msgspec

from engine.commands import JournalEntries, JournalLegs, Lines, MoveCommand
from gateway.problems import gateway_problem
from gateway.schemas import (
    JournalEntryDraft,
    JournalLegDraft,
    LineDraft,
    MoveDraft,
    PreviewDraft,
    TransitionDraft,
)

T = TypeVar("T")


class _Column(NamedTuple):
    """A column of lines: its field, and what stands for a line without it (None = all must have it)."""

    field: str
    absent: Any
    read: Callable[[LineDraft], Any]


_COLUMNS: Final = {
    "things": _Column("thing", "", lambda line: line.thing or None),
    "quantities": _Column(
        "quantity", None, lambda line: None if line.quantity is None else int(line.quantity)
    ),
    "amounts": _Column("amount", None, lambda line: None if line.amount is None else int(line.amount)),
    "orders": _Column("order", 0, lambda line: line.order and line.order.int),
    "order_lines": _Column("order_line", 0, lambda line: line.order_line),
    "reasons": _Column("reason", "", lambda line: line.reason or None),
}


def creation(draft: MoveDraft, request: int) -> MoveCommand:
    """The command that creates a Move, with `request` as its id and the Move's."""
    return MoveCommand(
        id=request,
        kind=draft.kind,
        transition=draft.transition,
        payer=id_or_zero(draft.payer),
        payee=id_or_zero(draft.payee),
        asset=draft.asset or "",
        amount=int(draft.amount or 0),
        tender=draft.tender,
        reason=draft.reason,
        lines=_lines(draft.lines),
        legs=_legs(draft.legs),
        entries=_entries(draft.entries),
        reverses=id_or_zero(draft.reverses),
        reference=draft.reference,
        metadata=draft.metadata,
        inputs=draft.inputs,
        business_time=int(draft.business_time or 0),
        timeout=draft.timeout,
    )


def step(draft: TransitionDraft, move: UUID, transition: str, request: int) -> MoveCommand:
    """The command that takes a Move one transition further."""
    return MoveCommand(
        id=request,
        move=move.int,
        transition=transition,
        amount=int(draft.amount or 0),
        tender=draft.tender,
        reason=draft.reason,
        lines=_lines(draft.lines),
        metadata=draft.metadata,
        inputs=draft.inputs,
        business_time=int(draft.business_time or 0),
        timeout=draft.timeout,
        if_version=draft.if_version,
    )


def trial(draft: PreviewDraft, request: int) -> MoveCommand:
    """The command that a preview tries out."""
    command = creation(draft, request)
    return msgspec.structs.replace(command, move=id_or_zero(draft.move), if_version=draft.if_version)


def id_or_zero(value: UUID | None) -> int:
    """An id as the engine has it, 0 being none."""
    return value.int if value else 0


def _lines(drafts: Sequence[LineDraft] | None) -> Lines | None:
    if drafts is None:
        return None
    columns = {name: [column.read(line) for line in drafts] for name, column in _COLUMNS.items()}
    return Lines(
        **{name: _filled(name, values) for name, values in columns.items()}, columns=_own_columns(drafts)
    )


def _own_columns(drafts: Sequence[LineDraft]) -> dict[str, list[int | str]]:
    """Columns of a kind's own. All lines have those that one has."""
    names = {name: None for draft in drafts for name in draft.inputs}
    for name in names:
        for place, draft in enumerate(drafts):
            if name not in draft.inputs:
                where = f"lines[{place}].inputs.{name}"
                raise gateway_problem("missing_field", f"{where}: other lines have it, so all must.", where)
    return {name: [draft.inputs[name] for draft in drafts] for name in names}


def _filled(name: str, values: list[Any]) -> list[Any]:
    """A column, empty if no line has it; where only some have it, the others must be able to do without."""
    if all(value is None for value in values):
        return []
    column = _COLUMNS[name]
    if column.absent is None and None in values:
        where = f"lines[{values.index(None)}].{column.field}"
        raise gateway_problem("missing_field", f"{where}: other lines have it, so all must.", where)
    return [column.absent if value is None else value for value in values]


def _legs(drafts: Sequence[JournalLegDraft] | None) -> JournalLegs | None:
    if drafts is None:
        return None
    return JournalLegs(
        debits=[draft.debit for draft in drafts],
        credits=[draft.credit for draft in drafts],
        amounts=[int(draft.amount) for draft in drafts],
        assets=[draft.asset for draft in drafts],
    )


def _entries(drafts: Sequence[JournalEntryDraft] | None) -> JournalEntries | None:
    if drafts is None:
        return None
    return JournalEntries(
        accounts=[draft.account for draft in drafts],
        sides=[draft.side for draft in drafts],
        amounts=[int(draft.amount) for draft in drafts],
        assets=[draft.asset for draft in drafts],
    )
