"""The engine as its callers meet it: handles, answers that are durable, and bounds that refuse."""

import asyncio

import pytest

from actors.errors import InvalidRequest, NotFound, Overloaded
from actors.messages import ReadAccounts, SetGuards, SubmitMoves
from engine.layout import CEILING_UNSET, ids_column
from persistence.database import Database
from tests.faults.proxy import PostgresProxy
from tests.fixtures_cluster import EVERYWHERE
from tests.fixtures_engine import (
    BOUND_S,
    RECORD,
    Shop,
    bare_legs,
    counted,
    engine_behind,
    sent,
    settings_of,
    struck,
    taken,
)
from tests.integration.conftest import Opening

RUNTIMES = EVERYWHERE

# Handles


async def test_account_handle_tells_balance_entries_and_history(database: Database, opened: Opening) -> None:
    async with opened(settings_of(database)) as engine:
        shop = await Shop.opened(engine, funds=100)
        wallet = engine.account(shop.wallet(shop.buyer), "GBP")
        await shop.do(shop.transfer(30))
        held = await shop.do(shop.transfer(50, transition="hold"))
        balance = await wallet.balance()
        assert (balance.posted, balance.available, balance.held_out, balance.held_in) == (70, 20, 50, 0)
        assert balance.lsn >= held.lsn
        assert [entry.amount for entry in (await wallet.entries()).items] == [30, 100]
        assert (await wallet.history()).items[0].balance.debits_pending == 50
        read = await wallet.read()
        assert (read.credits_posted, read.debits_posted, read.debits_pending) == (100, 30, 50)
        assert (read.party, read.floor, read.ceiling) == (shop.buyer, 0, None)


async def test_party_handle_registers_reads_and_moves(database: Database, opened: Opening) -> None:
    async with opened(settings_of(database)) as engine:
        shop = await Shop.opened(engine)
        party = engine.party(shop.new_id())
        with pytest.raises(NotFound, match="no party"):
            await party.read()
        assert (await party.create("org", "Tiles & Co", country="GR")).accepted
        assert (await party.create("org", "Tiles & Co", country="GR")).replayed
        assert (await party.update("Tiles and Company")).version == 2
        assert (await party.read()).name == "Tiles and Company"
        await shop.fund(party.id, 10)
        paid = await party.move(
            "transfer", shop.command_id(party.id), payee=shop.seller, asset="GBP", amount=10
        )
        assert (paid.state, await shop.balance(shop.seller)) == ("posted", 10)
        with pytest.raises(InvalidRequest, match="payer"):
            await party.move("transfer", shop.new_id(), payer=shop.buyer)


async def test_guards_are_set_under_a_version(database: Database, opened: Opening) -> None:
    async with opened(settings_of(database)) as engine:
        shop = await Shop.opened(engine, funds=10)
        wallet = engine.account(shop.wallet(shop.buyer), "GBP")
        assert (await shop.one(shop.transfer(30))).code == "below_floor"
        version = (await wallet.read()).version
        after = await wallet.set_guards(-20, None, if_version=version)
        assert (after.floor, after.ceiling, after.version) == (-20, None, version + 1)
        with pytest.raises(InvalidRequest, match=f"the account is at version {version + 1}"):
            await wallet.set_guards(0, None, if_version=version)
        await shop.do(shop.transfer(30))
        assert (await wallet.balance()).posted == -20
        again = await wallet.set_guards(-20, None)
        assert again.version == (await wallet.read()).version, "what is so already is not written again"
        with pytest.raises(InvalidRequest, match="out of range"):
            await wallet.set_guards(2**63, None)


async def test_what_is_not_there_is_named(database: Database, opened: Opening) -> None:
    async with opened(settings_of(database)) as engine:
        shop = await Shop.opened(engine)
        with pytest.raises(NotFound, match="no account L:nobody"):
            await engine.account("L:nobody", "GBP").balance()
        with pytest.raises(NotFound, match="no account"):
            await engine.set_guards(12345, 0, None)
        with pytest.raises(InvalidRequest, match="there is no Thing with the code 'XXX'"):
            engine.account(shop.wallet(shop.buyer), "XXX")
        with pytest.raises(InvalidRequest, match="key"):
            engine.account("wallet", "GBP")
        with pytest.raises(InvalidRequest, match="1 to 65536"):
            await engine.post_legs(bare_legs(debit=1, credit=2))


# Durability


async def test_neither_writes_nor_reads_are_answered_before_their_commit(database: Database) -> None:
    async with PostgresProxy(database.dsn) as proxy, engine_behind(proxy, turn_weight_min=0) as engine:
        shop = await Shop.opened(engine, funds=100)
        before = engine.health().lsn
        buyer = engine.account_id(shop.wallet(shop.buyer), "GBP")
        stalled = proxy.stall_at(b"B", RECORD)
        write = sent(engine, SubmitMoves([shop.transfer(30)]))
        await struck(stalled)
        read = sent(engine, ReadAccounts(ids_column([buyer])))
        unknown = sent(engine, SetGuards(12345, 0, CEILING_UNSET, if_version=0))
        outdated = sent(engine, SetGuards(buyer, 0, CEILING_UNSET, if_version=99))
        await taken(engine)
        await engine.queries.all_things()  # SQL goes on meanwhile
        assert not any(answer.done() for answer in (write, read, unknown, outdated))
        assert engine.health().lsn == before
        proxy.release()
        async with asyncio.timeout(BOUND_S):
            assert (await write)[0].accepted
            assert (await read)[0].debits_posted == 30
            with pytest.raises(NotFound):
                await unknown
            with pytest.raises(InvalidRequest, match="at version 3"):
                await outdated
        assert engine.health().lsn > before


async def test_turns_that_wait_share_a_commit(database: Database) -> None:
    async with PostgresProxy(database.dsn) as proxy:
        async with engine_behind(proxy, turns_in_flight_max=8, turn_weight_min=0) as engine:
            shop = await Shop.opened(engine)
            commits = counted(engine, "commits")
            stalled = proxy.stall_at(b"B", RECORD)
            writes = [sent(engine, SubmitMoves([shop.transfer(1)]))]
            await struck(stalled)
            for _ in range(5):
                writes.append(sent(engine, SubmitMoves([shop.transfer(1)])))
                await taken(engine)
            proxy.release()
            answers = await asyncio.wait_for(asyncio.gather(*writes), BOUND_S)
            lsns = [answer.lsn for (answer,) in answers]
            assert lsns == list(range(lsns[0], lsns[0] + 6)), "each was a turn of its own"
            assert counted(engine, "commits") - commits == 2
        async with database.session("test") as session:
            query = b"select xmin::text from wal where lsn between %s and %s order by lsn"
            rows = await (await session.execute(query, (lsns[0], lsns[-1]))).fetchall()
        first, *others = [xmin for (xmin,) in rows]
        assert len(set(others)) == 1, "one transaction of PostgreSQL"
        assert first not in others


async def test_a_little_waits_for_the_commit_on_its_way_and_much_does_not(database: Database) -> None:
    async with PostgresProxy(database.dsn) as proxy, engine_behind(proxy, turn_weight_min=100) as engine:
        shop = await Shop.opened(engine)
        stalled = proxy.stall_at(b"B", RECORD)
        first = sent(engine, SubmitMoves([shop.transfer(1)]))
        await struck(stalled)
        little = [sent(engine, SubmitMoves([shop.transfer(1)])) for _ in range(3)]
        await engine.queries.all_things()  # a turn has had time to take them
        assert engine.health().mailbox_weight > 0
        much = sent(engine, SubmitMoves([shop.transfer(1) for _ in range(30)]))
        await taken(engine)
        later = [sent(engine, SubmitMoves([shop.transfer(1)])) for _ in range(3)]
        proxy.release()
        answers = await asyncio.wait_for(asyncio.gather(first, *little, much, *later), BOUND_S)
        lsns = [several[-1].lsn for several in answers]
        start = lsns[0]
        assert lsns == [start, *[start + 1] * 4, *[start + 2] * 3], "three turns"


# Bounds


async def test_a_full_mailbox_refuses_and_loses_nothing(database: Database) -> None:
    async with PostgresProxy(database.dsn) as proxy:
        bounds = {"mailbox_messages_max": 5, "turns_in_flight_max": 1}
        async with engine_behind(proxy, **bounds) as engine:
            shop = await Shop.opened(engine)
            stalled = proxy.stall_at(b"B", RECORD)
            first = sent(engine, SubmitMoves([shop.transfer(1)]))
            await struck(stalled)
            others = [sent(engine, SubmitMoves([shop.transfer(1)])) for _ in range(5)]
            refused = shop.transfer(1)
            with pytest.raises(Overloaded, match="mailbox of shard 0 is full") as overloaded:
                await shop.one(refused)
            with pytest.raises(Overloaded):
                await shop.balance(shop.seller)
            assert overloaded.value.retry_after_s > 0
            proxy.release()
            answers = await asyncio.wait_for(asyncio.gather(first, *others), BOUND_S)
            assert all(answer.accepted for (answer,) in answers)
            assert await shop.balance(shop.seller) == 6
            assert not (await shop.do(refused)).replayed, "what was refused had not happened"


async def test_a_list_of_commands_is_taken_as_a_whole_or_not_at_all(database: Database) -> None:
    async with PostgresProxy(database.dsn) as proxy:
        bounds = {"mailbox_weight_max": 20_000, "turns_in_flight_max": 1}
        async with engine_behind(proxy, **bounds) as engine:
            shop = await Shop.opened(engine)
            stalled = proxy.stall_at(b"B", RECORD)
            first = sent(engine, SubmitMoves([shop.transfer(1)]))
            await struck(stalled)
            second = sent(engine, SubmitMoves([shop.transfer(1)]))
            many = [shop.transfer(1) for _ in range(2_500)]
            with pytest.raises(Overloaded):
                await engine.submit(many)
            proxy.release()
            await asyncio.wait_for(asyncio.gather(first, second), BOUND_S)
            assert await shop.balance(shop.seller) == 2
            answers = await engine.submit(many)
            assert [answer.move for answer in answers] == [command.id for command in many]
            assert {answer.replayed for answer in answers} == {False}


async def test_a_caller_that_goes_away_disturbs_nobody(database: Database) -> None:
    async with PostgresProxy(database.dsn) as proxy, engine_behind(proxy) as engine:
        shop = await Shop.opened(engine)
        stalled = proxy.stall_at(b"B", RECORD)
        gone = shop.transfer(1)
        answers = [sent(engine, SubmitMoves([gone])), sent(engine, SetGuards(12345, 0, 0, if_version=0))]
        await struck(stalled)
        for answer in answers:
            answer.cancel()
        proxy.release()
        await shop.do(shop.transfer(2))
        assert (await shop.one(gone)).replayed
