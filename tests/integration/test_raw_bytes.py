"""Bytes that are nearly a request, at the socket: no crash, no 500, nothing changed, nothing left behind."""

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Final

import pyarrow as pa
import pytest
import structlog

from engine.ids import parse_id
from gateway.arrow_schema import LEG_SCHEMA, MEDIA_TYPE
from tests.fixtures_engine import BOUND_S
from tests.fixtures_gateway import Client, RunningGateway
from tests.fuzz.mutation import mutated
from tests.integration.test_http_api import fresh_id

CONNECTIONS: Final = 300
"""With bytes of their own each, unless more are asked for."""
SILENT_S: Final = 0.3
"""So long an answer is waited for: a request that is cut off gets none until the server gives up on it."""
SOCKETS: Final = Path("/proc/net/tcp")
OPEN: Final = {"01", "08"}
"""Established, or closed by the other end only."""
STATUS: Final = re.compile(rb"^HTTP/1\.1 (\d{3})", re.MULTILINE)


def arrow() -> bytes:
    """Legs between accounts that there are not."""
    columns = [
        pa.array([parse_id(fresh_id()).to_bytes(16, "big")], field.type)
        if field.type == pa.binary(16)
        else pa.array([1], field.type)
        for field in LEG_SCHEMA
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, LEG_SCHEMA) as stream:
        stream.write_batch(pa.record_batch(columns, schema=LEG_SCHEMA))
    return bytes(sink.getvalue())


def request(head: str, body: bytes = b"", media_type: str = "application/json") -> bytes:
    lines = [head, "Host: localhost", "Accept: application/json", "Connection: close"]
    if body:
        lines += [f"Content-Type: {media_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def samples() -> list[bytes]:
    """Requests that can change nothing: they read, or name what is not there."""
    nobody = fresh_id()
    ids = f'"id":"{fresh_id()}","debit":"{nobody}","credit":"{fresh_id()}"'
    leg = f'{{{ids},"amount":5,"asset":"GBP","code":1}}'
    transfer = f'{{"kind":"transfer","payer":"{nobody}","payee":"{nobody}","asset":"GBP","amount":7}}'
    return [
        request("GET /v1/things?limit=5 HTTP/1.1"),
        request(f"GET /v1/accounts/{nobody}/balance HTTP/1.1"),
        request("GET /v1/events?after=start HTTP/1.1"),
        request("POST /v1/legs HTTP/1.1", leg.encode()),
        request("POST /v1/legs HTTP/1.1", f"[{leg},{leg}]".encode()),
        request("POST /v1/legs HTTP/1.1", arrow(), MEDIA_TYPE),
        request("POST /v1/moves HTTP/1.1", transfer.encode()),
        request(f"POST /v1/moves/{nobody}/post HTTP/1.1", b"{}"),
        request(f"PATCH /v1/parties/{nobody} HTTP/1.1", b'{"name":"x"}'),
    ]


def connected(port: int) -> int:
    """How many connections the gateway has, those whose client has gone included."""
    rows = [line.split() for line in SOCKETS.read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] in OPEN for row in rows)


def talk(address: tuple[str, int], data: bytes) -> list[int]:
    """Send bytes in two pieces and read whatever comes; the statuses in it."""
    said = b""
    with socket.create_connection(address, timeout=SILENT_S) as connection:
        try:
            connection.sendall(data[: len(data) // 2])
            connection.sendall(data[len(data) // 2 :])
            while block := connection.recv(1 << 16):
                said += block
        except (TimeoutError, ConnectionError):
            pass  # it was silent, or it hung up
    return [int(status) for status in STATUS.findall(said)]


def test_bytes_that_are_nearly_a_request(
    gateway: RunningGateway, http: Client, pytestconfig: pytest.Config
) -> None:
    random = Random(int(pytestconfig.getoption("fuzz_seed")))
    known = samples()
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    address = (host, int(port))
    for sample in known:
        assert talk(address, sample), sample
    _, before = http.books()
    accounts = http.get("/health").json()["accounts"]
    connected_before = connected(int(port))
    count = max(CONNECTIONS, pytestconfig.getoption("fuzz_requests"))
    with ThreadPoolExecutor(8) as pool:
        sent = [
            b"".join(mutated(random, known) for _ in range(random.randint(1, 3)))
            if random.random() < 0.9
            else random.randbytes(random.randint(1, 2_000))
            for _ in range(count)
        ]
        answers = list(pool.map(lambda data: talk(address, data), sent))
    for data, statuses in zip(sent, answers, strict=True):
        assert not [status for status in statuses if status >= 500], data
    assert sum(map(len, answers)) > count // 4
    assert http.books()[1] == before
    assert http.get("/health").json()["accounts"] == accounts
    assert http.get("/health").json()["status"] == "serving"
    deadline = time.monotonic() + BOUND_S
    while connected(int(port)) > connected_before:
        assert time.monotonic() < deadline, "connections are left behind"
        http.get("/ready")


def test_a_client_that_hangs_up_is_one_quiet_line(gateway: RunningGateway, http: Client) -> None:
    _, before = http.books()
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    whole = [sample for sample in samples() if not sample.startswith(b"GET")]
    chunked = b"Content-Type: " + MEDIA_TYPE.encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole"
    cut = [*(sample[:-1] for sample in whole), whole[2].partition(b"Content-Type")[0] + chunked]
    expected = {sample.split(b" ")[1].decode() for sample in cut}
    with structlog.testing.capture_logs() as lines:
        for sample in cut:
            with socket.create_connection((host, int(port)), timeout=BOUND_S) as connection:
                connection.sendall(sample)
        deadline = time.monotonic() + BOUND_S
        while expected - {line.get("path") for line in lines}:
            assert time.monotonic() < deadline, lines
            http.get("/ready")
    assert {line["event"] for line in lines} == {"a client went away before its request was complete"}
    assert {line["log_level"] for line in lines} == {"info"}
    assert http.books()[1] == before
