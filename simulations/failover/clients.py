"""Clients that go on whatever happens: they repeat what is not answered, as the Python client does by itself,
and remember what was acknowledged."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
import numpy as np

from engine.layout import ids_list
from engine.results import Result
from gateway.client import Client, Retry, Unavailable
from gateway.client.ids import new_ids, to_ids
from gateway.client.transport import Transport

PARTIES: Final = 24
FUNDS: Final = 10**12
CHAIN_CODE: Final = 77
"""The code of the legs that chains are made of, and nothing else is."""
CHAIN_LEGS: Final = 3
PATIENCE: Final = Retry(first_s=0.01, longest_s=0.2, give_up_s=30.0)
"""Quicker than the client's own, so that what is measured is the cluster."""
REQUEST_S: Final = 30.0
CALM_S: Final = 120.0
POLL_S: Final = 0.01


class Answered(NamedTuple):
    """When a request was sent first, and when its answer came."""

    sent: float
    acknowledged: float


class Market:
    """Parties with money, and accounts for chains; made once, by the first gateway."""

    def __init__(self, url: str, idle_accounts: int) -> None:
        self.parties: list[str] = []
        with Client(url) as client:
            transport = Transport(url)
            _post(transport, "/v1/things", {"kind": "asset", "code": "GBP", "exponent": 2})
            for _ in range(PARTIES):
                made = _post(transport, "/v1/parties", {"kind": "person"})
                self.parties.append(made["id"])
                leg = {
                    "debit": "A:bank",
                    "credit": f"L:wallet/{made['id']}",
                    "amount": FUNDS,
                    "asset": "GBP",
                }
                _post(transport, "/v1/moves", {"kind": "journal", "legs": [leg]})
            self.accounts = [
                _post(transport, "/v1/accounts", {"key": f"A:test/{number}", "asset": "GBP"})["id"]
                for number in range(2)
            ]
            if idle_accounts:
                random = np.random.default_rng(1)
                ids = random.integers(1, 2**62, (idle_accounts, 2), np.uint64)
                client.create_accounts(id=ids, asset=1, code=1)
            transport.close()


class Clients:
    """Writers at some gateways, until `stop`; each is one thread that waits for each answer."""

    def __init__(self, urls: list[str], market: Market, seed: int, count: int) -> None:
        self.transfers: dict[str, int] = {}  # Idempotency-Key → amount, acknowledged
        self.chains: list[UUID] = []  # ids of their legs, acknowledged
        self.answers: list[Answered] = []
        self.failure: BaseException | None = None
        self._market = market
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._since: list[int] = [0] * count  # answers of each to what it sent after `mark`
        self._marked_at = 0.0
        random = Random(seed)
        self._threads = [
            threading.Thread(
                target=self._run, args=(number, urls[number % len(urls)], Random(random.getrandbits(32)))
            )
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let each get the answer it waits for, and end. Raises what ended one of them before."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        if self.failure is not None:
            raise self.failure

    def mark(self) -> float:
        """Count from now on what `settled` waits for; the time it is."""
        with self._lock:
            self._since = [0] * len(self._since)
            self._marked_at = time.monotonic()
            return self._marked_at

    def settled(self, answers: int = 2) -> bool:
        """Whether every client has so many answers to what it sent after the mark."""
        return self.failure is not None or min(self._since) >= answers

    def calm(self, answers: int) -> None:
        """Return when every client has so many more answers. Raises AssertionError if one has ended."""
        self.mark()
        deadline = time.monotonic() + CALM_S
        while not self.settled(answers):
            assert time.monotonic() < deadline, "clients get no answers"
            time.sleep(POLL_S)
        assert self.failure is None, self.failure

    def longest_wait_s(self, since: float) -> float:
        """The longest that an answer that came since then was waited for."""
        with self._lock:
            return max(one.acknowledged - one.sent for one in self.answers if one.acknowledged >= since)

    def _run(self, number: int, url: str, random: Random) -> None:
        transport = Transport(url, timeout_s=REQUEST_S, retry=PATIENCE)
        ids = np.random.default_rng(random.getrandbits(32))
        try:
            with Client(url, connections=1, timeout_s=REQUEST_S, retry=PATIENCE) as client:
                while not self._stopping.is_set():
                    work = (
                        self._chain(client, ids)
                        if random.random() < 0.3
                        else self._transfer(transport, random)
                    )
                    self._insist(number, work)
        except BaseException as failure:  # told to whoever waits for the clients
            self.failure = failure
        finally:
            transport.close()

    def _insist(self, number: int, work: Callable[[], None]) -> None:
        sent = time.monotonic()
        while True:
            with suppress(Unavailable):
                work()
                break
        with self._lock:
            self.answers.append(Answered(sent, time.monotonic()))
            self._since[number] += sent >= self._marked_at

    def _transfer(self, transport: Transport, random: Random) -> Callable[[], None]:
        payer, payee = random.sample(self._market.parties, 2)
        amount = random.randrange(1, 9)
        body = {"kind": "transfer", "payer": payer, "payee": payee, "amount": amount, "asset": "GBP"}
        key = str(UUID(int=random.getrandbits(128)))

        def work() -> None:
            answer = _post(transport, "/v1/moves", body, key)
            with self._lock:
                self.transfers[answer["id"]] = amount

        return work

    def _chain(self, client: Client, random: np.random.Generator) -> Callable[[], None]:
        debit = to_ids([self._market.accounts[0]] * CHAIN_LEGS)
        columns: dict[str, Any] = {
            "id": new_ids(CHAIN_LEGS, debit),
            "debit": self._market.accounts[0],
            "credit": self._market.accounts[1],
            "amount": random.integers(1, 9, CHAIN_LEGS),
            "asset": 1,
            "code": CHAIN_CODE,
            "flags": np.array([1, 1, 0], np.uint16),
        }

        def work() -> None:
            codes = client.post_legs(**columns).status.tolist()
            made = [Result.CREATED] * CHAIN_LEGS
            made_before = [Result.EXISTS] * CHAIN_LEGS  # by an earlier attempt of the same call
            again = [Result.EXISTS, *[Result.LINKED_EVENT_FAILED] * (CHAIN_LEGS - 1)]
            assert codes in (made, made_before, again), codes
            with self._lock:
                self.chains += [UUID(int=id) for id in ids_list(columns["id"])]

        return work


def _post(transport: Transport, path: str, body: dict[str, Any], key: str = "") -> Any:
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    return msgspec.json.decode(transport.send("POST", path, msgspec.json.encode(body), headers).body)
