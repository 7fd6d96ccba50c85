"""Which events of a record a reader gets: in order, and those of its own tenant only."""

from typing import Any

import numpy as np

from engine.facts import Envelope, Event, MoveFact, PartyFact
from engine.layout import ACCOUNT_FACT, LEG_FACT, LegFlag
from engine.record import Record
from gateway.events.filters import LEG_TYPES, EventType, Wanted, leg_types
from gateway.events.record_events import Indexes, RecordEvents
from persistence.account_names import AccountColumns


def party(number: int) -> PartyFact:
    return PartyFact(
        id=number.to_bytes(16, "big"), kind="person", name="", profile=b"", version=1, timestamp=1
    )


def move(number: int, code: str = "") -> MoveFact:
    return MoveFact(
        request=number.to_bytes(16, "big"),
        move=number.to_bytes(16, "big"),
        kind="transfer",
        transition="post",
        state="posted",
        ended=True,
        seq=0,
        timestamp=1,
        business_time=1,
        payer=bytes(16),
        code=code,
    )


def legs(*flags: int) -> Any:
    rows = np.zeros(len(flags), LEG_FACT)
    rows["flags"] = flags
    return rows


def wanted(tenant: str, *types: EventType) -> Wanted:
    chosen = frozenset(types or EventType)
    return Wanted(
        tenant=tenant,
        types=chosen,
        leg_types=np.array([kind in chosen for kind in LEG_TYPES]),
        parties=None,
        party_ids=None,
        accounts=None,
        kinds=None,
        assets=None,
        asset_numbers=None,
    )


async def nobody(_: Indexes) -> AccountColumns:
    raise AssertionError("no filter needs accounts")


def record(events: list[Event], legs: Any, accounts: int = 0) -> Record:
    rows = np.zeros(accounts, ACCOUNT_FACT)
    return Record(
        shard=0, lsn=1, epoch=1, time=1, events=events, legs=legs, accounts=rows, keys=[""] * accounts
    )


async def test_events_count_from_the_first_fact_whatever_is_wanted() -> None:
    envelope = Envelope(tenant="a", leg_count=3, event_first=1, event_count=3)
    found = RecordEvents(
        record([envelope, move(1), party(2), move(3, code="below_floor")], legs(0, LegFlag.BURNT, 2), 2)
    )
    assert (await found.fitting(wanted("a"), nobody)).tolist() == [0, 1, 2, 3, 5, 6]
    assert (await found.fitting(wanted("a", EventType.LEG_HELD), nobody)).tolist() == [5]
    assert (await found.fitting(wanted("a", EventType.MOVE_CREATED), nobody)).tolist() == [6]
    assert (await found.fitting(wanted("a", EventType.ACCOUNT_OPENED), nobody)).tolist() == [1, 2]


async def test_of_a_record_of_several_tenants_each_gets_its_own() -> None:
    events: list[Event] = [
        Envelope(tenant="a", leg_first=0, leg_count=1, event_first=2, event_count=2),
        Envelope(tenant="b", leg_first=1, leg_count=2, event_first=4, event_count=2),
        party(1),
        move(1),
        party(2),
        move(2),
    ]
    found = RecordEvents(record(events, legs(0, 0, 0)))
    assert (await found.fitting(wanted("a"), nobody)).tolist() == [0, 2, 5]
    assert (await found.fitting(wanted("b"), nobody)).tolist() == [1, 3, 4, 6]
    assert (await found.fitting(wanted("c"), nobody)).tolist() == []
    with_accounts = RecordEvents(record(events, legs(0, 0, 0), accounts=1))
    assert 2 not in await with_accounts.fitting(wanted("a"), nobody), "whose it is can't be told"


def test_flags_say_what_a_leg_is() -> None:
    flags = np.array(
        [0, LegFlag.LINKED, LegFlag.PENDING, LegFlag.POST_PENDING, LegFlag.VOID_PENDING, LegFlag.EXPIRY],
        np.uint16,
    )
    assert [LEG_TYPES[place] for place in leg_types(flags)] == [
        EventType.LEG_POSTED,
        EventType.LEG_POSTED,
        EventType.LEG_HELD,
        EventType.LEG_HOLD_POSTED,
        EventType.LEG_HOLD_VOIDED,
        EventType.LEG_HOLD_EXPIRED,
    ]
