"""A mailbox is first in first out, bounded in messages and in weight, and refuses rather than waits."""

import asyncio
from typing import Any

import pytest

from actors.errors import Overloaded, ShardStopped
from actors.mailbox import Letter, Mailbox

BOUND_S = 5.0


def messages_of(letters: list[Letter]) -> list[Any]:
    return [letter.message for letter in letters]


async def test_letters_are_taken_in_the_order_of_their_arrival() -> None:
    mailbox = Mailbox(0, messages_max=10, weight_max=100)
    mailbox.put([("first", 1), ("second", 1)])
    mailbox.put([("third", 1)])
    assert len(mailbox) == mailbox.weight == 3
    assert messages_of(mailbox.take(10)) == ["first", "second", "third"]
    assert len(mailbox) == mailbox.weight == 0


async def test_the_answer_goes_to_who_left_the_message() -> None:
    mailbox = Mailbox(0, messages_max=10, weight_max=100)
    answers = mailbox.put([("one", 1), ("two", 1)])
    for letter in mailbox.take(10):
        letter.answer.set_result(letter.message.upper())
    assert [await answer for answer in answers] == ["ONE", "TWO"]


async def test_it_refuses_more_messages_than_its_bound_and_keeps_what_it_has() -> None:
    mailbox = Mailbox(3, messages_max=2, weight_max=100)
    mailbox.put([("a", 1), ("b", 1)])
    with pytest.raises(Overloaded, match="mailbox of shard 3 is full; try again in 1 s") as refused:
        mailbox.put([("c", 1)])
    assert refused.value.retry_after_s > 0
    assert messages_of(mailbox.take(10)) == ["a", "b"]
    mailbox.put([("c", 1)])
    assert messages_of(mailbox.take(10)) == ["c"]


async def test_it_refuses_more_weight_than_its_bound() -> None:
    mailbox = Mailbox(0, messages_max=10, weight_max=10)
    mailbox.put([("a", 6)])
    with pytest.raises(Overloaded):
        mailbox.put([("b", 5)])
    mailbox.put([("c", 4)])
    assert messages_of(mailbox.take(100)) == ["a", "c"]


async def test_several_messages_are_left_as_a_whole_or_not_at_all() -> None:
    mailbox = Mailbox(0, messages_max=10, weight_max=10)
    mailbox.put([("a", 6)])
    with pytest.raises(Overloaded):
        mailbox.put([("b", 4), ("c", 1)])
    assert (len(mailbox), mailbox.weight) == (1, 6)


async def test_a_message_heavier_than_the_bound_is_taken_by_an_empty_mailbox() -> None:
    mailbox = Mailbox(0, messages_max=10, weight_max=10)
    mailbox.put([("heavy", 11)])
    with pytest.raises(Overloaded):
        mailbox.put([("light", 1)])
    assert messages_of(mailbox.take(1)) == ["heavy"], "a turn takes at least one letter"


async def test_a_turn_takes_up_to_its_weight_and_leaves_the_rest() -> None:
    mailbox = Mailbox(0, messages_max=10, weight_max=100)
    mailbox.put([("a", 2), ("b", 2), ("c", 1)])
    assert messages_of(mailbox.take(3)) == ["a"], "b does not fit, and c may not overtake it"
    assert messages_of(mailbox.take(3)) == ["b", "c"]
    assert mailbox.take(3) == []


async def test_a_message_whose_caller_has_gone_is_not_taken() -> None:
    mailbox = Mailbox(0, messages_max=10, weight_max=10)
    gone, _ = mailbox.put([("gone", 5), ("there", 5)])
    gone.cancel()
    assert messages_of(mailbox.take(10)) == ["there"]
    assert mailbox.weight == 0


async def test_waiting_ends_when_a_letter_arrives() -> None:
    mailbox = Mailbox(0, messages_max=10, weight_max=10)
    waiting = asyncio.create_task(mailbox.wait(BOUND_S))
    mailbox.put([("a", 1)])
    async with asyncio.timeout(BOUND_S):
        await waiting
    mailbox.take(1)
    await mailbox.wait(0.0)  # nothing there: returns when the time is up


@pytest.mark.parametrize("reason", ["weight", "patience", "closed"])
async def test_waiting_for_more_ends_with_a_reason(reason: str) -> None:
    mailbox = Mailbox(0, messages_max=10, weight_max=10)
    committing = [True]
    mailbox.put([("a", 1)])
    waiting = asyncio.create_task(mailbox.wait_for_more(3, lambda: bool(committing)))
    mailbox.wake()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    match reason:
        case "weight":
            mailbox.put([("b", 2)])
        case "patience":
            committing.clear()
            mailbox.wake()
        case _:
            mailbox.close("no more")
    async with asyncio.timeout(BOUND_S):
        await waiting


async def test_closed_it_refuses_but_gives_what_waits() -> None:
    mailbox = Mailbox(7, messages_max=10, weight_max=10)
    mailbox.put([("a", 1)])
    mailbox.close("its log belongs to another one")
    mailbox.close("a later reason")
    with pytest.raises(ShardStopped, match="shard 7 has stopped: its log belongs to another one"):
        mailbox.put([("b", 1)])
    assert messages_of(mailbox.take(10)) == ["a"]
    async with asyncio.timeout(BOUND_S):
        await mailbox.wait(None)
