"""Clients that keep an engine busy over HTTP, remember what they sent and what was acknowledged, and send it
again.

A request is acknowledged once its answer has arrived. Whoever gets no answer sends the same request again,
with the same ids, as a client would: then it happens once, or it had happened already.
"""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any, Final
from uuid import UUID

import httpx

from engine.ids import bucket_of_party
from tests.fixtures_engine import BOUND_S, Ids

CLIENTS: Final = 12
ACCEPTED: Final = (200, 201)
FUNDS: Final = 10_000_000
TOO_MUCH: Final = FUNDS * 10


class Request:
    """One request, and its answer once there is one."""

    def __init__(self, kind: str, path: str, body: Any, amount: int = 0) -> None:
        self.kind = kind
        self.path = path
        self.body = body
        self.amount = amount  # what it brings the seller
        self.answer: dict[str, Any] | None = None

    def acknowledge(self, response: httpx.Response) -> None:
        """Take the answer; one that was given before must be the same now, and say that it is a repeat."""
        answer = response.json()
        if self.kind == "chain":
            self._acknowledge_chain(response, answer)
        elif self.kind == "refused":
            assert (response.status_code, answer["code"]) == (409, "below_floor"), response.text
        else:
            assert response.status_code in ACCEPTED, response.text
        if self.answer is not None and self.kind != "chain":
            assert response.headers.get("Idempotent-Replayed") == "true", response.text
            assert answer == self.answer
        self.answer = self.answer or answer

    def _acknowledge_chain(self, response: httpx.Response, answer: dict[str, Any]) -> None:
        """A chain that is there already answers `exists`, and its other legs fail with the first."""
        assert response.status_code in ACCEPTED, response.text
        codes = [leg["code"] for leg in answer["results"]]
        again = ["exists", *["linked_event_failed"] * (len(codes) - 1)]
        if self.answer is None:
            assert codes in (["created"] * len(codes), again), codes
        else:
            assert codes == again, codes
        first = answer["results"][0]["timestamp"]
        assert self.answer is None or self.answer["results"][0]["timestamp"] == first


class Load:
    """What all clients sent, in the order of its sending."""

    def __init__(self, random: Random, buyer: int, seller: int, accounts: Sequence[int]) -> None:
        self.requests: list[Request] = []
        self.random = random
        self._new_id = Ids(random.getrandbits(32))
        self._home = bucket_of_party("default", buyer)
        self._parties = {"payer": text(buyer), "payee": text(seller), "asset": "GBP"}
        self._accounts = accounts
        self._acknowledged = 0
        self._goal = asyncio.Event()
        self._goal_count = 0

    @property
    def unacknowledged(self) -> list[Request]:
        """What got no answer yet, oldest first."""
        return [request for request in self.requests if request.answer is None]

    @property
    def acknowledged(self) -> list[Request]:
        """What got its answer."""
        return [request for request in self.requests if request.answer is not None]

    async def run_until(self, url: str, answers: int) -> "asyncio.Task[None]":
        """Start the clients; returns when so many more answers have come, while they all go on."""
        self._goal.clear()
        self._goal_count = self._acknowledged + answers
        running = asyncio.create_task(self._run(url), name="clients")
        reached = asyncio.create_task(self._goal.wait())
        async with asyncio.timeout(BOUND_S):
            await asyncio.wait((running, reached), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
            raise AssertionError("the clients ended before the engine did")
        return running

    async def send_again(self, url: str, requests: Sequence[Request]) -> None:
        """Send requests once more; all of them get an answer now."""
        async with httpx.AsyncClient(base_url=url, timeout=BOUND_S) as http:
            waiting = list(reversed(requests))

            async def client() -> None:
                while waiting:
                    request = waiting.pop()
                    request.acknowledge(await http.post(request.path, json=request.body))

            await asyncio.gather(*[client() for _ in range(CLIENTS)])

    def expected_income(self) -> int:
        """What the seller has if all that was sent has happened, once."""
        return sum(request.amount for request in self.requests)

    async def _run(self, url: str) -> None:
        limits = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(base_url=url, timeout=BOUND_S, limits=limits) as http:
            await asyncio.gather(*[self._client(http) for _ in range(CLIENTS)])

    async def _client(self, http: httpx.AsyncClient) -> None:
        """Send one request after the other until the engine is gone."""
        held: list[UUID] = []
        while True:
            request = self._next(held)
            self.requests.append(request)
            try:
                response = await http.post(request.path, json=request.body)
            except httpx.TransportError:
                return
            request.acknowledge(response)
            if request.kind == "hold":
                held.append(UUID(request.body["id"]))
            self._acknowledged += 1
            if self._acknowledged >= self._goal_count:
                self._goal.set()

    def _next(self, held: list[UUID]) -> Request:
        random = self.random
        if held and random.random() < 0.5:
            way = random.choice(("post", "void"))
            path = f"/v1/moves/{held.pop()}/{way}"
            body = {"id": text(self._new_id(bucket=self._home))}
            return Request("step", path, body, 3 if way == "post" else 0)
        make = random.choice(
            (self._transfer, self._transfer, self._order, self._hold, self._chain, self._refused)
        )
        return make()

    def _move(self, kind: str, of: str, amount: int, income: int, **more: Any) -> Request:
        id = self._new_id(bucket=self._home)
        body = {"id": text(id), "kind": of, "amount": amount, **self._parties, **more}
        return Request(kind, "/v1/moves", body, income)

    def _transfer(self) -> Request:
        amount = self.random.randrange(1, 9)
        return self._move("transfer", "transfer", amount, amount)

    def _hold(self) -> Request:
        return self._move("hold", "transfer", 3, 0, transition="hold")

    def _refused(self) -> Request:
        return self._move("refused", "transfer", TOO_MUCH, 0)

    def _order(self) -> Request:
        lines = [
            {"thing": "MUG", "quantity": 3, "amount": 300},
            {"thing": "LAMP", "quantity": 1, "amount": 500},
        ]
        body = {
            "id": text(self._new_id(bucket=self._home)),
            "kind": "order",
            "transition": "place+capture+fulfil",
            "lines": lines,
            **self._parties,
        }
        return Request("order", "/v1/moves", body)

    def _chain(self) -> Request:
        debit, credit = self.random.sample(self._accounts, 2)
        legs = [
            {
                "id": text(self._new_id(bucket=debit >> 116)),
                "debit": text(debit),
                "credit": text(credit),
                "amount": 1,
                "asset": "GBP",
                "code": 1,
                "flags": ["linked"] if number < 2 else [],
            }
            for number in range(3)
        ]
        return Request("chain", "/v1/legs", legs)


def text(id: int) -> str:
    """An id as it stands in JSON."""
    return str(UUID(int=id))
