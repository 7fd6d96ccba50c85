"""What the Moves' book forgets is looked up, and what it needs it does not forget."""

import msgspec

from engine import ids
from engine.commands import JournalLegs, MoveCommand, Refusal
from engine.layout import AMOUNT_MAX
from engine.ledger import LedgerConfig
from engine.moves import LoadedRequests
from tests.desk import SECOND, Shop


def tiny() -> Shop:
    return Shop(
        config=LedgerConfig(
            ids_per_generation=8, turn_events_max=64, accounts_initial=8, holds_initial=8, hash_seed=1
        )
    )


def forget(shop: Shop) -> None:
    """Let the window turn until everything so far is dropped."""
    before = shop.ledger.generation
    while shop.ledger.generation < before + 2:
        legs = JournalLegs(["A:a"] * 4, ["A:b"] * 4, [1] * 4, ["GBP"] * 4)
        shop.do(kind="journal", legs=legs)
        shop.ledger.drop_generations(shop.ledger.droppable(shop.ledger.last_timestamp))
        shop.turn_window()
    assert shop.ledger.dropped > before
    shop.now += SECOND


def test_forgotten_request_is_looked_up() -> None:
    shop = tiny()
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    done = shop.transfer(60, reference="r1")
    first = shop.one(done)
    kept = {ids.id_from_bytes(fact.request): fact for fact in shop.facts}
    assert not shop.book.unknown_requests([done], shop.now)
    forget(shop)
    step = MoveCommand(id=shop.id(), move=done.id, transition="post")
    unknown = shop.book.unknown_requests(
        [done, step, shop.transfer(5, reference="r1"), shop.transfer(6)], shop.now
    )
    assert unknown.requests == [done.id]
    assert unknown.moves == [done.id]
    assert unknown.references == [(shop.buyer, "r1"), (shop.buyer, "r1")]
    loaded = LoadedRequests(
        requests={done.id: kept[done.id]},
        moves={done.id: kept[done.id]},
        references={(shop.buyer, "r1"): done.id},
    )
    again, ended, taken = shop.send(done, step, shop.transfer(5, reference="r1"), loaded=loaded)
    assert again == msgspec.structs.replace(first, replayed=True)
    assert ended.code == Refusal.MOVE_ENDED
    assert taken.code == Refusal.REFERENCE_ALREADY_USED
    assert shop.balance(f"L:wallet/{shop.s}") == 60
    shop.close()


def test_only_young_uuid7_is_provably_new() -> None:
    shop = tiny()
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    now_ms = shop.now // 10**6
    odd = [
        ids.uuid7(now_ms - 1, 0, 9),  # older than what was dropped
        ids.uuid7(now_ms + 100_000, 0, 9),  # from the future
        ids.id_of_text("t", "key"),  # no UUIDv7
        5,
    ]
    commands = [shop.transfer(1, id=id) for id in odd]
    assert not shop.book.unknown_requests(commands, shop.now), "nothing was dropped yet"
    forget(shop)
    assert shop.book.unknown_requests(commands, shop.now).requests == odd
    assert not shop.book.unknown_requests([shop.transfer(1)], shop.now)
    shop.close()


def test_open_moves_outlive_the_window() -> None:
    shop = tiny()
    order = shop.one(shop.order("place"))
    forget(shop)
    assert not shop.book.unknown_requests(
        [MoveCommand(id=shop.id(shop.now // 10**6 + 1), move=order.move, transition="cancel")], shop.now
    )
    assert shop.do(move=order.move, transition="cancel").state == "cancelled"
    shop.close()


def test_window_says_what_may_be_dropped() -> None:
    shop = Shop()
    shop.one(shop.order("place"))
    first = shop.now
    window = shop.book.window
    window.set_generation(1, 0)
    shop.one(shop.order("place"))
    assert [window.droppable(time) for time in (0, first, AMOUNT_MAX)] == [0, 1, 1]
    window.set_generation(0, 0)
    assert window.generation == 1, "it never turns back"
