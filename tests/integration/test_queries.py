"""What the projection answers is what an obvious model of the same log answers."""

from collections.abc import AsyncIterator
from random import Random
from typing import Any

import numpy as np
import pytest

from actors.runtime import Engine
from engine.commands import MoveCommand
from engine.facts import Envelope, Event, LineFacts, MoveFact, PartyFact, ThingFact
from engine.ids import format_id
from engine.layout import LEG_FACT, AccountFlag, HoldStatus, LegFlag, ids_column
from engine.moves import UnknownRequests
from engine.reference import LegFact
from persistence.database import Database
from persistence.errors import FilterRefused
from persistence.projection import Projector
from persistence.queries import Queries
from persistence.views import (
    AccountFilter,
    AccountsFilter,
    Balance,
    BusinessBalance,
    EntryFilter,
    EntryView,
    HistoryView,
    LegView,
    MoveFilter,
    Page,
)
from tests.contract.ledger_pair import LedgerPair
from tests.fixtures_engine import Shop, settings_of
from tests.ledgers import leg_facts
from tests.logged_ledger import (
    Counters,
    Line,
    ObviousHistory,
    business_time,
    is_entry,
    key_of,
    lived,
    write_log,
)

NOTHING: Counters = (0, 0, 0, 0)


class World:
    """A ledger's life in the projection, and beside it what there is to know."""

    def __init__(self, pair: LedgerPair, queries: Queries) -> None:
        log = pair.kernel.log
        self.queries = queries
        self.reference = pair.reference
        self.accounts = list(pair.reference.ids.values())  # ids, by ordinal
        self.keys = [key_of(row) for record in log for row in record.accounts]
        self.history = ObviousHistory(log)
        self.facts = [fact for record in log for fact in leg_facts(record.legs)]
        self.last = max(fact.timestamp for fact in self.facts)
        self.busiest = max(self.history.lines, key=lambda ordinal: len(self.history.lines[ordinal]))

    def leg_view(self, fact: LegFact) -> LegView:
        """The leg as it is shown."""
        debit, credit = self.accounts[fact.debit], self.accounts[fact.credit]
        return LegView(
            id=fact.id,
            timestamp=fact.timestamp,
            debit=debit,
            credit=credit,
            amount=fact.amount,
            asset=self.reference.accounts[debit].asset,
            code=fact.code,
            flags=fact.flags,
            pending_id=fact.pending_id,
            held=fact.held,
            timeout=fact.timeout,
            user_data_128=fact.user_data_128,
            user_data_64=fact.user_data_64,
            user_data_32=fact.user_data_32,
        )

    def entry_view(self, ordinal: int, line: Line) -> EntryView:
        """A line of an account as it is shown."""
        fact = line.fact
        other = fact.credit if line.side == "debit" else fact.debit
        of_move = bool(fact.flags & LegFlag.OF_MOVE)
        return EntryView(
            account=self.accounts[ordinal],
            key=self.keys[fact.debit if line.side == "debit" else fact.credit],
            side="debit" if line.side == "debit" else "credit",
            amount=fact.amount,
            asset=self.reference.accounts[self.accounts[ordinal]].asset,
            counterparty=self.accounts[other],
            counterparty_key=self.keys[other],
            leg=fact.id,
            move=fact.user_data_128 if of_move else 0,
            seq=fact.user_data_32 if of_move else 0,
            code=fact.code,
            flags=fact.flags,
            timestamp=fact.timestamp,
            business_time=business_time(fact),
        )

    def matching(self, ordinal: int, wanted: AccountFilter) -> list[Line]:
        """All lines that a filter lets through, in its order, whatever its limit."""
        sides = [side for side, on in (("debit", wanted.debits), ("credit", wanted.credits)) if on]
        lines = [
            line
            for line in self.history.lines[ordinal]
            if not line.fact.flags & LegFlag.EXPIRY
            and line.side in sides
            and wanted.timestamp_min <= line.fact.timestamp <= wanted.timestamp_max
            and wanted.code in {0, line.fact.code}
            and wanted.user_data_128 in {0, line.fact.user_data_128}
            and wanted.user_data_64 in {0, line.fact.user_data_64}
            and wanted.user_data_32 in {0, line.fact.user_data_32}
        ]
        return lines[::-1] if wanted.newest_first else lines


def balance(counters: Counters) -> Balance:
    return Balance(
        debits_pending=counters[0],
        debits_posted=counters[1],
        credits_pending=counters[2],
        credits_posted=counters[3],
    )


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    pair = lived(21, 350)
    records = await write_log(database, pair.kernel.log)
    projector = Projector(database, 0)
    for at in range(0, len(records), 23):
        await projector.project(records[at : at + 23])
    await projector.close()
    queries = Queries(database, 0)
    yield World(pair, queries)
    await queries.close()


async def all_pages(
    query: Any, wanted: AccountFilter | AccountsFilter | EntryFilter | MoveFilter
) -> list[Any]:
    """Follows the cursor to the end."""
    items: list[Any] = []
    while True:
        page: Page[Any] = await query(wanted)
        assert len(page.items) <= wanted.limit
        items += page.items
        if page.cursor is None:
            return items
        assert len(page.items) == wanted.limit
        wanted = replaced(wanted, cursor=page.cursor)


def replaced(wanted: Any, **changes: Any) -> Any:
    fields = {name: getattr(wanted, name) for name in wanted.__struct_fields__}
    return type(wanted)(**(fields | changes))


def random_filter(random: Random, world: World, ordinal: int) -> AccountFilter:
    lines = world.history.lines[ordinal]
    stamps = sorted(random.choice(lines).fact.timestamp + random.randint(-1, 1) for _ in range(2))
    sides = random.choice([(True, True), (True, True), (True, False), (False, True)])
    narrow = random.random() < 0.5
    return AccountFilter(
        account=world.accounts[ordinal],
        debits=sides[0],
        credits=sides[1],
        timestamp_min=stamps[0] if narrow else 0,
        timestamp_max=stamps[1] if narrow else 2**63 - 1,
        code=random.choice((0, 0, 1, 2)),
        user_data_128=random.choice((0, 0, 0, 1, 2**128 - 1)),
        user_data_64=random.choice((0, 0, 0, 1, 2**64 - 1)),
        user_data_32=random.choice((0, 0, 0, 1, 2**32 - 1)),
        limit=random.choice((1, 2, 7, 100)),
        newest_first=random.random() < 0.5,
    )


async def test_legs_entries_and_history_of_accounts_and_rollups(world: World) -> None:
    random = Random(1)
    rollups = 0
    for _ in range(60):
        ordinal = random.choice([ordinal for ordinal, lines in world.history.lines.items() if lines])
        rollups += bool(world.reference.accounts[world.accounts[ordinal]].flags & AccountFlag.ROLLUP)
        wanted = random_filter(random, world, ordinal)
        lines = world.matching(ordinal, wanted)
        legs = await all_pages(world.queries.legs_of_account, wanted)
        assert legs == [world.leg_view(line.fact) for line in lines], wanted
        entries = await all_pages(world.queries.entries, wanted)
        assert entries == [world.entry_view(ordinal, line) for line in lines if is_entry(line.fact)], wanted
        history = await all_pages(world.queries.history, wanted)
        assert history == [
            HistoryView(leg=line.fact.id, timestamp=line.fact.timestamp, balance=balance(line.counters))
            for line in lines
        ], wanted
    assert rollups > 5


async def test_pages_in_small_steps_through_a_long_history(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistence.queries.STAMPS_MIN", 1)
    monkeypatch.setattr("persistence.queries.STAMPS_MAX", 3)
    for newest_first in (True, False):
        wanted = AccountFilter(
            account=world.accounts[world.busiest], code=2, limit=5, newest_first=newest_first
        )
        lines = world.matching(world.busiest, wanted)
        assert len(lines) > 10
        history = await all_pages(world.queries.history, wanted)
        assert [view.balance for view in history] == [balance(line.counters) for line in lines]


async def test_balances_as_of_a_time_and_a_business_time(world: World) -> None:
    random = Random(2)
    stamps = [fact.timestamp for fact in world.facts]
    business = [business_time(fact) for fact in world.facts if is_entry(fact)]
    for _ in range(60):
        ordinal = random.randrange(len(world.accounts))
        at = random.choice((0, random.choice(stamps) + random.randint(-1, 1), world.last))
        account = world.accounts[ordinal]
        assert await world.queries.balance_at(account, at) == balance(world.history.counters(ordinal, at))
        at = random.choice((-1, random.choice(business)))
        debits, credits_ = world.history.business(ordinal, at)
        expected = BusinessBalance(debits_posted=debits, credits_posted=credits_)
        assert await world.queries.balance_at_business_time(account, at) == expected


async def test_accounts_as_they_are_now(world: World) -> None:
    views = await world.queries.accounts([*world.accounts, 2**127 + 5])
    assert [view.id for view in views] == world.accounts
    for view, key in zip(views, world.keys, strict=True):
        account = world.reference.accounts[view.id]
        assert view.key == key
        assert (view.party, view.parent, view.asset) == (account.party, account.parent, account.asset)
        assert (view.code, view.flags, view.created) == (account.code, account.flags, account.timestamp)
        assert (view.user_data_128, view.user_data_64) == (account.user_data_128, account.user_data_64)
        assert view.balance == Balance(
            debits_pending=account.debits_pending,
            debits_posted=account.debits_posted,
            credits_pending=account.credits_pending,
            credits_posted=account.credits_posted,
        )


async def test_accounts_are_found_by_what_they_are(world: World) -> None:
    views = await world.queries.accounts(world.accounts)
    party, parent = 2**128 - 1, next(view.parent for view in views if view.parent)
    asset, code = views[0].asset, views[0].code
    conditions: dict[str, Any] = {
        "prefix": lambda view, value: view.key.startswith(value),
        "party": lambda view, value: view.party == value,
        "parent": lambda view, value: view.parent == value,
        "asset": lambda view, value: view.asset == value,
        "code": lambda view, value: view.code == value,
        "closed": lambda view, value: bool(view.flags & AccountFlag.CLOSED) == value,
        "rollup": lambda view, value: bool(view.flags & AccountFlag.ROLLUP) == value,
    }
    orders: dict[str, Any] = {
        "key": lambda view: (view.key, view.asset, view.id),
        "oldest": lambda view: (view.created, view.id),
        "newest": lambda view: (-view.created, -view.id),
    }
    for given in (
        {},
        {"prefix": "L:some/1"},
        {"party": party},
        {"parent": parent},
        {"asset": asset, "code": code},
        {"closed": True},
        {"closed": False, "rollup": True},
        {"rollup": False, "prefix": "L:"},
        {"party": 12345},
    ):
        for order, key in orders.items():
            wanted = replaced(AccountsFilter(limit=2), order=order, **given)
            found = await all_pages(world.queries.accounts_found, wanted)
            expected = [
                view
                for view in sorted(views, key=key)
                if all(conditions[name](view, value) for name, value in given.items())
                and (view.key or order != "key")
            ]
            assert found == expected, wanted


async def test_entries_of_all_accounts_in_pages(world: World) -> None:
    unposted = LegFlag.PENDING | LegFlag.VOID_PENDING | LegFlag.EXPIRY | LegFlag.BURNT
    posted = [fact for fact in world.facts if not fact.flags & unposted]
    entries = [
        world.entry_view(ordinal, Line(fact, side, NOTHING))
        for fact in sorted(posted, key=lambda fact: fact.timestamp)
        for side, ordinal in (("debit", fact.debit), ("credit", fact.credit))
    ]
    party = 2**128 - 1
    owned = {id for id in world.accounts if world.reference.accounts[id].party == party}
    middle = entries[len(entries) // 2]
    conditions: dict[str, Any] = {
        "asset": lambda entry, value: entry.asset == value,
        "code": lambda entry, value: entry.code == value,
        "party": lambda entry, value: value == party and entry.account in owned,
        "of_moves": lambda entry, value: bool(entry.flags & LegFlag.OF_MOVE) or not value,
        "timestamp_min": lambda entry, value: entry.timestamp >= value,
        "timestamp_max": lambda entry, value: entry.timestamp <= value,
    }
    for given in (
        {},
        {"asset": middle.asset},
        {"code": middle.code},
        {"party": party},
        {"of_moves": True},
        {"timestamp_min": middle.timestamp},
        {"timestamp_max": middle.timestamp, "asset": middle.asset},
    ):
        for newest_first in (True, False):
            for limit in (1, 7, 1_000) if not given else (7,):
                wanted = replaced(EntryFilter(limit=limit, newest_first=newest_first), **given)
                found = await all_pages(world.queries.entries_found, wanted)
                expected = [
                    entry
                    for entry in entries
                    if all(conditions[name](entry, value) for name, value in given.items())
                ]
                assert found == (expected[::-1] if newest_first else expected), wanted


async def test_the_trial_balance_now_and_as_of_a_time(world: World) -> None:
    for at in (None, world.facts[len(world.facts) // 2].timestamp):
        sums: dict[int, list[int]] = {}
        for ordinal, id in enumerate(world.accounts):
            account = world.reference.accounts[id]
            if account.flags & AccountFlag.ROLLUP or (at is not None and account.timestamp > at):
                continue
            row = sums.setdefault(account.asset, [0] * 5)
            row[0] += 1
            for place, counter in enumerate(world.history.counters(ordinal, at), 1):
                row[place] += counter
        found = await world.queries.trial_balance(at)
        assert {
            row.asset: [row.accounts, row.debits_pending, row.debits, row.credits_pending, row.credits]
            for row in found
        } == sums
        assert all(row.debits == row.credits and row.debits_pending == row.credits_pending for row in found)


async def test_legs_by_id(world: World) -> None:
    legs = [fact for fact in world.facts if fact.id and not fact.flags & LegFlag.BURNT]
    burnt = [fact.id for fact in world.facts if fact.flags & LegFlag.BURNT]
    wanted = [legs[5].id, legs[-1].id, burnt[0], 12345678901234567890, legs[0].id]
    assert await world.queries.legs(wanted) == [world.leg_view(leg) for leg in (legs[5], legs[-1], legs[0])]


async def test_forgotten_legs_are_found_with_what_became_of_holds(world: World) -> None:
    """Everything the kernel may ask for: as the reference model remembers it."""
    reference = world.reference
    ids = [*reference.legs, 77 << 64]
    found = await world.queries.find_legs(ids_column(ids))
    assert len(found.facts) == len(reference.legs)
    order = np.lexsort((found.facts["id_lo"], found.facts["id_hi"]))
    assert order.tolist() == list(range(len(found.facts)))
    assert found.facts.dtype == LEG_FACT
    statuses = set()
    for fact, row, status in zip(
        leg_facts(found.facts), found.facts, found.hold_status.tolist(), strict=True
    ):
        expected = reference.legs[fact.id]
        hold = reference.holds.get(fact.id)
        if hold is None:
            assert (fact, status) == (expected, HoldStatus.OPEN), row
        else:
            assert fact.held == hold.held
            assert status == hold.status
            assert fact == replaced(expected, held=hold.held)
            statuses.add(status)
    assert statuses == {HoldStatus.OPEN, HoldStatus.POSTED, HoldStatus.VOIDED, HoldStatus.EXPIRED}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"account": 123456}, "account"),
        ({"debits": False, "credits": False}, "debits"),
        ({"limit": 0}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"timestamp_min": 10, "timestamp_max": 9}, "timestamp_min"),
        ({"timestamp_min": -1}, "timestamp_min"),
        ({"timestamp_max": 2**63}, "timestamp_max"),
        ({"code": -1}, "code"),
        ({"code": 2**16}, "code"),
        ({"user_data_64": 2**64}, "user_data_64"),
        ({"user_data_128": -1}, "user_data_128"),
        ({"user_data_32": 2**32}, "user_data_32"),
        ({"cursor": "yesterday"}, "cursor"),
        ({"cursor": "-5"}, "cursor"),
        ({"account": -1}, "account"),
    ],
)
async def test_a_filter_that_makes_no_sense_is_an_error(
    database: Database, changes: dict[str, Any], field: str
) -> None:
    pair = lived(22, 3)
    projector = Projector(database, 0)
    await projector.project(await write_log(database, pair.kernel.log))
    await projector.close()
    queries = Queries(database, 0)
    wanted = replaced(AccountFilter(account=pair.reference.ids[0]), **changes)
    for query in (queries.legs_of_account, queries.entries, queries.history):
        with pytest.raises(FilterRefused) as refused:
            await query(wanted)
        assert refused.value.field == field
    await queries.close()


async def test_unknown_accounts_moves_and_times_are_errors_elsewhere_too(database: Database) -> None:
    queries = Queries(database, 0)
    for asked in (
        queries.balance_at(5, 0),
        queries.balance_at_business_time(5, 0),
        queries.journal(5),
        queries.transitions(5),
        queries.moves(MoveFilter(limit=0)),
        queries.moves(MoveFilter(timestamp_min=2, timestamp_max=1)),
        queries.moves(MoveFilter(cursor="x|y")),
        queries.moves(MoveFilter(business_min=2, business_max=1)),
        queries.accounts_found(AccountsFilter(limit=0)),
        queries.accounts_found(AccountsFilter(cursor="5|6", order="key")),
        queries.entries_found(EntryFilter(limit=0)),
        queries.entries_found(EntryFilter(cursor="5|70000|0")),
        queries.entries_found(EntryFilter(cursor="5|0|2")),
        queries.all_parties(cursor="nonsense"),
        queries.all_things(limit=-1),
        queries.trial_balance(-1),
    ):
        with pytest.raises(FilterRefused):
            await asked
    await queries.close()


def id_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def moves_of(number: int) -> list[MoveFact]:
    """A Move of 1 to 3 requests, and now and then one that was refused."""
    payer, payee = 1000 + number % 3, 2000 + number % 2
    facts = []
    for seq in range(1 + number % 3):
        facts.append(
            MoveFact(
                request=id_of(number * 10 + seq),
                move=id_of(number * 10),
                kind="order" if number % 2 else "transfer",
                transition=f"step{seq}",
                state=f"state{seq}",
                ended=seq == 2,
                seq=seq,
                timestamp=number // 2 * 100 + seq,
                business_time=number,
                payer=id_of(payer),
                payee=id_of(payee),
                reference=f"ref/{number}" if seq == 0 else None,
                reverses=id_of(10) if number == 7 else bytes(16),
                lines=LineFacts([1], [2], [3]) if seq == 0 else None,
                metadata=b'{"n":%d}' % number,
            )
        )
    if number % 4 == 0:
        facts.append(
            MoveFact(
                request=id_of(number * 10 + 9),
                move=id_of(number * 10),
                kind="order",
                transition="late",
                state="state0",
                ended=False,
                seq=0,
                timestamp=5,
                business_time=5,
                payer=id_of(payer),
                code="below_floor",
                message="not enough",
            )
        )
    return facts


async def test_moves_by_filter_their_transitions_and_answers(database: Database) -> None:
    numbers = range(1, 21)
    facts = [fact for number in numbers for fact in moves_of(number)]
    events: list[Event] = [Envelope("shop", principal="ann", event_count=100), *facts]
    events += [PartyFact(id_of(n), "person", f"P{n}", b"{}", 1, n) for n in (3, 1, 2)]
    events += [ThingFact(id_of(n), "product", f"T{n}", n, 2, f"Thing {n}", b'{"a":1}', n) for n in (1, 2, 3)]
    pair = lived(23, 3)
    projector = Projector(database, 0)
    await projector.project(await write_log(database, pair.kernel.log, [events]))
    await projector.close()
    queries = Queries(database, 0)

    conditions: dict[str, Any] = {
        "party": lambda n, value: value in {1000 + n % 3, 2000 + n % 2},
        "payer": lambda n, value: value == 1000 + n % 3,
        "payee": lambda n, value: value == 2000 + n % 2,
        "kind": lambda n, value: value == ("order" if n % 2 else "transfer"),
        "state": lambda n, value: value == f"state{n % 3}",
        "reference": lambda n, value: value == f"ref/{n}",
        "reverses": lambda n, value: n == 7 and value == 10,
        "ended": lambda n, value: (n % 3 == 2) == value,
        "asset": lambda n, value: n == 0 and value == 1,
        "business_min": lambda n, value: n >= value,
        "business_max": lambda n, value: n <= value,
        "timestamp_min": lambda n, value: n // 2 * 100 >= value,
        "timestamp_max": lambda n, value: n // 2 * 100 <= value,
    }
    for given in (
        {},
        {"party": 1001},
        {"party": 2000},
        {"payer": 1002},
        {"payee": 2001},
        {"kind": "order"},
        {"state": "state1"},
        {"reference": "ref/5"},
        {"reverses": 10},
        {"timestamp_min": 300, "timestamp_max": 600},
        {"payer": 1000, "kind": "transfer", "state": "state0"},
        {"ended": True},
        {"ended": False, "asset": 1},
        {"business_min": 2, "business_max": 5},
        {"kind": "payout"},
    ):
        for newest_first in (True, False):
            wanted = replaced(MoveFilter(limit=3, newest_first=newest_first), **given)
            expected = [
                n for n in numbers if all(conditions[name](n, value) for name, value in given.items())
            ]
            expected.sort(key=lambda n: (n // 2, n), reverse=newest_first)
            found = await all_pages(queries.moves, wanted)
            assert [view.id // 10 for view in found] == expected, wanted

    (view,) = await queries.moves_by_id([80])
    assert (view.state, view.seq, view.version, view.ended) == ("state2", 2, 3, True)
    assert (view.created, view.changed, view.reference, view.tenant) == (400, 402, "ref/8", "shop")
    assert view.lines == {"things": [1], "quantities": [2], "amounts": [3]}
    transitions = await queries.transitions(80)
    assert [(t.seq, t.transition, t.state, t.principal) for t in transitions] == [
        (seq, f"step{seq}", f"state{seq}", "ann") for seq in range(3)
    ]
    loaded = await queries.find_requests(
        UnknownRequests([80, 89, 5], [80, 30, 6], [(1002, "ref/8"), (1000, "ref/8"), (1001, "ref/1")])
    )
    by_request = {int.from_bytes(fact.request, "big"): fact for fact in facts}
    assert loaded.requests == {80: by_request[80], 89: by_request[89]}
    assert loaded.moves == {80: by_request[82], 30: by_request[30]}
    assert loaded.references == {(1002, "ref/8"): 80, (1001, "ref/1"): 10}

    assert [view.name for view in await queries.parties([2, 9, 1])] == ["P2", "P1"]
    first = await queries.all_parties(limit=2)
    rest = await queries.all_parties(limit=2, cursor=first.cursor)
    assert [view.id for view in (*first.items, *rest.items)] == [1, 2, 3]
    assert [view.code for view in await queries.things([3, 1])] == ["T3", "T1"]
    assert [view.asset for view in await queries.things_by_code("shop", ["T2"])] == [2]
    things = await queries.all_things(limit=2)
    assert [view.asset for view in things.items] == [1, 2]
    assert [view.asset for view in (await queries.all_things(cursor=things.cursor)).items] == [3]
    await queries.close()


async def test_the_journal_of_a_move(database: Database) -> None:
    async with Engine.running(settings_of(database)) as engine:
        shop = await Shop.opened(engine)
        order = await shop.do(shop.order("place+capture"))
        await shop.do(shop.transfer(5))
        done = await shop.do(MoveCommand(id=shop.new_id(), move=order.move, transition="fulfil"))
        await engine.wait_projected()
        lines = await engine.queries.journal(order.move)
    name = format_id(order.move)
    assert [(line.seq, line.debit_key, line.credit_key, line.leg.amount) for line in lines] == [
        (0, "A:psp", f"L:order/{name}", 800),
        (0, f"M:reversible/{name}#1/psp", "M:reversible.contra", 300),
        (0, f"M:reversible/{name}#2/psp", "M:reversible.contra", 500),
        (1, f"L:order/{name}", "R:sales", 300),
        (1, f"L:order/{name}", "R:sales", 500),
        (1, f"I:owned/{format_id(shop.buyer)}", "I:world", 3),
        (1, f"I:owned/{format_id(shop.buyer)}", "I:world", 1),
    ]
    assert [line.leg.timestamp for line in lines][-1] == done.timestamp
    assert len(lines) == order.leg_count + done.leg_count


async def test_a_reader_survives_the_loss_of_its_session(world: World, database: Database) -> None:
    account = world.accounts[world.busiest]
    before = await world.queries.balance_at(account, world.last)
    async with database.session("test") as session:
        await session.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name like '%queries' and datname = current_database()"
        )
    assert await world.queries.balance_at(account, world.last) == before
