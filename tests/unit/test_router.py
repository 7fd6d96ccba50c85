"""Commands of a list go to the shards that they belong to, and every answer comes back to its place."""

import asyncio
from random import Random
from typing import Any, cast

import numpy as np
import pytest

from actors.answers import LegAnswers
from actors.doors import Door
from actors.errors import ActorError, Overloaded, ShardStopped
from actors.messages import (
    CreateAccounts,
    Message,
    PostBatches,
    PostLegs,
    SubmitMoves,
    SubmitParties,
)
from actors.router import MESSAGE_WEIGHT_MAX, Router
from engine import ids
from engine.commands import CreateParty, DirectoryAnswer, MoveAnswer, MoveCommand
from engine.layout import (
    AccountColumns,
    AccountFlag,
    LegColumns,
    LegFlag,
    account_columns,
    ids_column,
    leg_columns,
)
from engine.placement import Placement
from engine.results import Result

FOUR = Placement.even(4)


class Recorder:
    """Stands where a shard does: takes note of what it is sent. It answers a leg or account with a status
    and a timestamp that say what it was, and a command with its own id."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.refusal: ActorError | None = None  # what it raises when it is sent something
        self.failure: ActorError | None = None  # what it answers
        self.taken: list[Message] = []

    def send(self, message: Message) -> asyncio.Future[Any]:
        return self.send_all([message])[0]

    def send_all(self, messages: list[Message]) -> list[asyncio.Future[Any]]:
        if self.refusal is not None:
            raise self.refusal
        self.taken += messages
        return [self._answer(message) for message in messages]

    def _answer(self, message: Any) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        if self.failure is not None:
            future.set_exception(self.failure)
        elif isinstance(message, SubmitMoves):
            future.set_result([self._moved(command) for command in message.commands])
        elif isinstance(message, SubmitParties):
            future.set_result([DirectoryAnswer(id=command.id) for command in message.commands])
        else:
            future.set_result(self._judged(message.columns))
        return future

    def _moved(self, command: MoveCommand) -> MoveAnswer:
        return MoveAnswer(
            request=command.id, move=command.id, kind="", state="", seq=0, version=0, timestamp=self.index
        )

    def _judged(self, columns: LegColumns | AccountColumns) -> LegAnswers:
        status = np.full(len(columns.flags), self.index, np.uint8)
        return LegAnswers(status=status, timestamp=columns.user_data_64.astype(np.int64), lsn=self.index + 5)


def router() -> tuple[Router, list[Recorder]]:
    doors = [Recorder(index) for index in range(4)]
    return Router(cast(list[Door], doors), FOUR, "t"), doors


def account(shard: int, number: int = 1) -> int:
    """An account of a shard."""
    return (1024 * shard + 7) << 116 | number


def legs(*shards: int, flags: list[int] | None = None) -> LegColumns:
    """Legs that debit accounts of these shards; their user data number them."""
    count = len(shards)
    return leg_columns(
        count,
        id=ids_column([ids.uuid7(1, 0, 1 + number) for number in range(count)]),
        debit=ids_column([account(shard) for shard in shards]),
        flags=[0] * count if flags is None else flags,
        user_data_64=list(range(count)),
    )


def numbers(message: Any) -> list[int]:
    """Which rows a message holds."""
    return [int(number) for number in message.columns.user_data_64]


async def test_a_batch_for_one_shard_goes_there_as_it_is() -> None:
    asked, doors = router()
    columns = legs(2, 2, 2)
    answer = await asked.legs(columns, None, ())
    (message,) = doors[2].taken
    assert isinstance(message, PostLegs)
    assert message.columns is columns
    assert answer.status.tolist() == [2, 2, 2]
    offsets = np.array([0, 1, 3], np.int64)
    await asked.legs(columns, offsets, ())
    assert isinstance(doors[2].taken[1], PostBatches)
    assert doors[2].taken[1].offsets is offsets


async def test_each_chain_goes_to_its_first_legs_shard_in_order() -> None:
    asked, doors = router()
    linked = int(LegFlag.LINKED)
    columns = legs(0, 3, 1, 0, 2, 0, flags=[0, linked, linked, 0, 0, 0])
    answer = await asked.legs(columns, np.array([0, 4, 6], np.int64), ())
    assert [numbers(message) for message in doors[0].taken] == [[0, 5]]
    assert [numbers(message) for message in doors[3].taken] == [[1, 2, 3]]
    assert [numbers(message) for message in doors[2].taken] == [[4]]
    assert cast(PostBatches, doors[0].taken[0]).offsets.tolist() == [0, 1, 2]
    assert answer.status.tolist() == [0, 3, 3, 3, 2, 0]
    assert answer.timestamp.tolist() == list(range(6))
    assert answer.lsn == 8


async def test_a_chain_ends_with_its_batch() -> None:
    asked, doors = router()
    linked = int(LegFlag.LINKED)
    await asked.legs(legs(1, 2, flags=[linked, 0]), np.array([0, 1, 2], np.int64), ())
    assert [numbers(message) for message in doors[1].taken] == [[0]]
    assert [numbers(message) for message in doors[2].taken] == [[1]]


async def test_posts_and_voids_go_where_their_hold_is() -> None:
    asked, doors = router()
    holds = [ids.uuid7(1, 1024 * shard, 9) for shard in (3, 1)]
    columns = legs(0, 0, 0, flags=[LegFlag.POST_PENDING, LegFlag.VOID_PENDING, LegFlag.POST_PENDING])
    await asked.legs(columns._replace(pending_id=ids_column([*holds, 0])), None, ())
    assert [len(door.taken) for door in doors] == [1, 1, 0, 1]


@pytest.mark.parametrize("seed", range(5))
async def test_batches_are_imported_or_not_as_their_first_row_says(seed: int) -> None:
    random = Random(seed)
    asked, doors = router()
    sizes = [random.randrange(1, 6) for _ in range(20)]
    flags = [random.choice((0, int(LegFlag.IMPORTED))) for _ in range(sum(sizes))]
    offsets = np.cumsum([0, *sizes])
    shards = [random.randrange(4) for _ in flags]
    answer = await asked.legs(legs(*shards, flags=flags), offsets, ())
    assert answer.status.tolist() == shards
    assert answer.timestamp.tolist() == list(range(len(flags)))
    seen: dict[int, int] = {}
    for door in doors:
        (message,) = door.taken
        assert isinstance(message, PostBatches)
        columns = message.columns
        added = (columns.id == 0).all(axis=1)
        for first, last in zip(message.offsets, message.offsets[1:], strict=False):
            rows = [row for row in range(first, last) if not added[row]]
            batch = {int(np.searchsorted(offsets, numbers(message)[row], "right")) - 1 for row in rows}
            assert len(batch) == 1, "batches stay apart"
            assert columns.flags[first] == flags[offsets[batch.pop()]], "and say what they said"
            seen |= {numbers(message)[row]: int(columns.flags[row]) for row in rows}
    assert [seen[row] for row in range(len(flags))] == flags


async def test_accounts_go_to_their_shards_with_their_keys() -> None:
    asked, doors = router()
    flags = [AccountFlag.IMPORTED, 0, AccountFlag.LINKED, 0]
    columns = account_columns(
        4,
        id=ids_column([account(shard) for shard in (2, 0, 1, 3)]),
        flags=flags,
        user_data_64=[0, 1, 2, 3],
    )
    answer = await asked.accounts(columns, ["a", "b", "c", "d"])
    assert answer.status.tolist() == [2, 0, 1, 1]
    messages = [cast(CreateAccounts, message) for door in doors for message in door.taken]
    assert [message.keys for message in messages] == [["", "b"], ["", "c", "d"], ["a"]]


async def test_commands_go_to_the_home_in_their_ids_and_keep_their_order() -> None:
    asked, doors = router()
    random = Random(1)
    buckets = [random.randrange(4096) for _ in range(50)]
    commands = [MoveCommand(id=ids.uuid7(1, bucket, place)) for place, bucket in enumerate(buckets)]
    commands.append(MoveCommand(id=2**128))
    answers = await asked.moves(SubmitMoves, commands)
    assert [answer.request for answer in answers] == [command.id for command in commands]
    assert [answer.timestamp for answer in answers] == [bucket // 1024 for bucket in buckets] + [0]
    for door in doors:
        (message,) = door.taken
        sent = [command.id for command in cast(SubmitMoves, message).commands]
        assert sent == [command.id for command in commands if command.id in sent]


async def test_long_lists_become_several_messages() -> None:
    asked, doors = router()
    commands = [MoveCommand(id=ids.uuid7(1, 4095, number)) for number in range(MESSAGE_WEIGHT_MAX // 8 + 1)]
    assert len(await asked.moves(SubmitMoves, commands)) == len(commands)
    assert len(doors[3].taken) == 2


@pytest.mark.parametrize("when", ["refusal", "failure"])
async def test_what_one_of_several_shards_does_not_take_is_unavailable(when: str) -> None:
    asked, doors = router()
    setattr(doors[1], when, ShardStopped(1, "gone"))
    answer = await asked.legs(legs(0, 1, 2), None, ())
    assert answer.status.tolist() == [0, Result.SHARD_UNAVAILABLE, 2]
    moves = [MoveCommand(id=ids.uuid7(1, bucket, 1)) for bucket in (0, 1024)]
    assert [answer.code for answer in await asked.moves(SubmitMoves, moves)] == ["", "shard_unavailable"]
    parties = [CreateParty(id=number, kind="org") for number in range(1, 40)]
    codes = {answer.code for answer in await asked.parties(SubmitParties, parties)}
    assert codes == {"", "shard_unavailable"}


@pytest.mark.parametrize("when", ["refusal", "failure"])
async def test_what_no_shard_takes_is_refused(when: str) -> None:
    asked, doors = router()
    for door in doors:
        setattr(door, when, Overloaded("full", 1))
    for shards in ((1, 1), (0, 1)):
        with pytest.raises(Overloaded):
            await asked.legs(legs(*shards), None, ())
    with pytest.raises(Overloaded):
        await asked.moves(SubmitMoves, [MoveCommand(id=1)])
