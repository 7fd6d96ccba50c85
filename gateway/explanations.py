"""Why a Move's amounts are what they are, so that somebody can read it out: its lines, its steps with every
leg in words, what of it was taken back by whom, and the Moves that it has to do with.

Moves meet on accounts named after one of them (`L:order/{order}`, `M:reversible/{order}#1/psp`). So whoever
else has legs on an account that has this Move's id in its key has to do with it, and so has every Move whose
id is in the key of an account that this one has touched.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from actors.errors import NotFound
from actors.runtime import Engine
from engine.ids import format_id
from engine.layout import LegFlag
from gateway.explanation_schemas import ExplainedLine, ExplainedStep, ExplanationView, RelatedMove
from persistence.views import AccountFilter, EntryView, JournalLine, MoveView, TransitionView

ENTRIES_MAX: Final = 200
"""Entries of one account that are looked through for other Moves."""
ACCOUNTS_MAX: Final = 50
"""Accounts that are."""
_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_REVERSIBLE: Final = "M:reversible/"


async def explanation_of(engine: Engine, move: int) -> ExplanationView:
    """Everything there is to say about a Move. Raises NotFound."""
    found = await engine.queries.moves_by_id([move])
    if not found:
        raise NotFound("Move", format_id(move))
    [summary] = found
    steps = await engine.queries.transitions(move)
    journal = await engine.queries.journal(move)
    met = await _met(engine, move, journal)
    others = await _others(engine, summary, journal, met)
    assets = [line.leg.asset for line in journal] + [entry.asset for one in met.values() for entry in one]
    teller = await _Teller.of(engine, [*assets, summary.asset])
    lines = _lines(teller, engine, summary)
    related = [_related(teller, summary, other, met.get(other.id, [])) for other in others]
    told = [_opening(teller, summary)]
    told += [line.sentence for line in lines]
    explained = _steps(teller, steps, journal)
    told += [sentence for step in explained for sentence in step.sentences]
    told += [sentence for other in related for sentence in other.sentences]
    told += await _left(teller, engine, move, journal)
    return ExplanationView(
        move=UUID(int=move),
        kind=summary.kind,
        state=summary.state,
        lines=lines,
        steps=explained,
        related=related,
        sentences=told,
    )


class _Teller:
    """Writes amounts as people do: 1250 of a currency with two places is 12.50 EUR."""

    def __init__(self, codes: Mapping[int, str], places: Mapping[str, int]) -> None:
        self._codes = codes
        self._places = places  # by code

    @classmethod
    async def of(cls, engine: Engine, assets: Iterable[int]) -> "_Teller":
        """For amounts in these assets."""
        codes = {asset: engine.asset_code(asset) for asset in {*assets} - {0}}
        things = await engine.queries.things_by_code(engine.settings.tenant, list(codes.values()))
        return cls(codes, {thing.code: thing.exponent for thing in things})

    def money(self, amount: int, asset: int) -> str:
        """An amount with its unit."""
        code = self._codes[asset]
        places = self._places[code]
        digits = str(abs(amount)).rjust(places + 1, "0")
        number = f"{digits[:-places]}.{digits[-places:]}" if places else digits
        return f"{'-' if amount < 0 else ''}{number} {code}"


def _opening(teller: _Teller, move: MoveView) -> str:
    said = f"This is a Move of the kind {move.kind}, now {move.state}"
    if move.amount:
        said += f", over {teller.money(move.amount, move.asset)}"
    if move.reverses:
        said += f"; it reverses {format_id(move.reverses)}"
    return said + "."


def _lines(teller: _Teller, engine: Engine, move: MoveView) -> list[ExplainedLine]:
    columns = move.lines or {}
    own: Mapping[str, Sequence[Any]] = columns.get("columns", {})
    count = max((len(column) for name, column in columns.items() if name != "columns"), default=0)
    return [_line(teller, engine, move, columns, own, at) for at in range(count)]


def _line(
    teller: _Teller,
    engine: Engine,
    move: MoveView,
    columns: Mapping[str, Any],
    own: Mapping[str, Sequence[Any]],
    at: int,
) -> ExplainedLine:
    thing = columns["things"][at] if columns.get("things") else 0
    said = f"Line {at + 1}:"
    if columns.get("quantities"):
        said += f" {columns['quantities'][at]} of {engine.asset_code(thing) if thing else 'something'}"
    if columns.get("amounts"):
        amount = columns["amounts"][at]
        said += f" for {teller.money(amount, move.asset) if move.asset else amount}"
    if columns.get("orders") and columns["orders"][at]:
        said += f", of line {columns['order_lines'][at]} of {columns['orders'][at]}"
    if columns.get("reasons") and columns["reasons"][at]:
        said += f", because of {columns['reasons'][at]}"
    extras = {name: column[at] for name, column in own.items()}
    if extras:
        said += "; " + ", ".join(f"{name} {value}" for name, value in extras.items())
    return ExplainedLine(line=at + 1, sentence=said + ".", inputs=extras)


def _steps(
    teller: _Teller, steps: Sequence[TransitionView], journal: Sequence[JournalLine]
) -> list[ExplainedStep]:
    return [
        ExplainedStep(
            seq=step.seq,
            transition=step.transition,
            state=step.state,
            request=UUID(int=step.request),
            principal=step.principal,
            sentences=[
                f"Step {step.seq}, {step.transition or 'creation'}: it is {step.state}.",
                *(_leg_said(teller, line) for line in journal if line.seq == step.seq),
            ],
        )
        for step in steps
    ]


def _leg_said(teller: _Teller, line: JournalLine) -> str:
    amount = teller.money(line.leg.amount, line.leg.asset)
    debit, credit = line.debit_key or "an account", line.credit_key or "an account"
    if debit.startswith(_REVERSIBLE):
        return f"{amount} may be taken back from then on ({debit})."
    if credit.startswith(_REVERSIBLE):
        return f"{amount} less may be taken back of what was paid ({credit})."
    if line.leg.flags & LegFlag.VOID_PENDING:
        held = teller.money(line.leg.held, line.leg.asset)
        return f"{held} are not held any more: debit {debit}, credit {credit}."
    held = " are held" if line.leg.flags & LegFlag.PENDING else ""
    return f"{amount}{held}: debit {debit}, credit {credit}."


async def _met(engine: Engine, move: int, journal: Sequence[JournalLine]) -> dict[int, list[EntryView]]:
    """Entries of other Moves on the accounts that this one has touched and that are named after it."""
    own = format_id(move)
    accounts = {
        account: key
        for line in journal
        for account, key in ((line.leg.debit, line.debit_key), (line.leg.credit, line.credit_key))
        if own in key
    }
    met: dict[int, list[EntryView]] = {}
    for account in list(accounts)[:ACCOUNTS_MAX]:
        try:
            page = await engine.queries.entries(AccountFilter(account=account, limit=ENTRIES_MAX))
        except NotFound:
            continue  # it is another Party's, and not the caller's to know of
        for entry in page.items:
            if entry.move not in {0, move}:
                met.setdefault(entry.move, []).append(entry)
    return met


async def _others(
    engine: Engine, move: MoveView, journal: Sequence[JournalLine], met: Mapping[int, Any]
) -> list[MoveView]:
    """The Moves that this one has to do with, in order of their creation."""
    named = {
        int(text.replace("-", ""), 16)
        for line in journal
        for key in (line.debit_key, line.credit_key)
        for text in _ID.findall(key)
    }
    reversals = await engine.queries.reversals([move.id])
    wanted = {*named, *met, *reversals.get(move.id, []), move.reverses} - {move.id, 0}
    found = await engine.queries.moves_by_id(sorted(wanted))
    return sorted(found, key=lambda other: (other.created, other.id))


def _related(teller: _Teller, move: MoveView, other: MoveView, entries: Sequence[EntryView]) -> RelatedMove:
    name = f"{other.kind} {format_id(other.id)}"
    how = "It has to do with"
    if other.reverses == move.id:
        how = "It is reversed by"
    elif move.reverses == other.id:
        how = "It reverses"
    said = [
        _met_said(teller, name, entry)
        for entry in sorted(entries, key=lambda entry: entry.timestamp)
        if entry.amount
    ]
    return RelatedMove(
        move=UUID(int=other.id),
        kind=other.kind,
        state=other.state,
        reference=other.reference,
        sentences=[f"{how} {name}, which is {other.state}.", *said],
    )


def _met_said(teller: _Teller, name: str, entry: EntryView) -> str:
    amount = teller.money(entry.amount, entry.asset)
    if entry.key.startswith(_REVERSIBLE) and entry.side == "credit":
        return f"{name} took {amount} of it back ({entry.key})."
    if entry.key.startswith(_REVERSIBLE):
        return f"{name} gave {amount} of that up again ({entry.key})."
    verb = "put into" if (entry.side == "credit") == (entry.key[0] in "LR") else "took from"
    return f"{name} {verb} {entry.key}: {amount}."


async def _left(teller: _Teller, engine: Engine, move: int, journal: Sequence[JournalLine]) -> list[str]:
    """What may still be taken back of it."""
    prefix = f"{_REVERSIBLE}{format_id(move)}"
    accounts = {
        line.leg.debit: (line.debit_key, line.leg.asset)
        for line in journal
        if line.debit_key.startswith(prefix)
    }
    found = await engine.queries.accounts(list(accounts))
    return [
        f"{teller.money(one.balance.debits_posted - one.balance.credits_posted, accounts[one.id][1])} "
        f"may still be taken back of it ({accounts[one.id][0]})."
        for one in found
    ]
