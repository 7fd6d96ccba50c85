"""How long one durable Move takes when nothing else is going on: transfers, one after the other.

Two Parties made for this pass a coin to and fro. What they have is an `opening` Move, so the books stay
balanced and no revenue is touched.
"""

import time
from typing import Final
from uuid import uuid4

import numpy as np

from actors.runtime import Engine
from engine.commands import CreateParty, JournalEntries, MoveAnswer, MoveCommand
from engine.entities import PartyKind, Side
from engine.ids import bucket_of_party, format_id, uuid7
from simulations.errors import SimulationError
from simulations.moves import MILLISECOND_NS
from simulations.replay import Latency

TRANSFERS: Final = 500
_FREE_BITS: Final = (1 << 62) - 1


class ProbeRefused(SimulationError):  # noqa: N818  # an answer that should not be
    """The engine refused a Move of the probe."""


async def measure_latency(engine: Engine, asset: str, transfers: int = TRANSFERS) -> Latency:
    """Time `transfers` Moves from sending to durable answer. Raises ProbeRefused, ActorError."""
    ping, pong = _new_id(0), _new_id(0)
    for party, name in ((ping, "Ping"), (pong, "Pong")):
        (made,) = await engine.create_parties([CreateParty(id=party, kind=PartyKind.MACHINE, name=name)])
        if not made.accepted:
            raise ProbeRefused(f"{made.code}: {made.message}")
    coins = JournalEntries(
        accounts=[f"L:wallet/{format_id(ping)}"], sides=[Side.CREDIT], amounts=[1], assets=[asset]
    )
    bucket = bucket_of_party(engine.settings.tenant, ping)
    await _submit(engine, MoveCommand(id=_new_id(bucket), kind="opening", payer=ping, entries=coins))
    seconds = np.zeros(transfers)
    payer, payee = ping, pong
    for number in range(transfers):
        command = MoveCommand(
            id=_new_id(bucket_of_party(engine.settings.tenant, payer)),
            kind="transfer",
            payer=payer,
            payee=payee,
            asset=asset,
            amount=1,
        )
        started = time.perf_counter()
        await _submit(engine, command)
        seconds[number] = time.perf_counter() - started
        payer, payee = payee, payer
    p50, p99 = np.percentile(seconds, [50, 99]).tolist()
    return Latency(round(p50 * 1000, 3), round(p99 * 1000, 3))


async def _submit(engine: Engine, command: MoveCommand) -> MoveAnswer:
    (answer,) = await engine.submit([command])
    if not answer.accepted:
        raise ProbeRefused(f"{answer.code}: {answer.message}")
    return answer


def _new_id(bucket: int) -> int:
    return uuid7(time.time_ns() // MILLISECOND_NS, bucket, uuid4().int & _FREE_BITS)
