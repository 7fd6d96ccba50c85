"""Small requests that are taken off the connection: what is remembered of heads changes nothing, however the
bytes come."""

import asyncio
import json
import random
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pytest

from tests.fixtures_cluster import LOCAL
from tests.fixtures_gateway import Client, RunningGateway
from tests.integration.test_http_api import fresh_id

RUNTIMES = LOCAL

JSON: Final = "Content-Type: application/json"


class Sent(NamedTuple):
    """A request as it goes over the wire, and the status and the code or state it is to be answered with."""

    wire: bytes
    status: int
    said: str


class Wire:
    """One connection, and its answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, gateway: RunningGateway) -> "Wire":
        host, port = gateway.url.removeprefix("http://").split(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> tuple[int, dict[str, Any]]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        return int(head.split()[1]), json.loads(await self._reader.readexactly(length))

    async def ended(self) -> bool:
        return await self._reader.read() == b""

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


@pytest.fixture
def pair(http: Client) -> tuple[str, str]:
    """Two new accounts."""
    ids = (fresh_id(), fresh_id())
    answer = http.post("/v1/accounts", json=[{"id": id, "asset": "GBP", "code": 1} for id in ids])
    assert answer.json()["created"] == 2
    return ids


def posted(http: Client, account: str) -> int:
    counters = http.get(f"/v1/accounts/{account}").json()["counters"]
    return int(counters["credits_posted"]) - int(counters["debits_posted"])


def leg(pair: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {
        "id": fresh_id(account=pair[0]),
        "debit": pair[0],
        "credit": pair[1],
        "amount": 3,
        "asset": "GBP",
    } | {
        "code": 1,
        **more,
    }


def request(content: Any, *headers: str, path: str = "/v1/legs") -> bytes:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: x", *(headers or (JSON,)), f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(content: Any) -> bytes:
    body = json.dumps(content).encode()
    head = f"POST /v1/legs HTTP/1.1\r\nHost: x\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def requests(pair: tuple[str, str], chance: random.Random) -> Iterator[Sent]:
    """Requests of all kinds, most of which take the short cut; half of the others look as if they did."""
    while True:
        match chance.randrange(12):
            case 0:
                yield Sent(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 200, "serving")
            case 1:
                yield Sent(request(leg(pair, amount="3")), 201, "created")
            case 2:
                yield Sent(request(leg(pair, amount=-3)), 422, "")
            case 3:
                yield Sent(request(leg(pair)).replace(b'"', b"'"), 400, "malformed_json")
            case 4:
                yield Sent(chunked(leg(pair)), 201, "created")
            case 5:
                yield Sent(request(leg(pair), "Content-Type: text/plain"), 415, "unsupported_media_type")
            case 6:
                yield Sent(request([leg(pair), leg(pair)]), 201, "")
            case 7:
                yield Sent(request(leg(pair, credit=pair[0])), 422, "accounts_must_be_different")
            case 8:
                yield Sent(b"\r\n" + request(leg(pair)), 201, "created")
            case _:
                yield Sent(request(leg(pair, amount=chance.choice([1, 3, 10, 12]))), 201, "created")


@pytest.mark.parametrize("seed", range(6))
async def test_bytes_may_come_in_any_pieces(
    gateway: RunningGateway, pair: tuple[str, str], seed: int
) -> None:
    """Three connections share what is remembered; each sends its requests whole, cut, or several at once."""
    chance = random.Random(seed)

    async def client() -> None:
        wire = await Wire.to(gateway)
        source = requests(pair, chance)
        for _ in range(40):
            several = [next(source) for _ in range(chance.choice([1, 1, 1, 2, 5]))]
            data = b"".join(sent.wire for sent in several)
            cuts = sorted(chance.randrange(len(data)) for _ in range(chance.choice([0, 0, 0, 1, 3])))
            for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
                await wire.send(data[start:stop])
            for sent in several:
                status, content = await wire.answer()
                assert status == sent.status, (sent, content)
                assert sent.said in {"", content.get("code"), content.get("status")}, (sent, content)
        await wire.close()

    await asyncio.gather(*(client() for _ in range(3)))


async def test_the_same_head_with_other_bodies(
    gateway: RunningGateway, http: Client, pair: tuple[str, str]
) -> None:
    wire = await Wire.to(gateway)
    for amount in range(10, 40):
        sent = leg(pair, amount=amount)
        await wire.send(request(sent))
        status, content = await wire.answer()
        assert (status, content["id"], content["code"]) == (201, sent["id"], "created")
    assert posted(http, pair[1]) == sum(range(10, 40))
    await wire.send(request(leg(pair, amount=11), JSON, "Connection: close"))
    assert (await wire.answer())[0] == 201
    assert await wire.ended()
    await wire.close()


async def test_a_head_that_is_remembered_means_nothing_inside_a_body(
    gateway: RunningGateway, http: Client, pair: tuple[str, str]
) -> None:
    """A body that is itself such a request, and comes in a piece of its own, is a body and no request."""
    wire = await Wire.to(gateway)
    inner = request(leg(pair))
    for _ in range(3):
        await wire.send(inner)
        await wire.answer()
    outer = request(inner)
    head, body = outer[: -len(inner)], outer[-len(inner) :]
    assert body == inner
    before = posted(http, pair[1])
    await wire.send(head)
    await asyncio.to_thread(http.get, "/health")  # the server has had its turn, and waits for the body
    await wire.send(body)
    status, content = await wire.answer()
    assert (status, content["code"]) == (400, "malformed_json")
    assert posted(http, pair[1]) == before
    await wire.close()
