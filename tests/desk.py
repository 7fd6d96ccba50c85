"""A shard in small, for tests of Moves: the real ledger, directory and book, a clock, and a log of facts.

Every call is a turn. `close` proves what must hold whatever a test did: the ledger's invariants, and that
replaying the log, or restoring a copy of the state, leads to the same state.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from engine import ids
from engine.commands import CreateParty, CreateThing, JournalEntries, Lines, MoveAnswer, MoveCommand
from engine.directory import Directory
from engine.entities import Side
from engine.facts import MoveFact, PartyFact, ThingFact
from engine.kinds import MoveKind
from engine.layout import LEG_FLAGS_OF_CLIENTS, LegFlag
from engine.ledger import Ledger, LedgerConfig, LegBlock
from engine.moves import Deferred, LoadedRequests, MoveBook, Prepared
from engine.standard_kinds import STANDARD_KINDS

TENANT = "t"
START = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
CONFIG = LedgerConfig(
    ids_per_generation=1 << 12, turn_events_max=1 << 14, accounts_initial=64, holds_initial=8, hash_seed=1
)


class Desk:
    """Takes commands, and remembers what a log would."""

    def __init__(self, kinds: Sequence[MoveKind] = STANDARD_KINDS, config: LedgerConfig = CONFIG) -> None:
        self.config = config
        self.kinds = kinds
        self.ledger = Ledger(config)
        self.directory = Directory()
        self.book = MoveBook(TENANT, self.ledger, self.directory, kinds)
        self.now = START
        self.facts: list[MoveFact] = []
        self._log: list[tuple[str, Any]] = []
        self._made = 0
        self._window = (0, 0)

    def id(self, unix_ms: int | None = None) -> int:
        """A new id."""
        self._made += 1
        return ids.uuid7(self.now // 1_000_000 if unix_ms is None else unix_ms, 0, self._made)

    def party(self, kind: str = "person") -> int:
        """A new Party."""
        answer, fact = self.directory.submit_party(CreateParty(id=self.id(), kind=kind), self.now)
        assert fact is not None, answer
        self._log.append(("event", fact))
        return answer.id

    def thing(self, code: str, kind: str = "product", **attrs: Any) -> int:
        """A new Thing; its asset number."""
        command = CreateThing(id=self.id(), kind=kind, code=code, attrs=attrs)
        answer, fact = self.directory.submit_thing(command, self.now)
        assert fact is not None, answer
        self._log.append(("event", fact))
        return answer.asset

    def send(self, *commands: MoveCommand, loaded: LoadedRequests | None = None) -> list[MoveAnswer]:
        """Commands in one turn, in as few kernel calls as they allow."""
        self._begin()
        answers: list[MoveAnswer | None] = [None] * len(commands)
        waiting: list[tuple[int, Prepared]] = []
        for place, command in enumerate(commands):
            judged = self.book.prepare(command, self.now, loaded)
            if isinstance(judged, Deferred):
                self._flush(waiting, answers)
                judged = self.book.prepare(command, self.now, loaded, alone=True)
            assert not isinstance(judged, Deferred)
            if isinstance(judged, MoveAnswer):
                answers[place] = judged
            else:
                waiting.append((place, judged))
        self._flush(waiting, answers)
        return [answer for answer in answers if answer is not None]

    def ask(self, **fields: Any) -> MoveAnswer:
        """One command, with an id of its own unless one is given."""
        return self.send(MoveCommand(**({"id": self.id()} | fields)))[0]

    def do(self, **fields: Any) -> MoveAnswer:
        """One command that must be accepted."""
        answer = self.ask(**fields)
        assert answer.accepted, answer
        return answer

    def fund(self, key: str, asset: str, amount: int) -> None:
        """Put money or units on an account."""
        side = Side.DEBIT if key[0] in "AXMI" else Side.CREDIT
        entries = JournalEntries(accounts=[key], sides=[side], amounts=[amount], assets=[asset])
        self.do(kind="opening", entries=entries)

    def wait(self, seconds: int) -> list[MoveFact]:
        """Let time pass, and release the holds that have run out."""
        self.now += seconds * SECOND
        self._begin()
        expired = self.ledger.expire(self.now, 1 << 16)
        facts = self.book.expire(expired)
        self._log.append(("legs", expired))
        self._log += [("event", fact) for fact in facts]
        return facts

    def balance(self, key: str, asset: str = "GBP") -> int:
        """What is on an account, on its normal side."""
        number = self.directory.asset(asset)
        id = self.book.chart.account_id(key, number)
        row = int(self.ledger.lookup(np.array([[id >> 64, id & (2**64 - 1)]], np.uint64))[0])
        if row < 0:
            return 0
        account = self.ledger.accounts[row]
        net = int(account["credits_posted"]) - int(account["debits_posted"])
        return net if key[0] in "LRC" else -net

    def close(self) -> None:
        """Prove what must hold."""
        self.ledger.check()
        replayed = Desk(self.kinds, self.config)
        for what, content in self._log:
            replayed._apply(what, content)
        same(self.ledger.state(), replayed.ledger.state())
        same(self.directory.state(), replayed.directory.state())
        same(self.book.state(), replayed.book.state())
        restored = Desk(self.kinds, self.config)
        restored.directory.restore(self.directory.state())
        restored.book.restore(self.book.state())
        same(self.directory.state(), restored.directory.state())
        same(self.book.state(), restored.book.state())

    def _apply(self, what: str, content: Any) -> None:
        if what == "window":
            self.ledger.set_generation(*content)
            self.book.set_generation(*content)
        elif what == "accounts":
            self.ledger.replay_accounts(content)
        elif what == "legs":
            self.ledger.replay_legs(content)
        elif isinstance(content, PartyFact | ThingFact):
            self.directory.replay(content)
        else:
            self.book.replay(content)

    def _begin(self) -> None:
        self.now += 1_000
        self.ledger.begin_turn()
        self.turn_window()

    def turn_window(self) -> None:
        """Let the book follow the ledger's window of ids."""
        window = (self.ledger.generation, self.ledger.dropped)
        self.book.set_generation(*window)
        if window != self._window:
            self._window = window
            self._log.append(("window", window))

    def _flush(self, waiting: list[tuple[int, Prepared]], answers: list[MoveAnswer | None]) -> None:
        with_legs = [prepared for _, prepared in waiting if prepared.leg_count]
        outcome = None
        offsets: Iterable[int] = iter(())
        if with_legs:
            block = self.book.compile(with_legs)
            whole = np.array([0, len(block.legs.amount)], np.int64)
            outcome = self.ledger.apply_legs(
                LegBlock(block.legs, whole, block.opens, None, LEG_FLAGS_OF_CLIENTS | LegFlag.OF_MOVE),
                self.now,
            )
            self._log.append(("accounts", outcome.opened))
            self._log.append(("legs", outcome.facts))
            offsets = iter(block.offsets.tolist())
        start = next(iter(offsets), 0)
        for place, prepared in waiting:
            legs = None
            if prepared.leg_count:
                end = next(iter(offsets))
                legs, start = slice(start, end), end
            answer, facts = self.book.settle(prepared, outcome, legs, self.now)
            answers[place] = answer
            self.facts += facts
            self._log += [("event", fact) for fact in facts]
        waiting.clear()


class Shop(Desk):
    """A desk with a currency, a buyer, a seller and some goods."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.gbp = self.thing("GBP", "asset")
        self.buyer, self.seller = self.party(), self.party("org")
        for code in ("MUG", "LAMP", "CLOCK"):
            self.thing(code)
        self.thing("POST", "service", revenue="shipping")
        self.b, self.s = ids.format_id(self.buyer), ids.format_id(self.seller)

    def transfer(self, amount: int = 100, **fields: Any) -> MoveCommand:
        """A transfer from buyer to seller."""
        given = {
            "kind": "transfer",
            "payer": self.buyer,
            "payee": self.seller,
            "asset": "GBP",
            "amount": amount,
        }
        return self._command(given, fields)

    def order(self, transition: str = "place+capture+fulfil", **fields: Any) -> MoveCommand:
        """An order of three mugs for 300, a lamp for 500 and the postage of 50."""
        lines = Lines(things=["MUG", "LAMP", "POST"], quantities=[3, 1, 1], amounts=[300, 500, 50])
        given = {"kind": "order", "transition": transition, "payer": self.buyer, "asset": "GBP"}
        return self._command(given, {"payee": self.seller, "lines": lines} | fields)

    def refund(self, lines: Lines, transition: str = "grant+succeed", **fields: Any) -> MoveCommand:
        """A refund to the buyer."""
        given = {"kind": "refund", "transition": transition, "payer": self.buyer, "asset": "GBP"}
        return self._command(given, {"lines": lines} | fields)

    def _command(self, given: dict[str, Any], fields: dict[str, Any]) -> MoveCommand:
        return MoveCommand(**{"id": self.id(), **given, **fields})

    def one(self, command: MoveCommand) -> MoveAnswer:
        """The answer to one command."""
        return self.send(command)[0]


def fields_of(command: MoveCommand) -> dict[str, Any]:
    """A command's fields by name."""
    return {name: getattr(command, name) for name in command.__struct_fields__}


def same(left: Any, right: Any) -> None:
    """Equal, array for array."""
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for name in left:
            same(left[name], right[name])
    elif isinstance(left, np.ndarray):
        assert np.array_equal(left, right)
    else:
        assert left == right
