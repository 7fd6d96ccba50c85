"""The auditor: it sees every durable record and every answer, and says when one of them can't be right.

A record is added to books of its own (`simulations.simulator.books`), and replayed on a state that follows
the log. An answer is compared with what the books say of the moment that it speaks of: a leg that is said to
be created must be on disk already, a refused one must have had that reason just then, and what is read must
be what the account was at that version, and no older than what anybody had been told before.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from actors.answers import AccountState, LegAnswers
from actors.errors import ActorError, Overloaded, ShardStopped
from engine.crossing.localising import part_id
from engine.facts import MoveFact
from engine.ids import bucket_of_id
from engine.layout import AMOUNT_MAX, CEILING_UNSET, FLOOR_UNSET, HoldStatus, LegFlag
from engine.placement import Placement
from engine.record import FIRST_CHAIN, chain_hash, decode
from engine.results import TRANSIENT, Result
from engine.shard_state import ShardState
from persistence.log import Entry
from simulations.simulator.books import (
    BALANCING,
    BALANCING_DEBIT,
    CLOSING,
    CROSSING,
    EXPIRY,
    KEEP_OPEN,
    LINKED,
    PART,
    PENDING,
    POST,
    RESOLVING,
    VOID,
    AccountBook,
    Books,
    Counters,
    LegBook,
    Wrong,
)
from simulations.simulator.directory_auditor import DirectoryAuditor
from simulations.simulator.move_auditor import MoveAuditor
from simulations.simulator.orders import Order, Spec
from simulations.simulator.trades import Ledgers

_RESOLVED_AS: Final = {
    HoldStatus.POSTED: Result.PENDING_TRANSFER_ALREADY_POSTED,
    HoldStatus.VOIDED: Result.PENDING_TRANSFER_ALREADY_VOIDED,
    HoldStatus.EXPIRED: Result.PENDING_TRANSFER_EXPIRED,
}
_DIFFERENT: Final = range(Result.EXISTS_WITH_DIFFERENT_FLAGS, Result.EXISTS)


class Auditor:
    """Watches one run. Everything it finds is raised as `Wrong`."""

    def __init__(
        self, placement: Placement, empty_state: Callable[[int], ShardState], ledgers: Ledgers
    ) -> None:
        shards = placement.shards
        self._placement = placement
        self._crossings: dict[int, _Crossing] = {}  # by id of a leg, at home or in part
        self._in_flight: dict[int, int] = {}  # by asset: of legs that are on one shard of two
        self._failed: set[int] = set()  # ids that were refused for ever
        self.books = [Books(shard) for shard in range(shards)]
        self.followers = [empty_state(shard) for shard in range(shards)]
        self.answers = 0  # checked
        self._chains = [FIRST_CHAIN] * shards
        self._sent: dict[int, list[Spec]] = {}
        self._told: dict[int, int] = {}  # by account: the newest stamp that anybody was told of
        self.moves = MoveAuditor(
            placement, ledgers, self.books, self._note_move_leg, self._is_everywhere, self._told_of
        )
        self.directory = DirectoryAuditor(placement)

    # What is sent

    def sent(self, order: Order) -> None:
        """A client sends something for the first time."""
        for spec in order.legs:
            self._sent.setdefault(spec.id, []).append(spec)
            if self._placement.shards > 1:
                self._note_crossing(order, spec)
        self.moves.sent(order)

    def _note_move_leg(self, spec: Spec, request: int, home: int) -> None:
        """A Move that is at home on a shard may make this leg happen."""
        self._sent.setdefault(spec.id, []).append(spec)
        if self._placement.shards == 1:
            return
        of = self._placement.shard_of_account
        sides = of(spec.debit), of(spec.credit)
        if spec.flags & RESOLVING:
            hold = self._crossings.get(spec.pending_id)
            sides = hold.sides if hold is not None else (home, home)
        if sides != (home, home):
            self._note_sides(_Crossing(spec.id, sides, spec.id, home, request), home)

    def _note_crossing(self, order: Order, spec: Spec) -> None:
        """Keep in mind which legs are on two shards, and which leg is decided with them."""
        if spec.flags & RESOLVING:
            hold = self._crossings.get(spec.pending_id)
            if hold is None:
                return
            sides, first = hold.sides, spec
        else:
            of = self._placement.shard_of_account
            sides, first = (of(spec.debit), of(spec.credit)), order.legs[_first_of_chain(order.legs, spec)]
        home = self._placement.shard(bucket_of_id(spec.id))
        if sides[0] == sides[1]:
            return
        self._note_sides(_Crossing(spec.id, sides, first.id, order.shard), home)

    def _note_sides(self, crossing: "_Crossing", home: int) -> None:
        """Keep in mind what a leg is called on the other shard."""
        self._crossings.setdefault(crossing.id, crossing)
        for side in set(crossing.sides) - {home}:
            part = part_id(crossing.id, self._placement.platform_buckets[side])
            self._crossings.setdefault(part, crossing)
            self._sent.setdefault(part, []).append(self._sent[crossing.id][-1])

    def reading(self, accounts: list[int]) -> dict[int, int]:
        """How new what is read of accounts from now on must be."""
        return {account: self._told.get(account, 0) for account in accounts}

    # What is durable

    def committed(self, shard: int, entry: Entry) -> None:
        """A record is on disk."""
        lsn, epoch, payload = entry
        record = decode(payload)
        if (record.shard, record.lsn, record.epoch) != (shard, lsn, epoch):
            raise Wrong("one log", f"row {lsn} of shard {shard} holds another record")
        if record.previous != self._chains[shard]:
            raise Wrong("one log", f"record {lsn} of shard {shard} does not follow the one before it")
        self._chains[shard] = chain_hash(payload)
        books = self.books[shard]
        self.moves.take(shard, [event for event in record.events if isinstance(event, MoveFact)])
        self.directory.take(shard, record.events)
        for leg in books.take(record):
            self._as_sent(shard, leg)
            self._in_order(shard, leg)
        self.moves.end(shard, lsn)
        for asset in self._in_flight:
            held = sum(one.in_pairs.get(asset, 0) for one in self.books)
            if held != self._in_flight[asset]:
                raise Wrong(
                    "nothing lost between shards",
                    f"pairs hold {held} of asset {asset}, on its way is {self._in_flight[asset]}",
                )
        follower = self.followers[shard]
        follower.replay(record)
        follower.chain = self._chains[shard]

    def _in_order(self, shard: int, leg: LegBook) -> None:
        """A leg of two shards: the second half follows the first, and only after the decision."""
        if leg.id in self._failed:
            raise Wrong("once", f"leg {leg.id:032x} happens, and was refused for ever")
        crossing = self._crossings.get(leg.id or leg.pending_id)
        if crossing is None:
            self.moves.leg_happened(leg.id)
            return
        self.moves.leg_happened(crossing.id)
        if shard != crossing.decided_at and leg.id and not self._is_decided(crossing):
            raise Wrong("decided before applied", f"leg {leg.id:032x} happens on shard {shard}, undecided")
        if leg.flags & (PENDING | EXPIRY | VOID) or crossing.sides[0] == crossing.sides[1]:
            return
        sign = 1 if shard == crossing.sides[0] else -1
        self._in_flight[leg.asset] = self._in_flight.get(leg.asset, 0) + sign * leg.amount

    def _is_decided(self, crossing: "_Crossing") -> bool:
        if crossing.request:
            return self.moves.is_decided(crossing.request)
        return crossing.first in self.books[crossing.decided_at].legs

    def _as_sent(self, shard: int, leg: LegBook) -> None:
        if not leg.id:
            return
        books = self.books[shard]
        if leg.flags & CROSSING or leg.id in self._crossings:
            leg = self._whole(books, leg)
        for spec in self._sent.get(leg.id, ()):
            if (spec.flags, spec.pending_id) != (leg.flags, leg.pending_id):
                continue
            accounts = (spec.debit, spec.credit, spec.timeout) == (leg.debit, leg.credit, leg.timeout)
            if spec.flags & RESOLVING:
                same = spec.amount in (leg.amount, AMOUNT_MAX) or bool(spec.flags & VOID)
            elif spec.flags & BALANCING:
                same = accounts and leg.amount <= spec.amount
            else:
                same = accounts and leg.amount == spec.amount
            if same:
                return
        raise Wrong("as sent", f"nobody has sent leg {leg.id:032x} as it is in the log")

    def _whole(self, books: Books, leg: LegBook) -> LegBook:
        """A leg of two shards, as its client named it."""
        crossing = self._crossings.get(leg.id)
        if crossing is None:
            return leg
        spec = self._sent[crossing.id][0]
        flags = leg.flags & ~(CROSSING | PART)
        changed = leg._replace(
            flags=flags | spec.flags & (BALANCING | CLOSING),
            timeout=spec.timeout,
            pending_id=spec.pending_id,
        )
        if spec.flags & RESOLVING:
            return changed
        debit = leg.pending_id if books.accounts[leg.debit].pair else leg.debit
        credit = leg.pending_id if books.accounts[leg.credit].pair else leg.credit
        return changed._replace(debit=debit, credit=credit)

    def _is_everywhere(self, spec: Spec) -> bool:
        """Whether a leg that its client is told of is on disk on both of its shards."""
        crossing = self._crossings.get(spec.id)
        if crossing is None:
            return True
        home = self._placement.shard(bucket_of_id(spec.id))
        taken = self.books[home].legs.get(spec.id)
        if spec.flags & KEEP_OPEN and taken is not None and not taken.amount:
            return (
                True  # it took nothing, and the other side may have resolved the hold before it heard of it
            )
        return all(id in books.legs for books, id in self._halves(crossing))

    def _halves(self, crossing: "_Crossing") -> list[tuple[Books, int]]:
        """The books that have a part of a leg, and its id there."""
        home = self._placement.shard(bucket_of_id(crossing.id))
        buckets = self._placement.platform_buckets
        return [
            (self.books[side], crossing.id if side == home else part_id(crossing.id, buckets[side]))
            for side in dict.fromkeys(crossing.sides)
        ]

    # What is answered

    def answered(self, order: Order, answer: Any) -> None:
        """A shard gives an answer."""
        self.answers += 1
        if isinstance(answer, Overloaded | ShardStopped):
            return
        if isinstance(answer, ActorError):
            raise Wrong("expected answers", f"order {order.number} was answered {answer}")
        if order.trades:
            self.moves.answered(order, answer)
            return
        if order.check is not None:
            order.check(answer)
            return
        books = self.books[order.shard]
        if isinstance(answer, LegAnswers):
            if order.legs:
                self._legs(books, order, answer)
            return
        for state in answer if isinstance(answer, list) else [answer]:
            self._read(books, order, state)

    def _legs(self, books: Books, order: Order, answer: LegAnswers) -> None:
        status, stamps = answer.status.tolist(), answer.timestamp.tolist()
        if answer.lsn > books.lsn:
            raise Wrong("durable before told", f"order {order.number} is told of record {answer.lsn}")
        for first, end in _chains(order.legs):
            chain = order.legs[first:end]
            if any(self._is_elsewhere(order.shard, spec) for spec in chain):
                self._crossed(chain, status[first:end])
                continue
            if all(code == Result.CREATED for code in status[first:end]):
                for spec, stamp in zip(chain, stamps[first:end], strict=True):
                    self._created(books, spec, stamp)
            else:
                self._refused(books, chain, status[first:end], stamps[first:end])

    def _is_elsewhere(self, shard: int, spec: Spec) -> bool:
        """Whether a leg that was sent to a shard has to do with others."""
        if spec.flags & RESOLVING:
            return False
        of = self._placement.shard_of_account
        return of(spec.debit) != shard or of(spec.credit) != shard

    def _crossed(self, chain: list[Spec], status: list[int]) -> None:
        """A chain over several shards: all of it, everywhere, before it is told; or one was the reason."""
        if all(code == Result.CREATED for code in status):
            for spec in chain:
                self._told_of(spec)
            return
        reasons = [at for at, code in enumerate(status) if code != Result.LINKED_EVENT_FAILED]
        if len(reasons) != 1:
            raise Wrong("all or none", f"chain of leg {chain[0].id:032x} was answered {status}")
        spec, code = chain[reasons[0]], Result(status[reasons[0]])
        if code == Result.EXISTS:
            self._told_of(spec)
        elif code in TRANSIENT:
            self._failed.add(spec.id)

    def _told_of(self, spec: Spec) -> None:
        """Somebody is told that a leg happened: all of it is on disk, and its accounts are so new."""
        crossing = self._crossings.get(spec.id)
        if crossing is not None:
            if not self._is_everywhere(spec):
                raise Wrong("applied before told", f"leg {spec.id:032x} is told of, and not on both shards")
            found = [books.legs.get(id) for books, id in self._halves(crossing)]
        else:
            homes = {
                self._placement.shard(bucket_of_id(spec.id)),
                self._placement.shard_of_account(spec.debit),
            }
            found = [self.books[home].legs.get(spec.id) for home in homes]
            if not any(found):
                raise Wrong("durable before told", f"leg {spec.id:032x} is told of, and is not on disk")
        for leg in found:
            if leg is not None:
                self._tell(leg)

    def _created(self, books: Books, spec: Spec, stamp: int) -> None:
        leg = books.legs.get(spec.id)
        if leg is None or leg.stamp != stamp:
            raise Wrong(
                "durable before told", f"leg {spec.id:032x} is said to be created, and is not on disk"
            )
        self._tell(leg)
        if not self._is_everywhere(spec):
            raise Wrong("applied before told", f"leg {spec.id:032x} is told of, and not on both shards")
        expected = self._judge(books, spec, stamp, {})
        if expected != Result.CREATED:
            raise Wrong("predicted answers", f"leg {spec.id:032x} was created, expected was {expected.name}")
        if spec.flags & BALANCING_DEBIT:
            room = _balancing(_known(books.accounts[spec.debit].before(stamp)))
            most = min(spec.amount, room)  # chains on their way may have set some of it aside
            if leg.amount > most or (leg.amount < most and self._placement.shards == 1):
                raise Wrong("predicted answers", f"leg {spec.id:032x} took {leg.amount} of {room}")

    def _tell(self, leg: LegBook) -> None:
        for account in (leg.debit, leg.credit):
            self._told[account] = max(self._told.get(account, 0), leg.stamp)

    def _refused(self, books: Books, chain: list[Spec], status: list[int], stamps: list[int]) -> None:
        """One of the legs was the reason, and the others failed with it."""
        reasons = [at for at, code in enumerate(status) if code != Result.LINKED_EVENT_FAILED]
        if len(reasons) != 1:
            raise Wrong("all or none", f"chain of leg {chain[0].id:032x} was answered {status}")
        culprit = reasons[0]
        spec, stamp, code = chain[culprit], stamps[culprit], Result(status[culprit])
        if code == Result.EXISTS or code in _DIFFERENT:
            leg = books.legs.get(spec.id)
            if leg is None or (code == Result.EXISTS and leg.stamp != stamp):
                raise Wrong("durable before told", f"leg {spec.id:032x} is said to exist, and is not on disk")
            self._tell(leg)
            same = self._same(books, spec, leg)
            if same != (code == Result.EXISTS):
                raise Wrong("predicted answers", f"leg {spec.id:032x} was answered {code.name}")
            return
        if code == Result.SHARD_UNAVAILABLE and self._placement.shards > 1:
            return
        if code == Result.ID_ALREADY_FAILED:
            if spec.id not in books.burnt:
                raise Wrong("predicted answers", f"leg {spec.id:032x} has not failed before")
            return
        overlay: dict[int, Counters] = {}
        for place, member in enumerate(chain[: culprit + 1]):
            expected = self._judge(books, member, stamps[place], overlay)
            given = code if place == culprit else Result.CREATED
            if expected != given and not self._may_be_reserved(given, expected):
                raise Wrong(
                    "predicted answers",
                    f"leg {member.id:032x} was answered {given.name}, expected was {expected.name}",
                )
            self._place(books, member, stamps[place], overlay)

    def _may_be_reserved(self, given: Result, expected: Result) -> bool:
        """Whether a chain over several shards may have set aside what a leg would have needed."""
        if self._placement.shards == 1:
            return False
        return given in _BY_GUARDS and expected in (Result.CREATED, *_BY_GUARDS)

    @staticmethod
    def _same(books: Books, spec: Spec, leg: LegBook) -> bool:
        if spec.flags != leg.flags or spec.pending_id != leg.pending_id or spec.timeout != leg.timeout:
            return False
        if spec.flags & RESOLVING:
            hold = books.holds[leg.pending_id]
            at = next(at for at, step in enumerate(hold.steps) if step[0] == leg.stamp)
            held = hold.steps[at - 1][1]
            if spec.flags & VOID:
                return spec.amount in (0, held)
            return spec.amount == leg.amount or (spec.amount == AMOUNT_MAX and leg.amount == held)
        if (spec.debit, spec.credit) != (leg.debit, leg.credit):
            return False
        return spec.amount == leg.amount or bool(spec.flags & BALANCING_DEBIT and spec.amount >= leg.amount)

    def _judge(self, books: Books, spec: Spec, stamp: int, overlay: dict[int, Counters]) -> Result:
        """What the specification says of a leg with that stamp, after the legs of its chain in `overlay`."""
        known = books.legs.get(spec.id)
        if known is not None and known.stamp < stamp:
            return Result.EXISTS
        if books.burnt.get(spec.id, stamp) < stamp:
            return Result.ID_ALREADY_FAILED
        if spec.flags & RESOLVING:
            return self._judge_resolving(books, spec, stamp)
        debit = _at(books.accounts.get(spec.debit), stamp, overlay)
        credit = _at(books.accounts.get(spec.credit), stamp, overlay)
        if debit is None:
            return Result.DEBIT_ACCOUNT_NOT_FOUND
        if credit is None:
            return Result.CREDIT_ACCOUNT_NOT_FOUND
        if debit.closed:
            return Result.DEBIT_ACCOUNT_ALREADY_CLOSED
        if credit.closed:
            return Result.CREDIT_ACCOUNT_ALREADY_CLOSED
        amount = min(spec.amount, _balancing(debit)) if spec.flags & BALANCING_DEBIT else spec.amount
        if amount and debit.floor != FLOOR_UNSET and debit.above_floor - amount < debit.floor:
            return Result.BELOW_FLOOR
        if amount and credit.ceiling != CEILING_UNSET and credit.below_ceiling + amount > credit.ceiling:
            return Result.ABOVE_CEILING
        return Result.CREATED

    @staticmethod
    def _judge_resolving(books: Books, spec: Spec, stamp: int) -> Result:
        hold = books.holds.get(spec.pending_id)
        before = hold.before(stamp) if hold is not None else None
        if hold is None or before is None:
            return Result.PENDING_TRANSFER_NOT_FOUND
        held, status = before
        if spec.amount > held and not (spec.flags & POST and spec.amount == AMOUNT_MAX):
            return Result.EXCEEDS_PENDING_TRANSFER_AMOUNT
        if spec.flags & VOID and spec.amount not in (0, held):
            return Result.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT
        if status != HoldStatus.OPEN:
            return _RESOLVED_AS[status]
        if hold.expiry and stamp >= hold.expiry:
            return Result.PENDING_TRANSFER_EXPIRED
        if spec.flags & POST and _known(hold.debit.before(stamp)).closed:
            return Result.DEBIT_ACCOUNT_ALREADY_CLOSED
        if spec.flags & POST and _known(hold.credit.before(stamp)).closed:
            return Result.CREDIT_ACCOUNT_ALREADY_CLOSED
        return Result.CREATED

    @staticmethod
    def _place(books: Books, spec: Spec, stamp: int, overlay: dict[int, Counters]) -> None:
        """Let a leg of a chain that came to nothing count for those after it."""
        if spec.flags & RESOLVING or spec.debit not in books.accounts or spec.credit not in books.accounts:
            return
        debit = _known(_at(books.accounts[spec.debit], stamp, overlay))
        credit = _known(_at(books.accounts[spec.credit], stamp, overlay))
        amount = min(spec.amount, _balancing(debit)) if spec.flags & BALANCING_DEBIT else spec.amount
        if spec.flags & PENDING:
            debit = debit._replace(debits_pending=debit.debits_pending + amount)
            credit = credit._replace(credits_pending=credit.credits_pending + amount)
            if spec.flags & LegFlag.CLOSING_DEBIT:
                debit = debit._replace(closed=True)
        else:
            debit = debit._replace(debits_posted=debit.debits_posted + amount)
            credit = credit._replace(credits_posted=credit.credits_posted + amount)
        overlay[spec.debit], overlay[spec.credit] = debit, credit

    def _read(self, books: Books, order: Order, state: AccountState | None) -> None:
        if state is None:
            raise Wrong("durable before told", f"order {order.number} finds no account")
        book = books.accounts[state.id]
        if self._placement.shards > 1:
            self._read_among_shards(book, order, state)
            return
        if state.version > len(book.history):
            raise Wrong("durable before told", f"account {state.id:032x} is read before it is on disk")
        counters = book.history[state.version - 1]
        read = (state.debits_pending, state.debits_posted, state.credits_pending, state.credits_posted)
        if read != counters[:4] or state.closed != counters.closed:
            raise Wrong("serial history", f"account {state.id:032x} was never {read} at {state.version}")
        if book.stamps[state.version - 1] < order.known.get(state.id, 0):
            raise Wrong("nothing stale", f"account {state.id:032x} is read as it was before")
        self._told[state.id] = max(self._told.get(state.id, 0), book.stamps[state.version - 1])

    def _read_among_shards(self, book: AccountBook, order: Order, state: AccountState) -> None:
        """Chains on their way count in versions and pending sums; what is posted must have been so once."""
        posted = (state.debits_posted, state.credits_posted)
        for stamp, counters in zip(reversed(book.stamps), reversed(book.history), strict=True):
            if (counters.debits_posted, counters.credits_posted) == posted:
                self._told[state.id] = max(self._told.get(state.id, 0), order.known.get(state.id, 0))
                return
            if stamp <= order.known.get(state.id, 0):
                break
        raise Wrong("nothing stale", f"account {state.id:032x} is read as {posted}, which it was not lately")

    # At the end

    def finish(self, states: list[ShardState]) -> None:
        """Faults are over and everybody has been answered: what is live must be what the log says."""
        for books, follower, live in zip(self.books, self.followers, states, strict=True):
            live.ledger.check(live.reserved)
            rows = live.ledger.accounts
            for row in rows:
                account = books.accounts[int(row["id_hi"]) << 64 | int(row["id_lo"])]
                checked = 5 if self._placement.shards == 1 else 4
                found = tuple(int(row[name]) for name in Counters._fields[:checked])
                if found != account.now[:checked]:
                    raise Wrong("log and memory agree", f"account {account.id:032x}: {found}, {account.now}")
            if len(rows) != len(books.accounts):
                raise Wrong("log and memory agree", f"shard {books.shard} has {len(rows)} accounts")
            if not _equal(live.state(), follower.state()):
                raise Wrong("log and memory agree", f"the log of shard {books.shard} leads elsewhere")
            self._finish_holds(books, live.time)
        self.moves.finish(states)
        self.directory.finish(states)
        for asset, amount in self._in_flight.items():
            if amount:
                raise Wrong("nothing lost between shards", f"{amount} of asset {asset} has never arrived")
        self._finish_crossings()

    def _finish_crossings(self) -> None:
        """Both halves of what is on two shards, or none; and what became of both halves of holds."""
        for id, crossing in self._crossings.items():
            if id != crossing.id:
                continue
            halves = self._halves(crossing)
            legs = [books.legs.get(half) for books, half in halves]
            amounts = {leg.amount if leg is not None else None for leg in legs}
            if len(amounts) > 1 and amounts != {0, None}:
                raise Wrong("all or none", f"leg {id:032x} ends with halves {amounts}")
            holds = [books.holds[half] for books, half in halves if half in books.holds]
            if len({(hold.status, hold.left) for hold in holds}) > 1:
                raise Wrong("holds end", f"the halves of hold {id:032x} have not come to the same end")

    @staticmethod
    def _finish_holds(books: Books, now: int) -> None:
        for id, hold in books.holds.items():
            if hold.status == HoldStatus.OPEN and hold.expiry and hold.expiry < now - OVERDUE_NS:
                raise Wrong("holds end", f"hold {id:032x} should have expired")


class _Crossing(NamedTuple):
    """A leg on two shards: those of its accounts, and the leg and the shard that decide."""

    id: int
    sides: tuple[int, int]
    first: int
    decided_at: int
    request: int = 0  # of the Move that causes it


_BY_GUARDS: Final = (Result.BELOW_FLOOR, Result.ABOVE_CEILING)
OVERDUE_NS: Final = 3_000_000_000
"""So much later an expired hold must be gone."""


def _chains(legs: list[Spec]) -> Iterator[tuple[int, int]]:
    """Where chains begin and end."""
    first = 0
    for place, spec in enumerate(legs):
        if not spec.flags & LINKED:
            yield first, place + 1
            first = place + 1


def _first_of_chain(legs: list[Spec], spec: Spec) -> int:
    """Where the chain of a leg begins."""
    place = legs.index(spec)
    return next(first for first, end in _chains(legs) if first <= place < end)


def _at(account: AccountBook | None, stamp: int, overlay: dict[int, Counters]) -> Counters | None:
    if account is None:
        return None
    return overlay.get(account.id) or account.before(stamp)


def _known(counters: Counters | None) -> Counters:
    assert counters is not None
    return counters


def _balancing(debit: Counters) -> int:
    """What there is to take."""
    return max(0, debit.above_floor - max(debit.floor, 0))


def _equal(left: Any, right: Any) -> bool:
    """Whether two states are the same, array for array."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    if hasattr(left, "tobytes"):
        return left.shape == right.shape and bool(left.tobytes() == right.tobytes())
    return bool(left == right)
