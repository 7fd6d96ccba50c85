"""Blows: what is done to a cluster under load. Each returns once the cluster is whole again."""

import os
import signal
import time
from collections.abc import Callable
from random import Random
from typing import Final, TypeAlias

from gateway.options import CommandFailed, ExitCode
from simulations.failover.clients import Clients
from simulations.failover.programs import POLL_S, gone, send
from simulations.failover.stage import ADDED, ADDRESSES, GATEWAYS, HEAD, Stage

SETTLE_S: Final = 120.0
FENCED_S: Final = 30.0
HEADLESS_ANSWERS: Final = 50
"""So many answers each client gets while Ray has no head."""
GROWN_ANSWERS: Final = 20
"""So many answers each client gets while there is one node more."""

Waits: TypeAlias = dict[str, float]
"""The longest that a client waited, in seconds, by what was done."""


def shard(stage: Stage, clients: Clients, random: Random) -> Waits:
    """kill -9 of the process that hosts a shard."""
    return {"shard": _measured(stage, clients, lambda: os.kill(_victim(stage, random), signal.SIGKILL))}


def gateway(stage: Stage, clients: Clients, random: Random) -> Waits:
    """kill -9 of a gateway with all that it has started; it is started again at once."""
    name = random.choice(GATEWAYS)

    def strike() -> None:
        stage.programs[name].strike(signal.SIGKILL)
        stage.programs[name].end()
        stage.start(name)

    return {"gateway": _measured(stage, clients, strike)}


def postgresql(stage: Stage, clients: Clients, _random: Random) -> Waits:
    """kill -9 of PostgreSQL's postmaster; the shards start it again, as the embedded one is theirs."""

    def strike() -> None:
        assert stage.server.pid is not None
        os.kill(stage.server.pid, signal.SIGKILL)

    return {"postgresql": _measured(stage, clients, strike)}


def node(stage: Stage, clients: Clients, random: Random) -> Waits:
    """kill -9 of everything on the node that hosts a shard, as if its machine were gone."""
    address, _ = _host(stage, random)
    waited = _measured(stage, clients, lambda: stage.programs[address].strike(signal.SIGKILL))
    stage.programs[address].end()
    stage.start(address)
    return {"node": waited}


def frozen(stage: Stage, clients: Clients, random: Random) -> Waits:
    """Everything on the node that hosts a shard stands still, and wakes up when the shard is elsewhere: the
    old owner must end then."""
    address, pid = _host(stage, random)
    asleep: list[int] = []
    waited = _measured(stage, clients, lambda: asleep.extend(stage.programs[address].strike(signal.SIGSTOP)))
    for sleeper in asleep:
        send(sleeper, signal.SIGCONT)
    deadline = time.monotonic() + FENCED_S
    while not gone([pid]):
        if time.monotonic() > deadline:
            raise CommandFailed(ExitCode.FAILED, f"Process {pid} lives on beside its successor.")
        time.sleep(POLL_S)
    stage.programs[address].end()
    stage.start(address)
    return {"frozen": waited}


def head(stage: Stage, clients: Clients, random: Random) -> Waits:
    """kill -9 of Ray's head, and of a shard's process while there is none: clients go on without it. When a
    head is back that has forgotten everything, nodes start anew, and shards with them."""
    joined = {address: stage.programs[address].logged("Ray runtime started") for address in ADDRESSES}

    def strike() -> None:
        stage.programs[HEAD].strike(signal.SIGKILL)
        stage.programs[HEAD].end()
        os.kill(_victim(stage, random), signal.SIGKILL)

    without = _measured(stage, clients, strike)
    clients.calm(HEADLESS_ANSWERS)
    if stage.keep_head:
        return {"head": without, "head is back": _measured(stage, clients, lambda: stage.start(HEAD))}

    owners = [report.endpoint for report in stage.report().shards]

    def come_back() -> None:
        stage.start(HEAD)
        for address in ADDRESSES:
            stage.await_joined(address, joined[address] + 1)
        for owner in owners:
            assert owner is not None
            stage.await_owner(owner)

    return {"head": without, "head is back": _measured(stage, clients, come_back)}


def moved(stage: Stage, clients: Clients, random: Random) -> Waits:
    """No blow: a shard is moved to the other node on purpose."""
    owner = stage.owner(random.randrange(len(stage.report().shards)))
    (target,) = set(ADDRESSES) - {owner.host}
    waited = _measured(stage, clients, lambda: stage.move(owner.shard, target))
    assert stage.owner(owner.shard).host == target
    return {"moved": waited}


def grown(stage: Stage, clients: Clients, random: Random) -> Waits:
    """No blow: a third node joins and gets a shard; later it is drained, and leaves."""
    number = random.randrange(len(stage.report().shards))

    def grow() -> None:
        stage.start(ADDED)
        stage.move(number, ADDED)

    def shrink() -> None:
        stage.drain(ADDED)
        stage.programs[ADDED].end()

    waits = {"grown": _measured(stage, clients, grow)}
    assert stage.owner(number).host == ADDED
    clients.calm(GROWN_ANSWERS)
    waits["drained"] = _measured(stage, clients, shrink)
    assert all(one.endpoint is not None and one.endpoint.host != ADDED for one in stage.report().shards)
    return waits


BLOWS: Final[dict[str, Callable[[Stage, Clients, Random], Waits]]] = {
    "shard": shard,
    "gateway": gateway,
    "postgresql": postgresql,
    "moved": moved,
    "grown": grown,
    "node": node,
    "frozen": frozen,
    "head": head,
}
LIMITS_S: Final[dict[str, float]] = {
    "shard": 5.0,
    "gateway": 5.0,
    "postgresql": 5.0,
    "node": 10.0,
    "frozen": 15.0,
}
"""How long clients may wait at most, on a machine that has nothing else to do."""


def _measured(stage: Stage, clients: Clients, strike: Callable[[], object]) -> float:
    """The longest, in seconds, that a client waited for an answer around a blow."""
    began = clients.mark()
    strike()
    clients.mark()
    deadline = time.monotonic() + SETTLE_S
    while not clients.settled():
        if time.monotonic() > deadline:
            raise CommandFailed(ExitCode.FAILED, f"The cluster did not come back: {stage.report()}.")
        time.sleep(POLL_S)
    return clients.longest_wait_s(began)


def _victim(stage: Stage, random: Random) -> int:
    return stage.owner(random.randrange(len(stage.report().shards))).pid


def _host(stage: Stage, random: Random) -> tuple[str, int]:
    """The node that hosts a shard, and the shard's process."""
    owner = stage.owner(random.randrange(len(stage.report().shards)))
    return owner.host, owner.pid
