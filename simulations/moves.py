"""From a plan to commands for the engine: Parties, Things and Moves, with ids that follow from what they are.

Every id is a UUIDv7 whose free bits are a hash of the dataset's name and of what the id stands for. So the
same sales make the same commands, and sent again they are recognised: nothing is posted twice, however often
and however far a replay ran before.
"""

from collections.abc import Iterator
from typing import Final

import xxhash

from engine.commands import CreateParty, CreateThing, Lines, MoveCommand
from engine.entities import PartyKind, ThingKind
from engine.ids import bucket_of_party, uuid7
from simulations.planning import FEES, Plan, PlannedKind
from simulations.sales import GUEST, MILLS_EXPONENT, Int64s

MILLISECOND_NS: Final = 1_000_000
_FREE_BITS: Final = (1 << 62) - 1


class Commands:
    """The commands of one plan. `tenant` decides in which buckets the Moves live."""

    def __init__(self, planned: Plan, tenant: str) -> None:
        self._plan = planned
        self._sales = planned.sales
        dataset = self._sales.dataset
        self._customers = [_id("customer", dataset, name) for name in self._sales.customer.values]
        self._sellers = [_id("seller", dataset, name) for name in self._sales.seller.values]
        self._buckets = [bucket_of_party(tenant, party) for party in self._customers]

    def things(self) -> list[CreateThing]:
        """The currency, and every item: goods as products, fees as services."""
        sales = self._sales
        currency = CreateThing(
            id=_id("thing", sales.currency),
            kind=ThingKind.ASSET,
            code=sales.currency,
            exponent=MILLS_EXPONENT,
            name=sales.currency,
        )
        items = [
            CreateThing(
                id=_id("thing", code),
                kind=ThingKind.SERVICE if code in FEES else ThingKind.PRODUCT,
                code=code,
                name=name,
                attrs={"revenue": FEES[code]} if code in FEES else {},
            )
            for code, name in zip(sales.item.values, sales.item_names, strict=True)
        ]
        return [currency, *items]

    def parties(self) -> list[CreateParty]:
        """The sellers, the customers, and one guest who stands for all whom nobody named."""
        sellers = [
            CreateParty(id=id, kind=PartyKind.ORG, name=name, profile={"dataset": self._sales.dataset})
            for id, name in zip(self._sellers, self._sales.seller.values, strict=True)
        ]
        customers = [
            CreateParty(
                id=id,
                kind=PartyKind.PERSON,
                name="Guests" if name == GUEST else f"Customer {name}",
                profile={"dataset": self._sales.dataset, "customer": name},
            )
            for id, name in zip(self._customers, self._sales.customer.values, strict=True)
        ]
        return sellers + customers

    def moves(self, first: int, end: int) -> list[MoveCommand]:
        """One command for each of the plan's Moves from `first` to before `end`."""
        return [self._move(move) for move in range(first, end)]

    def reference(self, move: int) -> str:
        """The invoice number; later Moves of one invoice have theirs with `#2`, `#3` …"""
        part = int(self._plan.part[move])
        number = self._sales.invoice.values[self._invoice(move)]
        return f"{number}#{part + 1}" if part else number

    def id(self, move: int) -> int:
        """The id of a Move, which is also that of the request that creates it."""
        customer = int(self._sales.customer.codes[self._first_line(move)])
        unix_ms = int(self._plan.time_ns[move]) // MILLISECOND_NS
        return _id(
            "move", self._sales.dataset, self.reference(move), unix_ms=unix_ms, bucket=self._buckets[customer]
        )

    def _first_line(self, move: int) -> int:
        return int(self._plan.lines[self._plan.offsets[move]])

    def _invoice(self, move: int) -> int:
        return int(self._sales.invoice.codes[self._first_line(move)])

    def _move(self, move: int) -> MoveCommand:
        sales = self._sales
        line = self._first_line(move)
        kind = PlannedKind(int(self._plan.kind[move]))
        return MoveCommand(
            id=self.id(move),
            kind=_KINDS[kind],
            transition=_TRANSITIONS[kind],
            payer=self._customers[sales.customer.codes[line]],
            payee=self._sellers[sales.seller.codes[line]],
            asset=sales.currency if kind is not PlannedKind.WRITE_OFF else "",
            reason=_REASONS[kind],
            lines=self._refund_lines(move) if kind is PlannedKind.REFUND else self._lines(move, kind),
            reference=self.reference(move),
            metadata={
                "dataset": sales.dataset,
                "invoice": sales.invoice.values[self._invoice(move)],
                "country": sales.country.values[sales.country.codes[line]],
            },
            business_time=int(self._plan.time_ns[move]),
        )

    def _lines(self, move: int, kind: PlannedKind) -> Lines:
        planned = self._plan
        lines = planned.lines[planned.offsets[move] : planned.offsets[move + 1]]
        units = planned.units[lines]
        match kind:
            case PlannedKind.WRITE_OFF:
                return Lines(things=self._items(lines), quantities=(-units).tolist())
            case PlannedKind.BAD_DEBT:
                return Lines(amounts=planned.money[lines].tolist())
            case _:
                return Lines(
                    things=self._items(lines),
                    quantities=units.tolist(),
                    amounts=planned.money[lines].tolist(),
                )

    def _refund_lines(self, move: int) -> Lines:
        planned = self._plan
        pieces = slice(planned.piece_offsets[move], planned.piece_offsets[move + 1])
        refund = planned.pieces.refund[pieces]
        order = planned.pieces.order[pieces]
        known = order >= 0
        goods = planned.units[refund] > 0
        orders = planned.move_of_line[order].tolist()
        return Lines(
            things=self._items(refund),
            quantities=(planned.pieces.units[pieces] * goods).tolist(),
            amounts=planned.pieces.money[pieces].tolist(),
            orders=[
                self.id(move) if is_known else 0
                for move, is_known in zip(orders, known.tolist(), strict=True)
            ],
            order_lines=((planned.position_of_line[order] + 1) * known).tolist(),
        )

    def _items(self, lines: Int64s) -> list[str]:
        names = self._sales.item.values
        return [names[code] for code in self._sales.item.codes[lines].tolist()]


_KINDS: Final = {
    PlannedKind.ORDER: "order",
    PlannedKind.REFUND: "refund",
    PlannedKind.WRITE_OFF: "adjustment",
    PlannedKind.BAD_DEBT: "adjustment",
}
_TRANSITIONS: Final = {
    PlannedKind.ORDER: "place+capture+fulfil",
    PlannedKind.REFUND: "grant+succeed",
    PlannedKind.WRITE_OFF: "post",
    PlannedKind.BAD_DEBT: "post",
}
_REASONS: Final = {
    PlannedKind.ORDER: "",
    PlannedKind.REFUND: "",
    PlannedKind.WRITE_OFF: "write_off",
    PlannedKind.BAD_DEBT: "bad_debt",
}


def batches(planned: Plan, lines_max: int) -> Iterator[tuple[int, int]]:
    """Ranges of Moves, in order, of at most so many lines each (or one Move that has more)."""
    first = 0
    ends = planned.offsets[1:]
    while first < planned.move_count:
        limit = planned.offsets[first] + lines_max
        end = max(int(ends.searchsorted(limit, side="right")), first + 1)
        yield first, end
        first = end


def _id(*names: str, unix_ms: int = 0, bucket: int = 0) -> int:
    digest = xxhash.xxh3_64_intdigest("\0".join(names).encode())
    return uuid7(unix_ms, bucket, digest & _FREE_BITS)
