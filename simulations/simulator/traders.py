"""Traders: clients that exchange by Moves, and register Parties, Things and keys."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from actors.errors import ActorError
from actors.messages import Claim, ReadSteps, SubmitMoves, SubmitParties, SubmitThings
from engine.commands import (
    CreateParty,
    CreateThing,
    DirectoryAnswer,
    JournalLegs,
    Lines,
    MoveAnswer,
    MoveCommand,
    Refusal,
    UpdateParty,
)
from engine.ids import bucket_of_id, bucket_of_party, format_id, reversal_id
from simulations.simulator.clients import KEPT_MAX, Client, fresh_id
from simulations.simulator.orders import Order
from simulations.simulator.trades import ENDS, MONEY, WAYS_ON, Goods, Trade

if TYPE_CHECKING:
    from simulations.simulator.world import World

TENANT: Final = "default"
TRADES: Final = (
    "transfer", "journal", "purchase", "refund", "reversal", "step", "moves_together", "move_again",
    "move_otherwise", "move_steps", "party", "thing", "claim",
)  # fmt: skip
MOVES: Final = tuple(f"{name} of traders" for name in TRADES)
"""The sorts of commands, as plans leave them out."""
NO_MOVES: Final = "moves"
"""Leaves out all of them, and the traders."""
_WEIGHTS: Final = (6, 3, 4, 3, 1, 10, 2, 4, 1, 2, 1, 1, 1)
_FUNDS: Final = 400
_PARTIES: Final = 5


class Known:
    """A Move that traders have been told of, as they were told last."""

    def __init__(self, creation: Trade, state: str, version: int) -> None:
        self.creation = creation
        self.state = state
        self.version = version


class Market:
    """What all traders know of: nothing but what was answered."""

    def __init__(self) -> None:
        self.parties: list[int] = []
        self.goods: list[str] = []
        self.moves: dict[int, Known] = {}
        self.keys: list[int] = []
        self.requests: list[tuple[int, UpdateParty]] = []  # changes of Parties


class Trader(Client):
    """One of them."""

    commands = MOVES
    weights = _WEIGHTS

    def __init__(self, world: "World", number: int) -> None:
        super().__init__(world, number, f"trader {number}")
        self._trades: list[Trade] = []  # that were answered
        self._market = world.market

    async def open_market(self) -> None:
        """Make the Things and Parties that there are at first, and give these money."""
        world, rng, market = self._world, self._rng, self._market
        for code, kind in ((MONEY, "asset"), ("tea", "product"), ("advice", "service")):
            await self._make_thing(CreateThing(id=self._id(rng.randrange(4096)), kind=kind, code=code))
        market.goods.remove(MONEY)
        for number in range(_PARTIES):
            await self.ask(self._new_party(f"party {number}"))
        for party in market.parties:
            legs = JournalLegs(["A:cash"], [f"L:wallet/{format_id(party)}"], [_FUNDS], [MONEY])
            id = self._id(bucket_of_party(TENANT, party))
            await self.ask(self._creation(MoveCommand(id=id, kind="journal", payer=party, legs=legs)))
        del world

    async def ask(self, order: Order) -> None:
        """Send an order until it is answered for good: what a shard could not judge is sent again."""
        await super().ask(order)
        while order.trades and any(one.code == Refusal.SHARD_UNAVAILABLE for one in order.answer):
            await asyncio.sleep(0.05 + 0.3 * self._rng.random())
            again = self._order(list(order.trades))
            await super().ask(again)
            order.answer = again.answer

    def _remember(self, order: Order, answer: Any) -> None:
        order.answer = answer
        if isinstance(answer, ActorError) or not order.trades:
            return
        for trade, one in zip(order.trades, answer, strict=True):
            self._learn(trade, one)

    def _learn(self, trade: Trade, answer: MoveAnswer) -> None:
        if answer.code == Refusal.SHARD_UNAVAILABLE:
            return
        self._trades.append(trade)
        if len(self._trades) > KEPT_MAX:
            self._trades.pop(self._rng.randrange(KEPT_MAX))
        if answer.accepted:
            known = self._market.moves.setdefault(answer.move, Known(trade, "", 0))
            if answer.version > known.version:
                known.state, known.version = answer.state, answer.version

    # What to send

    def _draw(self, command: str) -> Order | None:
        name = command.removesuffix(" of traders")
        drawn: Order | None = getattr(self, f"_draw_{name}")()
        return drawn

    def _id(self, bucket: int) -> int:
        return fresh_id(self._rng, self._world.time_ns() // 1_000_000, bucket)

    def _order(self, trades: list[Trade]) -> Order:
        home = self._world.placement.shard(bucket_of_id(trades[0].command.id))
        order = self._world.order_at(home, SubmitMoves([trade.command for trade in trades], "trader"))
        order.trades = trades
        return order

    def _creation(self, command: MoveCommand) -> Order:
        return self._order([Trade(command, command)])

    def _new_move(self, **fields: Any) -> MoveCommand:
        """A creation with an id that is at home with its payer, sometimes with a reference."""
        rng = self._rng
        if rng.random() < 0.2:
            fields["reference"] = f"invoice {rng.randrange(8)}"
        if rng.random() < 0.2:
            fields["metadata"] = {"note": rng.randrange(10)}
        return MoveCommand(id=self._id(bucket_of_party(TENANT, fields["payer"])), **fields)

    def _two_parties(self) -> tuple[int, int]:
        payer, payee = self._rng.sample(self._market.parties, 2)
        return payer, payee

    def _draw_transfer(self) -> Order:
        rng = self._rng
        payer, payee = self._two_parties()
        command = self._new_move(
            kind="transfer", payer=payer, payee=payee, asset=MONEY, amount=rng.choice((1, 5, 20, 70, 300))
        )
        if rng.random() < 0.5:
            command = replace(command, transition="hold", timeout=rng.choice((0, 0, 1, 2, 4)))
        return self._creation(command)

    def _draw_journal(self) -> Order:
        rng, parties = self._rng, self._market.parties
        payer = rng.choice(parties)
        debits, credits = [], []
        for _ in range(rng.choice((1, 2, 3))):
            one, other = self._two_parties()
            purposes = rng.choice(
                (("wallet", "wallet"), ("wallet", "storecredit"), ("storecredit", "wallet"))
            )
            debits.append(f"L:{purposes[0]}/{format_id(one)}")
            credits.append(
                f"L:{purposes[1]}/{format_id(other)}" if rng.random() < 0.8 else f"R:fee{rng.randrange(2)}"
            )
        count = len(debits)
        amounts = [rng.choice((1, 3, 10, 60)) for _ in range(count)]
        legs = JournalLegs(debits, credits, amounts, [MONEY] * count)
        return self._creation(self._new_move(kind="journal", payer=payer, legs=legs))

    def _draw_purchase(self) -> Order:
        rng = self._rng
        payer, payee = self._two_parties()
        count = rng.choice((1, 1, 2, 3))
        lines = Lines(
            things=[rng.choice(self._market.goods) for _ in range(count)],
            quantities=[rng.choice((0, 1, 2, 5)) for _ in range(count)],
            amounts=[rng.choice((0, 4, 15, 60)) for _ in range(count)],
        )
        steps = rng.choice(("place", "place+capture", "place+capture+fulfil"))
        fields = {"payee": payee} if rng.random() < 0.5 else {}
        return self._creation(
            self._new_move(kind="order", transition=steps, payer=payer, asset=MONEY, lines=lines, **fields)
        )

    def _draw_refund(self) -> Order | None:
        rng = self._rng
        sold = [one for one in self._market.moves.values() if one.state == "fulfilled"]
        if not sold:
            return None
        order = rng.choice(sold[-6:]).creation
        bought = order.command.lines
        assert bought is not None
        rows = rng.sample(range(len(bought.things)), rng.randint(1, len(bought.things)))
        part = rng.choice((1, 1, 2))
        lines = Lines(
            things=[bought.things[row] for row in rows],
            quantities=[bought.quantities[row] // part for row in rows],
            amounts=[bought.amounts[row] // part for row in rows],
            orders=[order.move] * len(rows),
            order_lines=[row + 1 for row in rows],
        )
        steps = rng.choice(("grant", "grant+succeed", "grant+to_credit"))
        return self._creation(
            self._new_move(
                kind="refund", transition=steps, payer=order.command.payer, asset=MONEY, lines=lines
            )
        )

    def _draw_reversal(self) -> Order | None:
        """The legs of a transfer or journal backwards: two traders may do it at a time."""
        done = [
            one
            for one in self._market.moves.values()
            if one.state == "posted" and one.version == 1 and one.creation.command.kind != "reversal"
        ]
        if not done:
            return None
        given = self._rng.choice(done[-4:]).creation.command
        if given.legs is not None:
            legs = JournalLegs(given.legs.credits, given.legs.debits, given.legs.amounts, given.legs.assets)
        else:
            debit, credit = (f"L:wallet/{format_id(one)}" for one in (given.payee, given.payer))
            legs = JournalLegs([debit], [credit], [given.amount], [MONEY])
        return self._creation(
            MoveCommand(
                id=reversal_id(given.id), kind="reversal", payer=given.payer, reverses=given.id, legs=legs
            )
        )

    def _draw_step(self) -> Order | None:
        trade = self._next_step()
        return self._order([trade]) if trade is not None else None

    def _next_step(self) -> Trade | None:
        """A step of a Move, usually of one that is open, with another trader perhaps at the same."""
        rng, moves = self._rng, list(self._market.moves.values())
        open_ = [one for one in moves if one.state not in ENDS]
        if not open_:
            return None
        known = rng.choice(open_[-8:]) if rng.random() < 0.9 else rng.choice(moves)
        state = known.state if known.state in WAYS_ON else rng.choice(list(WAYS_ON))
        transition = rng.choice(WAYS_ON[state])
        creation = known.creation.command
        command = MoveCommand(id=self._id(bucket_of_id(creation.id)), move=creation.id, transition=transition)
        if transition == "post" and creation.kind == "transfer" and rng.random() < 0.4:
            command = replace(
                command, amount=rng.choice((creation.amount, max(1, creation.amount // 2), 500))
            )
        if rng.random() < 0.2:
            command = replace(command, if_version=known.version)
        return Trade(command, creation)

    def _draw_moves_together(self) -> Order | None:
        """Several steps and creations of one home in one message."""
        first = self._next_step()
        if first is None:
            return None
        bucket = bucket_of_id(first.command.id)
        again = replace(first.command, id=self._id(bucket), if_version=0)
        made = [self._rng.choice((self._draw_transfer, self._draw_purchase))() for _ in range(2)]
        shard = self._world.placement.shard(bucket)
        more = [trade for order in made if order.shard == shard for trade in order.trades]
        return self._order([first, *more, Trade(again, first.creation)])

    def _draw_move_again(self) -> Order | None:
        return self._order([self._rng.choice(self._trades)]) if self._trades else None

    def _draw_move_otherwise(self) -> Order | None:
        """An id that was used before, with other content."""
        if not self._trades:
            return None
        trade = self._rng.choice(self._trades)
        other = replace(trade.command, metadata={"note": -1})
        creating = trade.command is trade.creation
        return self._order([Trade(other, other if creating else trade.creation)])

    def _draw_move_steps(self) -> Order | None:
        moves = list(self._market.moves)
        if not moves:
            return None
        move = self._rng.choice(moves[-10:])
        request = self._id(bucket_of_id(move))
        auditor = self._world.auditor.moves
        order = self._world.order_at(self._home(bucket_of_id(move)), ReadSteps(move, request))
        order.check = partial(auditor.read, move, self._market.moves[move].version)
        return order

    # Parties, Things, keys

    def _home(self, bucket: int) -> int:
        return self._world.placement.shard(bucket)

    def _draw_party(self) -> Order:
        """A new Party, or a change of one that there is."""
        rng, market = self._rng, self._market
        if rng.random() < 0.25:
            return self._new_party(f"party {rng.randrange(100)}")
        if market.requests and rng.random() < 0.3:
            return self._change(*rng.choice(market.requests))
        party = rng.choice(market.parties)
        version = self._world.auditor.directory.version_of(party) if rng.random() < 0.3 else 0
        command = UpdateParty(id=party, name=f"name {rng.randrange(6)}", if_version=version)
        request = self._id(bucket_of_party(TENANT, party))
        return self._change(request, command)

    def _new_party(self, name: str) -> Order:
        party = self._id(self._rng.randrange(4096))
        command = CreateParty(id=party, kind="person", name=name)
        return self._party_order(command, 0, self._market.parties.append)

    def _change(self, request: int, command: UpdateParty) -> Order:
        def note(_party: int) -> None:
            if (request, command) not in self._market.requests:
                self._market.requests.append((request, command))

        return self._party_order(command, request, note)

    def _party_order(
        self, command: CreateParty | UpdateParty, request: int, note: Callable[[int], None]
    ) -> Order:
        directory = self._world.auditor.directory
        directory.sent(command)
        known = directory.version_of(command.id)
        order = self._world.order_at(
            self._home(bucket_of_party(TENANT, command.id)), SubmitParties([command], request, "trader")
        )
        noted = False

        def check(answers: list[DirectoryAnswer]) -> None:
            nonlocal noted
            directory.party(command, request, known, answers[0])
            if not noted and answers[0].accepted:
                noted = True
                note(command.id)

        order.check = check
        return order

    def _draw_thing(self) -> Order:
        rng = self._rng
        command = CreateThing(
            id=self._id(rng.randrange(4096)), kind="product", code=f"thing {rng.getrandbits(60)}"
        )
        return self._thing_order(command)

    async def _make_thing(self, command: CreateThing) -> None:
        await self.ask(self._thing_order(command))

    def _thing_order(self, command: CreateThing) -> Order:
        world = self._world
        order = world.order_at(0, SubmitThings([command], "trader"))

        def check(answers: list[DirectoryAnswer]) -> None:
            world.auditor.directory.thing(command, answers[0])
            if command.code not in world.ledgers.goods:
                goods = Goods(command.code, answers[0].asset, command.kind != "service")
                world.ledgers.goods[command.code] = goods
                self._market.goods.append(command.code)

        order.check = check
        return order

    def _draw_claim(self) -> Order:
        rng, market = self._rng, self._market
        if market.keys and rng.random() < 0.6:
            key = rng.choice(market.keys)
        else:
            key = self._id(rng.randrange(4096))
            market.keys.append(key)
        bucket = bucket_of_id(key)
        order = self._world.order_at(self._home(bucket), Claim(key, b"c", self._id(bucket), "trader"))
        order.check = partial(self._world.auditor.directory.claimed, key)
        return order
