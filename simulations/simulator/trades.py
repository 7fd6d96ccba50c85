"""Moves as traders of a simulation send them, and the legs that must follow from each.

States and postings of the kinds stand here a second time, written down by hand from their specification, so
that what the engine makes of its own description of them is checked against something else.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from engine.chart import Chart
from engine.commands import Lines, MoveCommand
from engine.ids import format_id, leg_id
from engine.layout import AMOUNT_MAX, LegFlag
from simulations.simulator.books import BALANCING_DEBIT, LINKED, PENDING, POST, VOID
from simulations.simulator.orders import Spec

BALANCING_CREDIT: Final = int(LegFlag.BALANCING_CREDIT)
OF_MOVE: Final = int(LegFlag.OF_MOVE)
MONEY: Final = "EUR"
SALES: Final = "R:sales"


class Goods(NamedTuple):
    """A Thing that is told of."""

    code: str
    asset: int
    tracked: bool


class Trade(NamedTuple):
    """A command, and the one that created its Move: itself, if it does."""

    command: MoveCommand
    creation: MoveCommand

    @property
    def move(self) -> int:
        """The Move."""
        return self.creation.id


class Line(NamedTuple):
    """A leg by account keys; of a post or void `pending_id` is the hold."""

    debit: str
    credit: str
    amount: int
    asset: str
    flags: int = 0
    pending_id: int = 0


STATES: Final[Mapping[tuple[str, str, str], str]] = {
    ("transfer", "proposed", "post"): "posted",
    ("transfer", "proposed", "hold"): "pending",
    ("transfer", "pending", "post"): "posted",
    ("transfer", "pending", "void"): "voided",
    ("transfer", "pending", "expire"): "expired",
    ("journal", "draft", "post"): "posted",
    ("order", "draft", "place"): "placed",
    ("order", "placed", "capture"): "paid",
    ("order", "paid", "fulfil"): "fulfilled",
    ("order", "draft", "cancel"): "cancelled",
    ("order", "placed", "cancel"): "cancelled",
    ("order", "paid", "cancel"): "cancelled",
    ("refund", "requested", "grant"): "granted",
    ("refund", "granted", "succeed"): "succeeded",
    ("refund", "granted", "to_credit"): "credited",
    ("refund", "requested", "reject"): "rejected",
    ("reversal", "draft", "post"): "posted",
}
STARTS: Final = {
    "transfer": "proposed", "journal": "draft", "order": "draft", "refund": "requested", "reversal": "draft"
}  # fmt: skip
ENDS: Final = frozenset(
    {
        "posted", "voided", "expired", "fulfilled", "cancelled", "succeeded", "credited", "rejected",
    }
)  # fmt: skip
_USUAL: Final = {"transfer": "post", "journal": "post", "reversal": "post"}
WAYS_ON: Final = {
    "pending": ("post", "post", "void"),
    "placed": ("capture", "capture", "capture+fulfil", "cancel"),
    "paid": ("fulfil", "fulfil", "cancel"),
    "granted": ("succeed", "to_credit"),
}
"""By state, what clients do next, as often as it stands here."""


def path(trade: Trade, state: str) -> Iterator[tuple[str, str, str]]:
    """The steps that a command takes from a state: (kind, from, transition). Ends where one does not lead
    on."""
    kind = trade.creation.kind
    names = trade.command.transition or _USUAL.get(kind, "")
    for name in names.split("+") if names else ():
        step = (kind, state, name)
        if step not in STATES:
            return
        yield step
        state = STATES[step]


def target(trade: Trade, state: str) -> str | None:
    """The state that a command leads to; None if it does not lead on from this one."""
    names = (trade.command.transition or _USUAL.get(trade.creation.kind, "")).split("+")
    steps = list(path(trade, state))
    if len(steps) < len([name for name in names if name]):
        return None
    return STATES[steps[-1]] if steps else state


class Ledgers:
    """What accounts are called and Things are numbered: from trades to legs."""

    def __init__(self, charts: list[Chart]) -> None:
        self.charts = charts  # by shard: striped accounts are the home's
        self.goods: dict[str, Goods] = {}
        self.guards: dict[int, tuple[int, int]] = {}  # floor and ceiling that accounts are opened with

    def legs(self, trade: Trade, state: str, home: int) -> list[Spec]:
        """The legs that a command causes in a state, in order."""
        lines = [line for step in path(trade, state) for line in _POSTINGS.get(step, _nothing)(trade, self)]
        request, timeout = trade.command.id, trade.command.timeout
        specs = []
        for number, line in enumerate(lines):
            flags = line.flags | OF_MOVE | (LINKED if number < len(lines) - 1 else 0)
            asset = self.goods[line.asset].asset if line.asset else 0
            debit, credit = (self.account(key, asset, home) for key in (line.debit, line.credit))
            specs.append(
                Spec(
                    leg_id(request, number), debit, credit, line.amount, asset, flags, line.pending_id,
                    timeout if flags & PENDING else 0,
                )
            )  # fmt: skip
        return specs

    def account(self, key: str, asset: int, home: int) -> int:
        """An account's id; 0 for none."""
        if not key:
            return 0
        chart = self.charts[home]
        spec, id = chart.account(key), chart.account_id(key, asset)
        self.guards[id] = spec.floor, spec.ceiling
        return id

    def passing_accounts(self, move: int) -> list[int]:
        """Accounts that must be empty once a Move has ended."""
        money = self.goods[MONEY].asset
        return [self.account(f"L:{name}/{format_id(move)}", money, 0) for name in ("order", "refund")]


_Postings = Callable[[Trade, Ledgers], list[Line]]


def _nothing(_trade: Trade, _ledgers: Ledgers) -> list[Line]:
    return []


def _of_transfer(trade: Trade, flags: int) -> list[Line]:
    command = trade.creation
    debit = f"L:wallet/{format_id(command.payer)}"
    credit = f"L:wallet/{format_id(command.payee)}"
    return [Line(debit, credit, command.amount, command.asset, flags)]


def _of_legs(trade: Trade, _ledgers: Ledgers) -> list[Line]:
    legs = trade.command.legs
    assert legs is not None
    return [Line(*one) for one in zip(legs.debits, legs.credits, legs.amounts, legs.assets, strict=True)]


def _rows(trade: Trade) -> Iterator[tuple[int, str, int, int]]:
    """Number, Thing, quantity and amount of lines."""
    lines = _lines(trade)
    columns = zip(lines.things, lines.quantities, lines.amounts, strict=True)
    return ((number, *row) for number, row in enumerate(columns, 1))


def _lines(trade: Trade) -> Lines:
    lines = trade.creation.lines
    assert lines is not None
    return lines


def _capture(trade: Trade, _ledgers: Ledgers) -> list[Line]:
    order = format_id(trade.move)
    total = sum(_lines(trade).amounts)
    paid = [Line("A:psp", f"L:order/{order}", total, MONEY)] if total else []
    return paid + [
        Line(f"M:reversible/{order}#{number}/psp", "M:reversible.contra", amount, MONEY)
        for number, _, _, amount in _rows(trade)
        if amount
    ]


def _fulfil(trade: Trade, ledgers: Ledgers) -> list[Line]:
    order, payer = format_id(trade.move), format_id(trade.creation.payer)
    sold = [Line(f"L:order/{order}", SALES, amount, MONEY) for _, _, _, amount in _rows(trade) if amount]
    return sold + [
        Line(f"I:owned/{payer}", "I:world", quantity, thing)
        for _, thing, quantity, _ in _rows(trade)
        if quantity and ledgers.goods[thing].tracked
    ]


def _cancel_paid(trade: Trade, _ledgers: Ledgers) -> list[Line]:
    order = format_id(trade.move)
    back = [
        Line(f"L:order/{order}", f"L:refund/{order}", AMOUNT_MAX, MONEY, BALANCING_DEBIT),
        Line(f"L:refund/{order}", "A:psp", AMOUNT_MAX, MONEY, BALANCING_DEBIT),
    ]
    return back + [
        Line("M:reversible.contra", f"M:reversible/{order}#{number}/psp", amount, MONEY, BALANCING_CREDIT)
        for number, _, _, amount in _rows(trade)
        if amount
    ]


def _grant(trade: Trade, ledgers: Ledgers) -> list[Line]:
    refund, payer = format_id(trade.move), format_id(trade.creation.payer)
    lines = _lines(trade)
    orders, order_lines = lines.orders, lines.order_lines
    back = [Line(SALES, f"L:refund/{refund}", amount, MONEY) for _, _, _, amount in _rows(trade) if amount]
    consumed = [
        Line("M:reversible.contra", f"M:reversible/{format_id(order)}#{line}/psp", amount, MONEY)
        for order, line, amount in zip(orders, order_lines, lines.amounts, strict=True)
        if amount and line
    ]
    units = [
        Line("I:world", f"I:owned/{payer}", quantity, thing)
        for (_, thing, quantity, _), line in zip(_rows(trade), order_lines, strict=True)
        if quantity and line and ledgers.goods[thing].tracked
    ]
    return back + consumed + units


def _hand_out(key: str) -> _Postings:
    def postings(trade: Trade, _ledgers: Ledgers) -> list[Line]:
        to = key.format(payer=format_id(trade.creation.payer))
        return [Line(f"L:refund/{format_id(trade.move)}", to, AMOUNT_MAX, MONEY, BALANCING_DEBIT)]

    return postings


def _resolve(trade: Trade, flags: int) -> list[Line]:
    amount = 0 if flags == VOID else trade.command.amount or AMOUNT_MAX
    return [Line("", "", amount, "", flags, leg_id(trade.move, 0))]


_POSTINGS: Final[Mapping[tuple[str, str, str], _Postings]] = {
    ("transfer", "proposed", "post"): lambda trade, _: _of_transfer(trade, 0),
    ("transfer", "proposed", "hold"): lambda trade, _: _of_transfer(trade, PENDING),
    ("transfer", "pending", "post"): lambda trade, _: _resolve(trade, POST),
    ("transfer", "pending", "void"): lambda trade, _: _resolve(trade, VOID),
    ("journal", "draft", "post"): _of_legs,
    ("reversal", "draft", "post"): _of_legs,
    ("order", "placed", "capture"): _capture,
    ("order", "paid", "fulfil"): _fulfil,
    ("order", "paid", "cancel"): _cancel_paid,
    ("refund", "requested", "grant"): _grant,
    ("refund", "granted", "succeed"): _hand_out("A:psp"),
    ("refund", "granted", "to_credit"): _hand_out("L:storecredit/{payer}"),
}
