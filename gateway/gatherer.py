"""Gathers small batches of many connections into messages for the shard.

What arrives in one pass of the event loop becomes one message of columns. Each client's legs stay a batch of
their own in it, with its chains, imports and stamps.
"""

import asyncio
from functools import partial
from typing import Final

import numpy as np

from actors.answers import LegAnswers
from actors.errors import ActorError, InvalidRequest
from actors.runtime import Engine
from gateway.hot_legs import HotLeg
from gateway.leg_columns import columns_of

MESSAGE_LEGS_MAX: Final = 8_192

Outcome = tuple[list[int], list[int], int]
"""What became of a batch: results and timestamps of its legs, and the position in the log."""
_Waiting = tuple[list[HotLeg], asyncio.Future[Outcome]]


class Gatherer:
    """Posts legs to `engine`, those of one pass of the event loop together."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: list[_Waiting] = []
        self._assets: dict[str, int] = {}  # numbers of codes, which never change

    def knows_assets(self, legs: list[HotLeg]) -> bool:
        """Whether there are Things with all the asset codes."""
        for leg in legs:
            if leg.asset is not None and leg.asset not in self._assets:
                try:
                    self._assets[leg.asset] = self._engine.asset_number(leg.asset)
                except InvalidRequest:
                    return False
        return True

    def post(self, legs: list[HotLeg]) -> asyncio.Future[Outcome]:
        """Post a client's batch, whose assets are known. The future has the durable answer or an
        ActorError."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._send)
        answer: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.append((legs, answer))
        return answer

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        message: list[_Waiting] = []
        count = 0
        for item in waiting:
            if count + len(item[0]) > MESSAGE_LEGS_MAX and message:
                self._send_one(message)
                message, count = [], 0
            message.append(item)
            count += len(item[0])
        self._send_one(message)

    def _send_one(self, message: list[_Waiting]) -> None:
        offsets = [0]
        for legs, _ in message:
            offsets.append(offsets[-1] + len(legs))
        columns = columns_of([leg for legs, _ in message for leg in legs], self._assets)
        try:
            sent = self._engine.send_batches(columns, np.array(offsets, np.int64))
        except ActorError as refusal:
            _fail(message, refusal)
            return
        sent.add_done_callback(partial(_share, message, offsets))


def _share(message: list[_Waiting], offsets: list[int], sent: asyncio.Future[LegAnswers]) -> None:
    """Give everybody their part of the answer."""
    if sent.cancelled():
        for _, answer in message:
            answer.cancel()
        return
    failure = sent.exception()
    if failure is not None:
        _fail(message, failure)
        return
    answers = sent.result()
    statuses, timestamps = answers.status.tolist(), answers.timestamp.tolist()
    for (_, answer), first, last in zip(message, offsets, offsets[1:], strict=False):
        if not answer.done():
            answer.set_result((statuses[first:last], timestamps[first:last], answers.lsn))


def _fail(message: list[_Waiting], failure: BaseException) -> None:
    for _, answer in message:
        if not answer.done():
            answer.set_exception(failure)
