"""Moves over several shards in one engine: the same books as with one, proved over all shards."""

from random import Random
from typing import Any

import pytest

from actors.runtime import Engine
from engine.commands import CreateParty, JournalLegs, MoveCommand
from engine.ids import bucket_of_account, format_id
from engine.layout import SECOND_NS, LegFlag, ids_column, leg_columns
from persistence.database import Database
from persistence.errors import FilterRefused
from persistence.views import EntryView
from tests.fixtures_cluster import LOCAL_AND_CLUSTER
from tests.fixtures_engine import Clock, Shop, bare_legs, results, settings_of
from tests.integration.conftest import Opening

RUNTIMES = LOCAL_AND_CLUSTER

PARTIES = 8
MOVES = 60


async def parties_of(shop: Shop, count: int = PARTIES) -> list[int]:
    """Parties with money."""
    parties = [shop.new_id() for _ in range(count)]
    answers = await shop.engine.create_parties([CreateParty(id=party, kind="person") for party in parties])
    assert all(answer.accepted for answer in answers), answers
    for party in parties:
        await shop.fund(party, 500)
    return parties


async def commerce(shop: Shop, parties: list[int], seed: int) -> list[MoveCommand]:
    """Transfers, holds, orders and refunds between anybody, one after the other; what was accepted."""
    random = Random(seed)
    done: list[MoveCommand] = []

    async def attempt(command: MoveCommand) -> bool:
        answer = await shop.one(command)
        assert answer.code in {"", "below_floor"}, (answer.code, answer.message, command)
        if answer.accepted:
            done.append(command)
        return answer.accepted

    for _ in range(MOVES):
        payer, payee = random.sample(parties, 2)
        who: dict[str, Any] = {"payer": payer, "payee": payee}
        kind = random.random()
        if kind < 0.5:
            await attempt(shop.transfer(random.randrange(1, 200), **who))
        elif kind < 0.8:
            hold = shop.transfer(random.randrange(1, 200), transition="hold", **who)
            if await attempt(hold):
                step = random.choice(("post", "void"))
                id = shop.command_id(move=hold.id)
                await attempt(MoveCommand(id=id, move=hold.id, transition=step))
        else:
            order = shop.order(**who)
            if await attempt(order):
                await attempt(shop.refund(order.id, payer=payer))
    return done


async def books_of(shop: Shop, parties: list[int]) -> list[int]:
    """What every Party has."""
    return [await shop.balance(party) for party in parties]


async def test_commerce_over_shards_is_that_of_one(
    database: Database, empty_database: Database, opened: Opening
) -> None:
    books = []
    worlds: list[tuple[Database, int, Opening]] = [
        (database, 4, opened),
        (empty_database, 1, Engine.running),
    ]
    for where, shards, running in worlds:
        async with running(settings_of(where, shards=shards)) as engine:
            shop = await Shop.opened(engine, seed=7)
            parties = await parties_of(shop)
            done = await commerce(shop, parties, seed=3)
            assert all(answer.replayed for answer in await engine.submit(done))
            books.append(await books_of(shop, parties))
            report = await engine.verify()
            assert report.ok, report.problems
            assert shards == 1 or report.checked["crossings"] > MOVES // 2
        async with Engine.running(settings_of(where)) as engine:
            shop.engine = engine
            assert await books_of(shop, parties) == books[-1]
            assert all(answer.replayed for answer in await engine.submit(done))
            assert (await engine.verify()).ok
    assert books[0] == books[1]


async def test_what_another_shard_refuses_is_refused(database: Database) -> None:
    async with Engine.running(settings_of(database, shards=4)) as engine:
        shop = await Shop.opened(engine, seed=1, funds=100)
        parties = await parties_of(shop, 4)
        for _ in range(8):  # on any shard
            assert (await shop.one(shop.transfer(5, payee=shop.new_id()))).code == "party_not_found"
        assert (await shop.one(shop.transfer(101, payee=parties[0]))).code == "below_floor"
        assert await shop.balance(shop.buyer) == 100
        closed = shop.transfer(5, payee=parties[0])
        assert (await shop.one(closed)).accepted
        other = await shop.one(shop.transfer(6, payee=parties[0], id=closed.id))
        assert other.code == "exists_with_different_content"
        assert (await engine.verify()).ok


async def test_bare_legs_cross_and_holds_run_out_on_both_sides(database: Database) -> None:
    clock = Clock()
    async with Engine.running(settings_of(database, shards=3, sweep_interval_ns=0), clock) as engine:
        shop = await Shop.opened(engine, seed=2, clock=clock)
        parties = await parties_of(shop, 6)
        wallets = [engine.account_id(shop.wallet(party), "GBP") for party in parties]
        count = len(parties)
        columns = leg_columns(
            count,
            id=ids_column([shop.new_id(bucket=wallet >> 116) for wallet in wallets]),
            debit=ids_column(wallets),
            credit=ids_column([*wallets[1:], wallets[0]]),
            amount=[10] * count,
            asset=[engine.asset_number("GBP")] * count,
            code=[1] * count,
            flags=[LegFlag.PENDING] * count,
            timeout=[1] * count,
        )
        first = await engine.post_legs(columns)
        assert results(first.status) == ["created"] * count
        assert results((await engine.post_legs(columns)).status) == ["exists"] * count
        held = await engine.read_accounts(wallets)
        assert [(row.debits_pending, row.credits_pending) for row in held if row] == [(10, 10)] * count
        clock.ahead_ns += 2 * SECOND_NS
        for _ in range(100):
            states = await engine.read_accounts(wallets)
            if all(row is not None and row.debits_pending == row.credits_pending == 0 for row in states):
                break
        else:
            pytest.fail("holds did not run out")
        assert (await engine.verify()).ok


async def test_ids_of_other_buckets_are_refused_of_legs_that_cross_too(database: Database) -> None:
    async with Engine.running(settings_of(database, shards=4)) as engine:
        shop = await Shop.opened(engine, funds=100)
        debit, credit = (engine.account_id(shop.wallet(party), "GBP") for party in (shop.buyer, shop.seller))
        await shop.do(shop.transfer(1))
        home = bucket_of_account(debit)
        good, stray = shop.new_id(bucket=home), shop.new_id(bucket=home ^ 1)
        alone = await engine.post_legs(bare_legs(stray, debit=debit, credit=credit))
        assert results(alone.status) == ["id_in_wrong_bucket"]
        chain = await engine.post_legs(bare_legs(good, stray, debit=debit, credit=credit, flags=[1, 0]))
        assert results(chain.status) == ["linked_event_failed", "id_in_wrong_bucket"]
        assert await shop.balance(shop.buyer) == 99


async def test_a_preview_does_not_guess_what_other_shards_would_say(database: Database) -> None:
    async with Engine.running(settings_of(database, shards=4)) as engine:
        shop = await Shop.opened(engine, funds=100)
        await shop.do(shop.transfer(30))
        home = shop._shard_of(0)  # of journals
        away, other = sorted((shop.buyer, shop.seller), key=lambda party: shop._shard_of(party) == home)
        before = await shop.balance(away)
        legs = JournalLegs(
            debits=[shop.wallet(away)], credits=[shop.wallet(other)], amounts=[30], assets=["GBP"]
        )
        command = MoveCommand(id=shop.command_id(), kind="journal", legs=legs)
        shown = await engine.preview(command)
        assert (shown.code, [entry.amount for entry in shown.entries]) == ("", [30, 30])
        await shop.do(command)
        assert await shop.balance(away) == before - 30


async def test_a_cut_over_shards_contradicts_nothing(database: Database) -> None:
    async with Engine.running(settings_of(database, shards=4)) as engine:
        shop = await Shop.opened(engine, seed=5)
        parties = await parties_of(shop)
        commands = [
            shop.transfer(1, payer=payer, payee=payee)
            for payer in parties
            for payee in parties
            if payer != payee
        ]
        answers = await engine.submit(commands)
        assert all(answer.accepted for answer in answers)
        await engine.wait_projected()
        times = sorted(answer.timestamp for answer in answers)
        async with database.session("test") as session:
            for at in (None, times[0], times[len(times) // 2], times[-1]):
                cut = await (await session.execute(b"select * from consistent_cut(%s)", (at,))).fetchall()
                assert len(cut) == 4
                rows = await session.execute(
                    b"select sum(b.credits_posted - b.debits_posted)::int8 from consistent_cut(%s) c"
                    b" join account a on a.shard = c.shard and a.code <> 9000 and a.created <= c.upto"
                    b" cross join lateral balance_at(a.shard, a.ordinal, c.upto) b",
                    (at,),
                )
                outside = ((await rows.fetchone()) or (0,))[0]
                flying = await (
                    await session.execute(b"select sum(amount)::int8 from in_flight(%s)", (at,))
                ).fetchone()
                assert outside + ((flying or (0,))[0] or 0) == 0
            last = await (await session.execute(b"select sum(abs(amount)) from in_flight()")).fetchone()
            assert last is not None
            assert not last[0]


async def test_an_account_with_a_row_on_every_shard_is_one(database: Database) -> None:
    async with Engine.running(settings_of(database, shards=4)) as engine:
        shop = await Shop.opened(engine, seed=9)
        parties = await parties_of(shop, 12)
        for party in parties:
            await shop.fund(party, 1_000)
            await shop.do(shop.order(payer=party, payee=shop.seller))
        sales = engine.account("R:sales", "GBP")
        balance = await sales.balance()
        assert balance.posted == 800 * len(parties)
        await engine.wait_projected()
        entries: list[EntryView] = []
        cursor: str | None = None
        while cursor is not None or not entries:
            page = await sales.entries(limit=5, cursor=cursor, newest_first=False)
            entries += page.items
            cursor = page.cursor
        assert len({entry.leg for entry in entries}) == len(entries) > 12
        assert sum(entry.amount for entry in entries) == balance.posted
        assert [entry.timestamp for entry in entries] == sorted(entry.timestamp for entry in entries)
        assert not any(entry.counterparty_key.startswith("C:") for entry in entries)
        then = await engine.queries.balance_at(sales.id, entries[-1].timestamp)
        assert then.credits_posted - then.debits_posted == balance.posted
        with pytest.raises(FilterRefused, match="rows on"):
            await sales.history()


async def test_a_journal_has_every_leg_once_under_its_true_accounts(database: Database) -> None:
    async with Engine.running(settings_of(database, shards=4)) as engine:
        shop = await Shop.opened(engine, seed=11)
        for command in (shop.transfer(5), shop.order()):
            answer = await shop.do(command)
            await engine.wait_projected()
            lines = await engine.queries.journal(command.id)
            assert len(lines) == answer.leg_count
            keys = {key for line in lines for key in (line.debit_key, line.credit_key)}
            assert not any(key.startswith("C:") or not key for key in keys), keys
            assert any(format_id(shop.buyer) in key for key in keys)
