"""From what the engine and its queries know of Moves to what clients get."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from actors.runtime import Engine
from engine.commands import MoveAnswer, MovePreview, NextSteps
from engine.entities import Effect, Side
from engine.kinds import CompiledKind
from engine.layout import LegFlag
from gateway.account_views import uuid_or_none
from gateway.descriptions import free_part
from gateway.reading_schemas import KindView, NextStepsView, NextStepView, TransitionView
from gateway.schemas import (
    LineView,
    MoveAnswerView,
    MoveEntryView,
    MoveSummary,
    MoveView,
    PreviewEntry,
    PreviewView,
    StepView,
)
from gateway.wire import Amount, Balance, Instant
from persistence import views


def answer_view(answer: MoveAnswer) -> MoveAnswerView:
    """An accepted request."""
    return MoveAnswerView(
        id=UUID(int=answer.move),
        request=UUID(int=answer.request),
        kind=answer.kind,
        state=answer.state,
        ended=answer.ended,
        version=answer.version,
        seq=answer.seq,
        timestamp=Instant(answer.timestamp),
        legs=answer.leg_count,
        unmatched_quantity=Balance(answer.unmatched_quantity),
        unmatched_amount=Balance(answer.unmatched_amount),
    )


async def preview_view(engine: Engine, preview: MovePreview) -> PreviewView:
    """What a request would do. What resolves a hold names the hold's accounts by id only."""
    unnamed = list({entry.account for entry in preview.entries if not entry.key})
    keys = {}
    if unnamed:
        await engine.wait_projected()
        keys = {account.id: account.key for account in await engine.queries.accounts(unnamed)}
    entries = [
        PreviewEntry(
            account=UUID(int=entry.account),
            key=entry.key or keys.get(entry.account, ""),
            side=entry.side,
            amount=Amount(entry.amount),
            asset=engine.asset_code(entry.asset),
            effect=entry.effect,
        )
        for entry in preview.entries
    ]
    return PreviewView(state=preview.state, entries=entries)


def steps_view(steps: NextSteps) -> NextStepsView:
    """Where a Move can go."""
    return NextStepsView(
        id=UUID(int=steps.move),
        kind=steps.kind,
        state=steps.state,
        version=steps.version,
        transitions=[
            NextStepView(
                transition=step.name,
                allowed=not step.code,
                target=step.target or None,
                needs=step.needs,
                takes=step.takes,
                code=step.code or None,
                reason=step.message or None,
            )
            for step in steps.steps
        ],
    )


def kind_view(compiled: CompiledKind) -> KindView:
    """A kind of Move."""
    kind = compiled.kind
    return KindView(
        name=kind.name,
        code=kind.code,
        states=kind.states,
        ended=[state for state in kind.states if compiled.ended(state)],
        usual=kind.usual,
        needs=kind.needs,
        takes=kind.takes,
        inputs=kind.inputs,
        roles=dict(kind.roles),
        columns=kind.lines.columns if kind.lines is not None else {},
        transitions=[
            TransitionView(
                name=step.name,
                sources=step.sources,
                target=step.target,
                needs=step.needs,
                takes=step.takes,
                inputs=step.inputs,
                by_engine=step.by_engine,
            )
            for step in kind.transitions
        ],
    )


def summary(engine: Engine, move: views.MoveView) -> MoveSummary:
    """A Move as lists show it."""
    return MoveSummary(
        id=UUID(int=move.id),
        kind=move.kind,
        state=move.state,
        ended=move.ended,
        version=move.version,
        payer=uuid_or_none(move.payer),
        payee=uuid_or_none(move.payee),
        asset=engine.asset_code(move.asset) if move.asset else None,
        amount=Amount(move.amount) if move.amount else None,
        reverses=uuid_or_none(move.reverses),
        reference=move.reference,
        metadata=free_part(move.metadata),
        business_time=Instant(move.business_time),
        created=Instant(move.created),
        changed=Instant(move.changed),
    )


def move_view(
    engine: Engine,
    move: views.MoveView,
    steps: Sequence[views.TransitionView],
    journal: Sequence[views.JournalLine],
    reversed_by: Sequence[int],
) -> MoveView:
    """A Move with everything."""
    return MoveView(
        **msgspec.structs.asdict(summary(engine, move)),
        lines=_lines(engine, move.lines or {}),
        steps=[_step(step) for step in steps],
        entries=[entry for line in journal for entry in _entries(engine, line)],
        reversed_by=[UUID(int=other) for other in reversed_by],
    )


def _lines(engine: Engine, columns: dict[str, Any]) -> list[LineView]:
    own: dict[str, list[Any]] = dict(columns.get("columns") or {})
    count = max((len(column) for name, column in columns.items() if name != "columns"), default=0)
    absent: list[Any] = [None] * count
    rows = zip(
        *(
            columns.get(name) or absent
            for name in ("things", "quantities", "amounts", "orders", "order_lines", "reasons")
        ),
        strict=True,
    )
    return [
        LineView(
            line=number,
            thing=engine.asset_code(thing) if thing else None,
            quantity=None if quantity is None else Balance(quantity),
            amount=None if amount is None else Balance(amount),
            order=UUID(order) if order else None,
            order_line=order_line or None,
            reason=reason or None,
            inputs={name: column[number - 1] for name, column in own.items()},
        )
        for number, (thing, quantity, amount, order, order_line, reason) in enumerate(rows, start=1)
    ]


def _step(step: views.TransitionView) -> StepView:
    return StepView(
        seq=step.seq,
        request=UUID(int=step.request),
        transition=step.transition,
        state=step.state,
        timestamp=Instant(step.timestamp),
        business_time=Instant(step.business_time),
        amount=Amount(step.amount) if step.amount else None,
        legs=step.leg_count,
        inputs=step.inputs,
        metadata=free_part(step.metadata),
    )


def _entries(engine: Engine, line: views.JournalLine) -> list[MoveEntryView]:
    leg = line.leg
    effect, amount = Effect.POSTED, leg.amount
    if leg.flags & LegFlag.PENDING:
        effect = Effect.HELD
    elif leg.flags & LegFlag.VOID_PENDING:
        effect, amount = Effect.RELEASED, leg.held
    return [
        MoveEntryView(
            seq=line.seq,
            leg=UUID(int=leg.id),
            account=UUID(int=account),
            key=key,
            side=side,
            amount=Amount(amount),
            asset=engine.asset_code(leg.asset),
            effect=effect,
            timestamp=Instant(leg.timestamp),
        )
        for side, account, key in (
            (Side.DEBIT, leg.debit, line.debit_key),
            (Side.CREDIT, leg.credit, line.credit_key),
        )
    ]
