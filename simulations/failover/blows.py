"""Blows: what is done to a cluster under load. Each returns once the cluster is whole again."""

import os
import signal
import time
from collections.abc import Callable
from random import Random
from typing import Final

from gateway.options import CommandFailed, ExitCode
from simulations.failover.clients import Clients
from simulations.failover.programs import POLL_S, gone, send
from simulations.failover.stage import ADDRESSES, GATEWAYS, HEAD, Stage

SETTLE_S: Final = 120.0
FENCED_S: Final = 30.0


def shard(stage: Stage, clients: Clients, random: Random) -> float:
    """kill -9 of the process that hosts a shard."""
    return _measured(stage, clients, lambda: os.kill(_victim(stage, random), signal.SIGKILL))


def gateway(stage: Stage, clients: Clients, random: Random) -> float:
    """kill -9 of a gateway with all that it has started; it is started again at once."""
    name = random.choice(GATEWAYS)

    def strike() -> None:
        stage.programs[name].strike(signal.SIGKILL)
        stage.programs[name].end()
        stage.start(name)

    return _measured(stage, clients, strike)


def postgresql(stage: Stage, clients: Clients, _random: Random) -> float:
    """kill -9 of PostgreSQL's postmaster; the shards start it again, as the embedded one is theirs."""

    def strike() -> None:
        assert stage.server.pid is not None
        os.kill(stage.server.pid, signal.SIGKILL)

    return _measured(stage, clients, strike)


def node(stage: Stage, clients: Clients, random: Random) -> float:
    """kill -9 of everything on the node that hosts a shard, as if its machine were gone."""
    address, _ = _host(stage, random)
    waited = _measured(stage, clients, lambda: stage.programs[address].strike(signal.SIGKILL))
    stage.programs[address].end()
    stage.start(address)
    return waited


def frozen(stage: Stage, clients: Clients, random: Random) -> float:
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
    return waited


def head(stage: Stage, clients: Clients, random: Random) -> float:
    """kill -9 of Ray's head, and of a shard's process while there is none. When a head is back that has
    forgotten everything, nodes start anew, and shards with them."""
    joined = {address: stage.programs[address].logged("Ray runtime started") for address in ADDRESSES}

    def strike() -> None:
        stage.programs[HEAD].strike(signal.SIGKILL)
        stage.programs[HEAD].end()
        os.kill(_victim(stage, random), signal.SIGKILL)

    without = _measured(stage, clients, strike)
    if stage.keep_head:
        return max(without, _measured(stage, clients, lambda: stage.start(HEAD)))

    owners = [report.endpoint for report in stage.report().shards]

    def come_back() -> None:
        stage.start(HEAD)
        for address in ADDRESSES:
            stage.await_joined(address, joined[address] + 1)
        for owner in owners:
            assert owner is not None
            stage.await_owner(owner)

    return max(without, _measured(stage, clients, come_back))


def moved(stage: Stage, clients: Clients, random: Random) -> float:
    """No blow: a shard is moved to the other node on purpose."""
    owner = stage.owner(random.randrange(len(stage.report().shards)))
    (target,) = set(ADDRESSES) - {owner.host}
    waited = _measured(stage, clients, lambda: stage.move(owner.shard, target))
    assert stage.owner(owner.shard).host == target
    return waited


BLOWS: Final[dict[str, Callable[[Stage, Clients, Random], float]]] = {
    "shard": shard,
    "gateway": gateway,
    "postgresql": postgresql,
    "moved": moved,
    "node": node,
    "frozen": frozen,
    "head": head,
}


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
