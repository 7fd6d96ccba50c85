"""A command on its way through the Moves' book, and what became of it: the fact, the stored answer, the
answer.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from engine import ids
from engine.chart import CLASSES
from engine.commands import MoveAnswer, MoveCommand
from engine.drafts import Draft, Lookup, MoveBlock, compile_block
from engine.facts import NO_ID, LineFacts, MoveFact, RequestFact
from engine.kinds import EXPIRE, CompiledKind
from engine.layout import SECOND_NS, LegColumns, OpenColumns
from engine.requests import Remembered
from engine.results import Result

_EXPIRY_REQUESTS: Final = 1 << 40
"""Where the numbers begin by which ids are made for expiries; legs have lower ones."""
_SLUGS: Final = {int(result): result.slug for result in Result}
_UNBROKEN: Final = (int(Result.CREATED), int(Result.LINKED_EVENT_FAILED))
_REASONS: Final = {
    Result.EXCEEDS_PENDING_TRANSFER_AMOUNT.slug: "that is more than is held",
}


_NOTHING_KEPT: Final[Mapping[str, int | str]] = {}
_GUARDS: Final = {Result.BELOW_FLOOR.slug, Result.ABOVE_CEILING.slug}


class OpenMove(msgspec.Struct, array_like=True, gc=False):
    """A Move that has not ended."""

    id: bytes
    kind: str
    state: str
    seq: int
    business_time: int
    payer: bytes
    payee: bytes
    asset: int
    amount: int
    tender: str
    reason: str
    reverses: bytes
    reference: str | None
    lines: LineFacts | None
    inputs: dict[str, int | str]
    holds: list[bytes]  # open holds, by leg id
    expires_at: int  # when the first of them runs out, 0 = never


class Prepared:
    """A command that was judged acceptable so far, with the legs it causes."""

    def __init__(
        self, command: MoveCommand, digest: bytes, kind: CompiledKind, move: OpenMove, lookup: Lookup
    ) -> None:
        self.command = command
        self.digest = digest
        self.kind = kind
        self.move = move  # as it was before; of a creation, as it would start
        self.transition = command.transition
        self.target = ""  # the state it would lead to
        self.ended = False
        self.refusal: tuple[str, str] | None = None  # code and message, if it is refused already
        self.seq = 0
        self.draft: Draft | None = None
        self.holds: list[int] = []  # open after it
        self.metadata = b""
        self.business_time = 0
        self.goes_elsewhere = False  # whether some of its accounts are on other shards
        self.parties: list[int] = []  # that must be there, on other shards
        self.lines: LineFacts | None = None  # of this request alone
        self.kept: Mapping[str, int | str] = _NOTHING_KEPT  # counters after it
        self.reads = False  # whether it was judged by balances as they are now
        self._lookup = lookup
        self._block: MoveBlock | None = None

    @property
    def leg_count(self) -> int:
        """How many legs it causes."""
        return len(self.draft) if self.draft is not None else 0

    @property
    def block(self) -> MoveBlock:
        """Its legs as columns. To make the columns of many at once, see `MoveBook.compile`."""
        if self._block is None:
            assert self.draft is not None
            self._block = compile_block([self.draft], self._lookup)
        return self._block

    @property
    def legs(self) -> LegColumns | None:
        """Its legs, None if there are none."""
        return self.block.legs if self.leg_count else None

    @property
    def opens(self) -> OpenColumns:
        """The accounts to open for them."""
        return self.block.opens

    @property
    def open_keys(self) -> list[str]:
        """Their keys."""
        return self.block.keys


def leg_refusal(prepared: Prepared, status: npt.NDArray[np.uint8]) -> tuple[str, str] | None:
    """Code and message of the leg that broke the chain, None if there is none."""
    if not status.any():
        return None
    broken = np.flatnonzero((status != _UNBROKEN[0]) & (status != _UNBROKEN[1]))
    if not len(broken):
        return None
    leg = int(broken[0])
    code = _SLUGS[int(status[leg])]
    draft = prepared.draft
    assert draft is not None
    debit, credit = draft.account_key(draft.debits[leg]), draft.account_key(draft.credits[leg])
    what = f"{debit} > {credit} = {draft.amounts[leg]}" if debit else f"hold = {draft.amounts[leg]}"
    if code in _GUARDS:
        below = code == Result.BELOW_FLOOR.slug
        account = debit if below else credit
        too_little = CLASSES[account[0]].credit_normal is below
        reason = f"{account} {'has too little' if too_little else 'would go beyond its limit'}"
    else:
        reason = _REASONS.get(code, code.replace("_", " "))
    return code, f"leg {leg + 1} of {len(draft)}, {what}: {reason}"


def fact_of(prepared: Prepared, timestamp: int, refusal: tuple[str, str] | None) -> MoveFact:
    """What became of a prepared command."""
    command, move = prepared.command, prepared.move
    creating = not command.move
    if refusal is not None:
        code, message = refusal
        return MoveFact(
            request=move.id if creating else ids.id_bytes(command.id),
            move=move.id,
            kind=move.kind,
            transition=command.transition,
            state="" if creating else move.state,
            ended=False,
            seq=move.seq,
            timestamp=timestamp,
            business_time=prepared.business_time,
            payer=move.payer,
            digest=prepared.digest,
            code=code,
            message=message,
        )
    lines = move.lines if creating else prepared.lines
    units, money = _unmatched(lines, prepared.kind)
    limited = prepared.kind.has_deadline(prepared.target)
    expires_at = move.expires_at if prepared.holds or limited else 0
    if command.timeout and (prepared.holds or limited):
        ends = timestamp + command.timeout * SECOND_NS
        expires_at = min(expires_at, ends) if expires_at and not limited else ends
    return MoveFact(
        request=move.id if creating else ids.id_bytes(command.id),
        move=move.id,
        kind=move.kind,
        transition=prepared.transition,
        state=prepared.target,
        ended=prepared.ended,
        seq=prepared.seq,
        timestamp=timestamp,
        business_time=prepared.business_time,
        payer=move.payer,
        payee=move.payee,
        asset=move.asset,
        amount=command.amount,
        tender=move.tender,
        digest=prepared.digest,
        reference=command.reference,
        reverses=move.reverses if creating else NO_ID,
        lines=lines,
        inputs={**command.inputs, **prepared.kept} if prepared.kept else command.inputs,
        holds=[ids.id_bytes(hold) for hold in prepared.holds],
        expires_at=expires_at,
        metadata=prepared.metadata,
        unmatched_quantity=units,
        unmatched_amount=money,
        leg_count=prepared.leg_count,
        reason=move.reason,
    )


def _unmatched(lines: LineFacts | None, kind: CompiledKind) -> tuple[int, int]:
    """Units and money of lines that reverse nothing known, for kinds whose lines may reverse."""
    if lines is None or kind.kind.lines is None or "orders" not in kind.kind.lines.takes:
        return 0, 0
    if not lines.order_lines:
        return sum(lines.quantities), sum(lines.amounts)
    units, money = (
        sum(value for value, line in zip(column, lines.order_lines, strict=True) if not line) if column else 0
        for column in (lines.quantities, lines.amounts)
    )
    return units, money


def opened(fact: MoveFact) -> OpenMove:
    """The Move that a creation made."""
    return OpenMove(
        id=fact.move,
        kind=fact.kind,
        state=fact.state,
        seq=fact.seq,
        business_time=fact.business_time,
        payer=fact.payer,
        payee=fact.payee,
        asset=fact.asset,
        amount=fact.amount,
        tender=fact.tender,
        reason=fact.reason,
        reverses=fact.reverses,
        reference=fact.reference,
        lines=fact.lines,
        inputs=fact.inputs,
        holds=fact.holds,
        expires_at=fact.expires_at,
    )


def remembered_of(fact: MoveFact | RequestFact) -> Remembered:
    """The answer to keep."""
    if isinstance(fact, RequestFact):
        return Remembered(
            request=fact.request,
            digest=fact.digest,
            move=NO_ID,
            kind="",
            state="",
            seq=0,
            timestamp=fact.timestamp,
            ended=False,
            code="",
            message="",
            unmatched_quantity=0,
            unmatched_amount=0,
            leg_count=0,
            answer=fact.answer,
        )
    return Remembered(
        request=fact.request,
        digest=fact.digest,
        move=fact.move,
        kind=fact.kind,
        state=fact.state,
        seq=fact.seq,
        timestamp=fact.timestamp,
        ended=fact.ended,
        code=fact.code,
        message=fact.message,
        unmatched_quantity=fact.unmatched_quantity,
        unmatched_amount=fact.unmatched_amount,
        leg_count=fact.leg_count,
    )


def answer_of(request: int, stored: Remembered, replayed: bool = False) -> MoveAnswer:
    """The answer to give."""
    return MoveAnswer(
        request=request,
        move=ids.id_from_bytes(stored.move),
        kind=stored.kind,
        state=stored.state,
        seq=stored.seq,
        version=stored.seq + 1 if stored.state else 0,
        timestamp=stored.timestamp,
        code=stored.code,
        message=stored.message,
        replayed=replayed,
        ended=stored.ended,
        unmatched_quantity=stored.unmatched_quantity,
        unmatched_amount=stored.unmatched_amount,
        leg_count=stored.leg_count,
    )


def expiry_fact(kind: CompiledKind | None, move: OpenMove, hold: int, timestamp: int) -> MoveFact:
    """What follows for a Move when one of its holds runs out; nobody requested it."""
    step = kind.steps.get((move.state, EXPIRE)) if kind is not None else None
    seq = move.seq + 1
    left = [other for other in move.holds if ids.id_from_bytes(other) != hold]
    return MoveFact(
        request=ids.id_bytes(ids.leg_id(ids.id_from_bytes(move.id), _EXPIRY_REQUESTS + seq)),
        move=move.id,
        kind=move.kind,
        transition=EXPIRE,
        state=step.transition.target if step is not None else move.state,
        ended=step is not None and step.ended,
        seq=seq,
        timestamp=timestamp,
        business_time=timestamp,
        payer=move.payer,
        payee=move.payee,
        asset=move.asset,
        tender=move.tender,
        holds=left,
        expires_at=move.expires_at if left else 0,
    )
