"""Webhooks under trouble: a receiver that fails, hangs, cuts connections and answers twice or late.

Legs are written in bulk, and each is an event that the receiver must get. It goes wrong by a fixed share of
the first attempts. At the end every event has come, each account's in the order of the log, and the memory of
the engine's process says what that took.
"""

import threading
import time
from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from gateway.client import Client
from gateway.options import CommandFailed, ExitCode
from simulations.benchmarks.driving import DEPTH, closed_loop
from simulations.benchmarks.measurement import Measurement, Options, measured, resident_bytes, short
from simulations.benchmarks.mixes import UNIFORM, Accounts
from simulations.benchmarks.served import ServedEngine, served
from simulations.receiver import CUT, HANG, Message, Receiver, Reply

SEED: Final = 17
BATCH_LEGS: Final = 1_000
ACCOUNTS: Final = 10_000
WARM_UP_SHARE: Final = 10
"""One event for so many that are measured is delivered before them."""
SILENCE_S: Final = 120
"""Nothing new for so long: some event is missing."""
MIB: Final = 1 << 20
SETTINGS: Final = {
    "webhook_timeout_s": 0.5,
    "webhook_first_pause_s": 0.1,
    "webhook_pause_factor": 2,
    "webhook_probe_pause_s": 0.05,
}
MOODS: Final = (
    (0.02, Reply(500)),
    (0.005, Reply(503, headers=(("Retry-After", "0"),))),
    (0.005, CUT),
    (0.001, HANG),
    (0.001, Reply(after_s=0.6)),  # too late: the event comes again
    (0.01, Reply(after_s=0.02)),
)
"""What becomes of so large a share of the first attempts."""


class _Leg(msgspec.Struct):
    debit: str
    credit: str


class _Event(msgspec.Struct):
    id: str
    data: _Leg


class Inbox:
    """What has come so far, and whether each account's events were in order."""

    def __init__(self) -> None:
        self.taken = 0
        self.repeated = 0
        self.disorder = 0
        self._seen: set[str] = set()
        self._tried: set[str] = set()
        self._newest: dict[str, tuple[int, int]] = {}  # by account: LSN and place
        self._random = np.random.default_rng(SEED)
        self._bounds = np.cumsum([share for share, _ in MOODS]).tolist()
        self._decode = msgspec.json.Decoder(_Event).decode
        self.arrived = threading.Event()

    def __call__(self, message: Message) -> Reply:
        event = self._decode(message.body)
        reply = Reply()
        if event.id not in self._tried:
            self._tried.add(event.id)
            at = int(np.searchsorted(self._bounds, self._random.random()))
            reply = MOODS[at][1] if at < len(MOODS) else reply
        if reply.status == Reply().status and reply is not HANG:
            self._take(event)
        return reply

    def _take(self, event: _Event) -> None:
        if event.id in self._seen:
            self.repeated += 1
            return
        self._seen.add(event.id)
        _, lsn, place = map(int, event.id.split("."))
        for account in (event.data.debit, event.data.credit):
            self.disorder += self._newest.get(account, (0, 0)) > (lsn, place)
            self._newest[account] = lsn, place
        self.taken += 1
        self.arrived.set()


def webhooks(options: Options) -> Iterator[Measurement]:
    """Events delivered a second, and what the engine's process has more of memory at its end than when the
    first of them had come."""
    events = options.scale.events
    name = f"webhooks/receiver in trouble {short(events)}"
    inbox = Inbox()
    with (
        served(**SETTINGS) as engine,
        Client(engine.url, connections=DEPTH) as client,
        Receiver(inbox) as receiver,
    ):
        accounts = Accounts.created(client, ACCOUNTS)
        hook = client.create_webhook(receiver.url, filter={"types": ["leg"]})["webhook"]["id"]
        warm = max(1, events // WARM_UP_SHARE)
        _deliver(engine, client, accounts, inbox, warm)
        before = resident_bytes(engine.pid)
        started = time.perf_counter()
        samples = _deliver(engine, client, accounts, inbox, events)
        seconds = time.perf_counter() - started
        attempts = engine.metrics()["tessera_webhook_attempts_total"]
        dead = client.webhook(hook)["dead"]
    if inbox.disorder or dead:
        raise CommandFailed(ExitCode.FAILED, f"{inbox.disorder} events out of order, {dead} were given up.")
    grown = (max(samples) - before) / MIB
    options.tell(
        f"{name}: {events / seconds:,.0f} events/s, {attempts:,.0f} attempts, {inbox.repeated} came twice, "
        f"{grown:+.1f} MiB at most beyond {before / MIB:,.0f}"
    )
    yield measured(name, "delivered", "events/s", [events / seconds])
    yield measured(name, "attempts per event", "", [attempts / (events + warm)])
    yield measured(name, "memory at most beyond", "MiB", [max(0.0, grown)])


def _deliver(engine: ServedEngine, client: Client, accounts: Accounts, inbox: Inbox, count: int) -> list[int]:
    """Write legs and wait until all have come; the memory of the engine's process meanwhile."""
    wanted = inbox.taken + count
    drawn = UNIFORM.drawn(accounts, count, BATCH_LEGS, np.random.default_rng(SEED))
    closed_loop(client, UNIFORM, drawn)
    samples: list[int] = []
    while True:
        samples.append(resident_bytes(engine.pid))
        if inbox.taken >= wanted:
            return samples
        inbox.arrived.clear()
        if not inbox.arrived.wait(SILENCE_S):
            missing = wanted - inbox.taken
            raise CommandFailed(ExitCode.FAILED, f"{missing} events did not come within {SILENCE_S} s.")
