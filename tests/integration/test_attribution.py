"""On whose word: every fact in the log says so, however many principals a turn had, and SQL shows it."""

import asyncio
from random import Random
from typing import Any

import numpy as np
import pytest

from actors.attribution import Attribution
from actors.messages import (
    Claim,
    Message,
    PostBatches,
    PostLegs,
    SetGuards,
    SubmitMoves,
    SubmitParties,
    SubmitThings,
)
from actors.runtime import Engine
from engine.commands import CreateParty, CreateThing
from engine.facts import Envelope, Event, MoveFact, PartyFact, RequestFact, ThingFact
from engine.ids import leg_ids
from engine.layout import CEILING_UNSET, FLOOR_UNSET, ids_list
from engine.record import Record
from persistence.database import Database
from tests.fixtures_engine import Shop, bare_legs, sent, settings_of

WHO = ("", "alice", "bob", "carol")


def envelopes_of(record: Record) -> list[Envelope]:
    return [event for event in record.events if isinstance(event, Envelope)]


def principal_of_leg(record: Record, place: int) -> str:
    [found] = [
        envelope.principal
        for envelope in envelopes_of(record)
        if envelope.leg_first <= place < envelope.leg_first + envelope.leg_count
    ]
    return found


def principal_of_event(record: Record, place: int) -> str:
    [found] = [
        envelope.principal
        for envelope in envelopes_of(record)
        if envelope.event_first <= place < envelope.event_first + envelope.event_count
    ]
    return found


def subject(event: Event) -> bytes:
    """By what a test knows it again."""
    if isinstance(event, MoveFact | RequestFact):
        return event.request
    assert isinstance(event, PartyFact | ThingFact)
    return event.id


class Talk:
    """Messages on several words, and whose each leg and event must be."""

    def __init__(self, shop: Shop, accounts: list[int], seed: int) -> None:
        self.shop, self.accounts = shop, accounts
        self.chance = Random(seed)
        self.by: dict[bytes, str] = {}  # by the id of a leg or request
        self.moves: dict[int, str] = {}

    def ids(self, count: int, who: str) -> list[int]:
        made = [self.shop.new_id() for _ in range(count)]
        self.by |= {id.to_bytes(16, "big"): who for id in made}
        return made

    def legs(self, who: str) -> list[int]:
        return self.ids(self.chance.randint(1, 4), who)

    def message(self) -> Message:
        who = self.chance.choice(WHO)
        debit, credit = self.chance.sample(self.accounts, 2)
        amount = self.chance.choice([1, 1, 1, 2**62])  # some are refused, and burnt or not
        match self.chance.randrange(8):
            case 0 | 1:
                ids = self.legs(who)
                return PostLegs(bare_legs(*ids, debit=debit, credit=credit, amount=[amount] * len(ids)), who)
            case 2 | 3:
                several = [self.chance.choice(WHO) for _ in range(self.chance.randint(1, 5))]
                batches = [self.legs(name) for name in several]
                ids = [id for batch in batches for id in batch]
                offsets = np.cumsum([0, *map(len, batches)]).astype(np.int64)
                columns = bare_legs(*ids, debit=debit, credit=credit, amount=[amount] * len(ids))
                return PostBatches(columns, offsets, tuple(several))
            case 4 | 5:
                commands = [self.shop.transfer(amount) for _ in range(self.chance.randint(1, 3))]
                for command in commands:
                    self.by[command.id.to_bytes(16, "big")] = who
                    self.by[ids_list(leg_ids(command.id, 0, 1))[0].to_bytes(16, "big")] = who
                    self.moves[command.id] = who
                return SubmitMoves(commands, who)
            case 6:
                [id] = self.ids(1, who)
                if self.chance.random() < 0.5:
                    return SubmitParties([CreateParty(id=id, kind="person")], principal=who)
                return SubmitThings([CreateThing(id=id, kind="product", code=f"T{id:x}")], who)
            case _:
                [id] = self.ids(1, who)
                if self.chance.random() < 0.5:
                    return Claim(id, bytes(18), id, who)
                floor = self.chance.choice([FLOOR_UNSET, -(2**50)])
                return SetGuards(debit, floor, CEILING_UNSET, 0, id, who)


@pytest.mark.parametrize("seed", range(4))
async def test_every_fact_says_on_whose_word_it_came(database: Database, seed: int) -> None:
    async with Engine.running(settings_of(database)) as engine:
        shop = await Shop.opened(engine, seed, funds=1_000)
        accounts = await shop.bare_accounts(3, floor=-1_000)
        talk = Talk(shop, accounts, seed)
        after = engine.log_ends()[0]
        for _ in range(12):
            count = talk.chance.randint(1, 12)
            answers = [sent(engine, talk.message()) for _ in range(count)]
            await asyncio.gather(*answers, return_exceptions=True)
        checked = 0
        with engine.follow(0, after) as follower:
            while follower.behind:
                for record in await follower.next():
                    checked += check(record, talk)
        assert checked > 50
        await engine.wait_projected()
        for view in await engine.queries.moves_by_id(list(talk.moves)):
            [step, *_] = await engine.queries.transitions(view.id)
            assert step.principal == talk.moves[view.id]


def check(record: Record, talk: Talk) -> int:
    """Compare a record with what was sent; how much there was in it."""
    legs = record.legs
    for place in range(len(legs)):
        id = (int(legs["id_hi"][place]) << 64 | int(legs["id_lo"][place])).to_bytes(16, "big")
        assert principal_of_leg(record, place) == talk.by[id]
    others = [(at, event) for at, event in enumerate(record.events) if not isinstance(event, Envelope)]
    for place, event in others:
        assert principal_of_event(record, place) == talk.by[subject(event)]
    return len(legs) + len(others)


async def test_an_engine_on_somebodys_word(database: Database) -> None:
    async with Engine.running(settings_of(database)) as engine:
        shop = await Shop.opened(engine)
        assert engine.on_word_of("") is engine
        alices = engine.on_word_of("alice")
        command: Any = shop.transfer()
        [answer] = await alices.submit([command])
        await engine.wait_projected(answer.lsn)
        [step] = await engine.queries.transitions(answer.move)
        assert step.principal == "alice"


def test_one_principal_needs_one_envelope() -> None:
    given = Attribution()
    assert given.envelopes("shop") == [Envelope("shop", event_first=1)]
    given.legs("alice", 2)
    given.events("alice", 1)
    given.legs("alice", 3)
    given.legs("bob", 0)
    [only] = given.envelopes("shop")
    assert only == Envelope("shop", principal="alice", leg_count=5, event_first=1, event_count=1)


def test_several_principals_need_one_for_each_run() -> None:
    given = Attribution()
    made = np.array([True, False, True, True, False])
    given.batches(["alice", "bob", "bob"], np.array([0, 2, 3, 5], np.int64), made)
    given.events("bob", 2)
    given.events("", 1)
    assert given.envelopes("shop") == [
        Envelope("shop", principal="alice", leg_first=0, leg_count=1),
        Envelope("shop", principal="bob", leg_first=1, leg_count=2),
        Envelope("shop", principal="bob", event_first=4, event_count=2),
        Envelope("shop", principal="", event_first=6, event_count=1),
    ]
