"""Gathers small batches of many connections into messages for the shard.

What arrives in one pass of the event loop becomes one message of columns. Each client's legs stay a batch of
their own in it, with its chains, imports and stamps.
"""

import asyncio
from functools import partial
from itertools import pairwise
from typing import Final, NamedTuple, Protocol

import numpy as np

from actors.answers import LegAnswers
from actors.errors import InvalidRequest
from actors.runtime import Engine
from gateway.hot_legs import HotLegs
from gateway.leg_columns import columns_of

MESSAGE_LEGS_MAX: Final = 8_192


class Outcome(NamedTuple):
    """What became of a batch: results and timestamps of its legs, and the position in the log."""

    statuses: list[int]
    timestamps: list[int]
    lsn: int


class Sender(Protocol):
    """Who posted a batch and waits for the durable answer: one of the two is called, once."""

    @property
    def principal(self) -> str:
        """On whose word the batch comes."""

    def answered(self, outcome: Outcome) -> None:
        """The batch was judged."""

    def failed(self, error: BaseException) -> None:
        """It was not; an ActorError, unless something is wrong with us."""


class Gatherer:
    """Posts legs to `engine`, those of one pass of the event loop together."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: list[tuple[HotLegs, Sender]] = []
        self._assets: dict[str, int] = {}  # numbers of codes, which never change

    def knows_assets(self, batch: HotLegs) -> bool:
        """Whether there are Things with all the asset codes."""
        for leg in batch.legs:
            if leg.asset is not None and leg.asset not in self._assets:
                try:
                    self._assets[leg.asset] = self._engine.asset_number(leg.asset)
                except InvalidRequest:
                    return False
        return True

    def post(self, batch: HotLegs, sender: Sender) -> None:
        """Post a client's batch, whose assets are known; the sender is told what became of it."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._send)
        self._waiting.append((batch, sender))

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        message: list[tuple[HotLegs, Sender]] = []
        count = 0
        for item in waiting:
            if message and count + len(item[0].legs) > MESSAGE_LEGS_MAX:
                self._send_one(message)
                message, count = [], 0
            message.append(item)
            count += len(item[0].legs)
        self._send_one(message)

    def _send_one(self, message: list[tuple[HotLegs, Sender]]) -> None:
        senders = [sender for _, sender in message]
        offsets = [0]
        for batch, _ in message:
            offsets.append(offsets[-1] + len(batch.legs))
        try:
            columns = columns_of([leg for batch, _ in message for leg in batch.legs], self._assets)
            principals = tuple([sender.principal for sender in senders])
            sent = self._engine.send_batches(columns, np.array(offsets, np.int64), principals)
        except Exception as error:  # whatever it is, everybody who waits gets an answer
            for sender in senders:
                sender.failed(error)
            return
        sent.add_done_callback(partial(_share, senders, offsets))


def _share(senders: list[Sender], offsets: list[int], sent: asyncio.Future[LegAnswers]) -> None:
    """Give everybody their part of the answer."""
    error = asyncio.CancelledError() if sent.cancelled() else sent.exception()
    if error is not None:
        for sender in senders:
            sender.failed(error)
        return
    answers = sent.result()
    statuses, timestamps, lsn = answers.status.tolist(), answers.timestamp.tolist(), answers.lsn
    for sender, (first, last) in zip(senders, pairwise(offsets), strict=True):
        sender.answered(Outcome(statuses[first:last], timestamps[first:last], lsn))
