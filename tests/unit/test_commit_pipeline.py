"""The commit pipeline on a log whose commits end when the test says so."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from actors.commit import CommitPipeline, Reply
from engine.record import FIRST_CHAIN, Record, encode
from persistence.log import Entry


class HeldLog:
    """Takes records, and is done with them when it is told."""

    def __init__(self) -> None:
        self.sent: list[list[int]] = []  # positions, by commit
        self._done: asyncio.Future[None]

    async def append(self, records: Sequence[Entry]) -> None:
        self.sent.append([lsn for lsn, _, _ in records])
        self._done = asyncio.get_running_loop().create_future()
        await self._done

    def finish(self) -> None:
        """The commit on its way is durable."""
        self._done.set_result(None)


class Pipeline:
    """A pipeline, what it was told and what it tells."""

    def __init__(self) -> None:
        self.log = HeldLog()
        self.durable: list[int] = []
        self.story: list[str] = []  # what happened, in order
        self.next_turn = 0  # submitted as soon as a commit is done, as a shard does; 0 = none
        self.lsn = 0
        self.pipeline = CommitPipeline(self.log, 0, 4, self._durable, self._settled, self._failed)  # type: ignore[arg-type]  # all that it uses of a log

    def submit(self) -> "asyncio.Future[Any]":
        """A turn with a record; the future is its answer."""
        self.lsn += 1
        lsn = self.lsn
        record = Record(shard=0, lsn=lsn, epoch=1, time=lsn, previous=FIRST_CHAIN)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda _: self.story.append(f"answer {lsn}, sent {self.log.sent[-1]}"))
        self.pipeline.submit(record, encode(record), [Reply(answer, lsn)])
        return answer

    def _durable(self, records: list[Record]) -> None:
        self.durable += [record.lsn for record in records]

    def _settled(self) -> None:
        if self.next_turn:
            self.next_turn -= 1
            asyncio.get_running_loop().call_soon(self.submit)

    @staticmethod
    def _failed(failure: Exception) -> None:
        raise AssertionError(failure)


async def rounds(count: int = 6) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
async def held() -> Pipeline:
    return Pipeline()


async def test_the_next_commit_is_sent_before_the_answers_of_the_last_are_given(held: Pipeline) -> None:
    first = held.submit()
    held.next_turn = 1
    await rounds()
    assert held.log.sent == [[1]]
    assert not first.done()
    held.log.finish()
    await rounds()
    assert first.result() == 1
    assert held.story == ["answer 1, sent [2]"]
    assert held.durable == [1]
    assert held.pipeline.durable_lsn == 1, "the second is on its way, and nobody has been answered for it"
    held.log.finish()
    await held.pipeline.close()
    await rounds()
    assert held.story == ["answer 1, sent [2]", "answer 2, sent [2]"]


async def test_turns_that_came_meanwhile_share_a_commit(held: Pipeline) -> None:
    held.submit()
    await rounds()
    answers = [held.submit() for _ in range(3)]
    held.log.finish()
    await rounds()
    assert held.log.sent == [[1], [2, 3, 4]]
    assert not any(answer.done() for answer in answers)
    held.log.finish()
    await held.pipeline.close()
    assert [answer.result() for answer in answers] == [2, 3, 4]


async def test_who_aborts_just_after_a_commit_leaves_its_answers_alone(held: Pipeline) -> None:
    durable = held.submit()
    await rounds()
    lost = held.submit()
    held.log.finish()
    await rounds(1)
    assert held.durable == [1]
    left = await held.pipeline.abort()
    await rounds()
    assert durable.result() == 1
    assert [reply.future for reply in left] == [lost]
