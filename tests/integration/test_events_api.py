"""`GET /v1/events`: what happened, in the order of the log, once, filtered, from anywhere."""

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from gateway.events.filters import EventType
from gateway.events.streams import StreamSettings
from tests.fixtures_cluster import LOCAL_AND_CLUSTER
from tests.fixtures_gateway import Client, RunningGateway

RUNTIMES = LOCAL_AND_CLUSTER

JSON: Final = {"Accept": "application/json"}
WAIT_S: Final = 20


class Reader:
    """A client of a stream: it gives events, and remembers where it is."""

    def __init__(self, response: httpx.Response) -> None:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        self.position = ""
        self.comments = 0
        self._lines = response.iter_lines()

    def event(self) -> dict[str, Any]:
        """The next event."""
        data = ""
        for line in self._lines:
            if line.startswith("id: "):
                self.position = line[4:]
            elif line.startswith("data: "):
                data = line[6:]
            elif line.startswith(":"):
                self.comments += 1
            elif not line and data:
                return dict(json.loads(data))
        raise EOFError

    def events(self, count: int) -> list[dict[str, Any]]:
        """The next ones."""
        return [self.event() for _ in range(count)]

    def wait_for_comment(self) -> None:
        """Read on until the next sign of life."""
        before = self.comments
        for line in self._lines:
            self.position = line[4:] if line.startswith("id: ") else self.position
            self.comments += line.startswith(":")
            if self.comments > before and not line:
                return


@contextlib.contextmanager
def streaming(http: httpx.Client, headers: dict[str, str] | None = None, **query: Any) -> Iterator[Reader]:
    with http.stream("GET", "/v1/events", params=query, headers=headers) as response:
        reader = Reader(response) if response.status_code == 200 else None
        if reader is None:
            raise AssertionError(response.read())
        yield reader


def listed(http: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    """All events that there are, page by page."""
    found: list[dict[str, Any]] = []
    after = query.pop("after", "start")
    while True:
        answer = http.get("/v1/events", params={**query, "after": after}, headers=JSON)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["items"]
        after = page["position"]
        if not page["more"]:
            return found


def now(http: httpx.Client) -> str:
    """The end of the log."""
    return str(http.get("/v1/events", params={"after": "now"}, headers=JSON).json()["position"])


def transfer(http: Client, payer: str, payee: str, amount: int, **more: Any) -> str:
    draft = {"kind": "transfer", "payer": payer, "payee": payee, "asset": "GBP", "amount": amount, **more}
    answer = http.post("/v1/moves", json=draft)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def place(id: str) -> tuple[int, ...]:
    return tuple(map(int, id.split(".")))


def test_a_stream_tells_what_happens_in_order(http: Client) -> None:
    alice, bob = http.party("Alice"), http.party("Bob")
    http.fund(alice, 1000)
    with streaming(http, after="now") as reader:
        carol = http.party("Carol")
        move = transfer(http, alice, bob, 250, reference=f"rent-{alice}", metadata={"month": 12})
        limits = {"floor": -100}
        wallet = http.account(f"L:wallet/{alice}")
        assert http.patch(f"/v1/accounts/{wallet}", json=limits).status_code == 200
        events = reader.events(5)
    assert types(events) == [
        "party.created",
        "account.opened",
        "leg.posted",
        "move.created",
        "account.limited",
    ]
    party, account, leg, made, limited = (event["data"] for event in events)
    named = {"id": carol, "kind": "person", "name": "Carol"}
    assert party == {**named, "profile": {}, "relations": [], "version": 1}
    assert (account["key"], account["party"], account["floor"]) == (f"L:wallet/{bob}", bob, 0)
    assert (leg["move"], leg["seq"], leg["amount"], leg["asset"]) == (move, 0, 250, "GBP")
    assert (leg["debit"], leg["debit_key"], leg["debit_party"]) == (wallet, f"L:wallet/{alice}", alice)
    assert (leg["credit"], leg["credit_party"]) == (account["id"], bob)
    assert (made["id"], made["state"], made["payer"], made["payee"]) == (move, "posted", alice, bob)
    assert (made["reference"], made["metadata"]) == (f"rent-{alice}", {"month": 12})
    assert (limited["account"], limited["floor"], limited["ceiling"]) == (wallet, -100, None)
    ids = [event["id"] for event in events]
    assert ids == sorted(set(ids), key=place)
    assert [event["lsn"] for event in events] == [place(id)[1] for id in ids]
    assert http.get(f"/v1/moves/{move}", headers={"Tessera-Wait-Lsn": str(events[3]["lsn"])}).is_success


def test_what_becomes_of_a_hold(http: Client) -> None:
    alice, bob = http.party(), http.party()
    http.fund(alice, 100)
    start = now(http)
    moves = [transfer(http, alice, bob, 30, transition="hold") for _ in range(2)]
    assert http.post(f"/v1/moves/{moves[0]}/post", json={"amount": 10}).is_success
    assert http.post(f"/v1/moves/{moves[1]}/void", json={}).is_success
    timed = transfer(http, alice, bob, 5, transition="hold", timeout=1)
    with streaming(http, after=start, type="leg") as reader:
        events = reader.events(6)  # the last one when the hold has run out
    assert types(events) == [
        "leg.held",
        "leg.held",
        "leg.hold_posted",
        "leg.hold_voided",
        "leg.held",
        "leg.hold_expired",
    ]
    assert [(e["data"]["amount"], e["data"]["held"]) for e in events] == [
        (30, None),
        (30, None),
        (10, 30),
        (0, 30),
        (5, None),
        (0, 5),
    ]
    assert [e["data"]["pending_id"] for e in events[2:4]] == [e["data"]["id"] for e in events[:2]]
    assert events[5]["data"]["id"] is None
    steps = listed(http, after=start, type="move")
    assert [(e["type"], e["data"]["id"], e["data"]["state"]) for e in steps] == [
        ("move.created", moves[0], "pending"),
        ("move.created", moves[1], "pending"),
        ("move.changed", moves[0], "posted"),
        ("move.changed", moves[1], "voided"),
        ("move.created", timed, "pending"),
        ("move.changed", timed, "expired"),
    ]


def test_a_page_and_a_stream_tell_the_same(http: Client) -> None:
    alice, bob = http.party(), http.party()
    http.fund(alice, 1000)
    for amount in range(1, 20):
        transfer(http, alice, bob, amount)
    pages = listed(http)
    assert set(types(pages)) >= {"thing.created", "party.created", "account.opened", "leg.posted"}
    with streaming(http, after="start") as reader:
        assert reader.events(len(pages)) == pages


def test_resuming_after_any_event_misses_and_repeats_nothing(http: Client) -> None:
    start = now(http)
    alice, bob = http.party(), http.party()
    http.fund(alice, 1000)
    for amount in range(1, 5):
        transfer(http, alice, bob, amount)
    events = listed(http, after=start)
    for seen, event in enumerate(events, start=1):
        with streaming(http, {"Last-Event-ID": event["id"]}, after="start") as reader:
            assert reader.events(len(events) - seen) == events[seen:]
        assert listed(http, after=event["id"]) == events[seen:]


def test_a_large_record_is_told_in_parts(http: Client) -> None:
    accounts = [http.account(f"A:bulk/{uuid4()}") for _ in range(2)]
    start = now(http)
    legs = [
        {
            "id": str(uuid4()),
            "debit": accounts[0],
            "credit": accounts[1],
            "amount": n,
            "asset": "GBP",
            "code": 1,
        }
        for n in range(1, 1001)
    ]
    assert http.post("/v1/legs", json=legs).status_code == 201
    events = listed(http, after=start)
    assert [event["data"]["id"] for event in events] == [leg["id"] for leg in legs]
    assert len({event["lsn"] for event in events}) == 1
    with streaming(http, after=events[299]["id"]) as reader:
        assert reader.events(700) == events[300:]
        assert reader.position == events[-1]["id"]
    half = listed(http, after=events[499]["id"])
    assert half == events[500:]


def test_every_filter_that_is_given_must_fit(http: Client) -> None:
    code = f"T{uuid4().hex[:8]}"
    assert http.post("/v1/things", json={"kind": "asset", "code": code}).status_code == 201
    start = now(http)
    alice, bob, carol = http.party(), http.party(), http.party()
    http.fund(alice, 1000)
    paid = transfer(http, alice, bob, 10)
    leg = {"debit": "A:mint", "credit": f"L:wallet/{carol}", "amount": 7, "asset": code}
    minted = http.post("/v1/moves", json={"kind": "journal", "legs": [leg]}).json()["id"]
    wallet = http.account(f"L:wallet/{bob}")
    whole = listed(http, after=start)

    def found(**query: Any) -> list[dict[str, Any]]:
        events = listed(http, after=start, **query)
        assert [event for event in whole if event in events] == events
        with streaming(http, after=start, **query) as reader:
            assert reader.events(len(events)) == events
        return events

    assert len(found()) == len(whole)
    assert types(found(type="party")) == ["party.created"] * 3
    assert types(found(type=["move", "party.created"])).count("move.created") == 3
    assert types(found(party=bob)) == ["party.created", "account.opened", "leg.posted", "move.created"]
    assert types(found(party=[bob, carol], type="account")) == ["account.opened"] * 2
    assert [event["data"]["move"] for event in found(account=wallet, type="leg")] == [paid]
    assert types(found(account=wallet)) == ["account.opened", "leg.posted"]
    assert [e["data"].get("move", e["data"]["id"]) for e in found(kind="transfer")] == [paid, paid]
    assert types(found(kind="journal", asset=code)) == ["leg.posted"]
    assert found(asset=code, type="leg")[0]["data"]["move"] == minted
    assert types(found(asset=code)) == ["account.opened", "account.opened", "leg.posted"]
    assert found(party=alice, kind="journal", type="leg")[0]["data"]["amount"] == 1000
    assert found(kind="refund") == []


def test_a_stream_with_a_filter_moves_on_past_what_it_does_not_want(gateway: RunningGateway) -> None:
    quick = StreamSettings(heartbeat_s=0.05)
    with gateway.beside(quick) as url, Client(base_url=url, timeout=WAIT_S) as http:
        start = now(http)
        with streaming(http, after=start, kind="refund") as reader:
            reader.wait_for_comment()
            assert reader.position == start
            for _ in range(3):
                http.party()
            end = now(http)
            while reader.position != end:
                reader.wait_for_comment()
        with streaming(http, {"Last-Event-ID": end}, kind="refund") as reader:
            reader.wait_for_comment()
            assert reader.position == end


@pytest.mark.parametrize(
    ("query", "code", "where"),
    [
        ({"type": "leg.unknown"}, "invalid_parameter", "type"),
        ({"type": ""}, "invalid_parameter", "type"),
        ({"kind": "auction"}, "invalid_parameter", "kind"),
        ({"asset": "NONE"}, "invalid_parameter", "asset"),
        ({"party": "alice"}, "invalid_parameter", "party"),
        ({"account": "L:wallet/x"}, "invalid_parameter", "account"),
        ({"types": "leg"}, "unknown_parameter", "types"),
        ({"type": ["leg"] * 65}, "invalid_parameter", "type"),
        ({"after": "yesterday"}, "invalid_cursor", "after"),
        ({"after": "0.0.0"}, "invalid_cursor", "after"),
        ({"after": "1.1.1"}, "invalid_cursor", "after"),
        ({"after": "0.1.0,0.1.0"}, "invalid_cursor", "after"),
        ({"after": "0.99999999.0"}, "invalid_cursor", "after"),
        ({"after": f"0.{2**63}.0"}, "invalid_cursor", "after"),
    ],
)
def test_what_makes_no_sense_is_refused(http: Client, query: dict[str, Any], code: str, where: str) -> None:
    for headers in (JSON, {}):
        answer = http.get("/v1/events", params=query, headers=headers)
        assert (answer.status_code, answer.json()["code"], answer.json()["where"]) == (400, code, where)


def test_a_position_beyond_the_log_is_refused(http: Client) -> None:
    answer = http.get("/v1/events", headers={"Last-Event-ID": "0.99999999.1"})
    assert (answer.status_code, answer.json()["where"]) == (400, "Last-Event-ID")
    end = now(http)
    assert http.get("/v1/events", params={"after": end}, headers=JSON).json() == {
        "items": [],
        "position": end,
        "more": False,
    }
    shard, lsn, _ = place(end)
    beyond = http.get("/v1/events", params={"after": f"{shard}.{lsn}.1"}, headers=JSON)
    assert beyond.json()["code"] == "invalid_cursor"


def test_a_client_that_takes_nothing_is_cut_off(gateway: RunningGateway) -> None:
    impatient = StreamSettings(stall_s=0.1)
    with gateway.beside(impatient) as url, Client(base_url=url, timeout=WAIT_S) as http:
        port = httpx.URL(url).port
        assert port is not None
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as idle:
            idle.sendall(b"GET /v1/events?after=start HTTP/1.1\r\nHost: x\r\n\r\n")
            written = sum(post_many(http, 4000) for _ in range(5))
            metrics = ""
            while 'streams_ended_total{reason="stalled"} 1.0' not in metrics:
                metrics = http.get("/metrics").text
            assert "tessera_event_streams 0.0" in metrics
            received = read_all(idle)
            assert not received.endswith(b"0\r\n\r\n"), "it was not told that this was the end"
            assert 0 < received.count(b"\ndata: ") < written


def post_many(http: Client, count: int) -> int:
    """Write so many legs in one record."""
    debit, credit = (http.account(f"A:many/{uuid4()}") for _ in range(2))
    leg = {"debit": debit, "credit": credit, "amount": 1, "asset": "GBP", "code": 1}
    answer = http.post("/v1/legs", json=[{**leg, "id": str(uuid4())} for _ in range(count)])
    assert answer.status_code == 201, answer.text
    return count


def read_all(connection: socket.socket) -> bytes:
    """Everything until the connection is closed."""
    blocks = []
    while block := connection.recv(1 << 20):
        blocks.append(block)
    return b"".join(blocks)


def test_a_gateway_that_ends_ends_its_streams(gateway: RunningGateway) -> None:
    with httpx.Client(timeout=WAIT_S) as http:
        with gateway.beside(StreamSettings()) as url:
            request = http.build_request("GET", f"{url}/v1/events")
            response = http.send(request, stream=True)
            assert response.status_code == 200
        with contextlib.closing(response):
            assert b"id: " in response.read()


def test_there_is_a_limit_to_streams(gateway: RunningGateway) -> None:
    with (
        gateway.beside(StreamSettings(streams_max=1)) as url,
        Client(base_url=url, timeout=WAIT_S) as http,
        streaming(http),
    ):
        refused = http.get("/v1/events")
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert "Retry-After" in refused.headers
        assert http.get("/v1/events", headers=JSON).status_code == 200


def test_every_type_of_event_can_be_asked_for(http: Client) -> None:
    for kind in EventType:
        assert http.get("/v1/events", params={"type": kind}, headers=JSON).status_code == 200
