"""The bulk interface as clients use it: Arrow streams and small JSON bodies, to one durable answer a row."""

import asyncio
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest

from engine.layout import LegFlag, ids_column, ids_list
from engine.results import Result
from gateway import arrow
from gateway.arrow_schema import MEDIA_TYPE, RESULTS_KEY
from gateway.client import new_account_ids, new_ids
from gateway.client.columns import ACCOUNTS, LEGS, columns_of, stream
from gateway.hot_legs import GATHERED_LEGS_MAX
from tests.fixtures_cluster import LOCAL_AND_CLUSTER
from tests.fixtures_gateway import Client, RunningGateway
from tests.integration.test_http_api import fresh_id

RUNTIMES = LOCAL_AND_CLUSTER

HEADERS: Final = {"Content-Type": MEDIA_TYPE}
GBP: Final = 1
Ids = Any


def body(kind: Any = LEGS, **columns: Any) -> bytes:
    """An Arrow stream with these columns."""
    made = columns_of(columns, kind, lambda _: GBP)
    return stream(made, slice(0, len(made["id"])), kind)


def bulk(http: Client, content: bytes, path: str = "/v1/legs") -> Any:
    return http.post(path, content=content, headers=HEADERS)


def table(answer: Any) -> pa.Table:
    assert answer.headers["content-type"] == MEDIA_TYPE, answer.text
    return pa.ipc.open_stream(answer.content).read_all()


def statuses(answer: Any) -> list[Result]:
    return [Result(status) for status in table(answer)["status"].to_pylist()]


def neighbours(count: int) -> Ids:
    """Ids of new accounts that are all on one shard, so that there is an order among their legs."""
    ids = new_account_ids(count)
    home = np.uint64(0xFFF << 52)
    ids[:, 0] = ids[:, 0] & ~home | ids[0, 0] & home
    return ids


def ids_of(account: Ids, count: int) -> Ids:
    """Ids of legs that debit an account."""
    return new_ids(count, np.repeat(account.reshape(1, 2), count, axis=0))


@pytest.fixture
def accounts(http: Client) -> Ids:
    """Ten new accounts; the last one may not be overdrawn."""
    ids = neighbours(10)
    floors = [None] * 9 + [0]
    answer = bulk(http, body(ACCOUNTS, id=ids, asset=GBP, code=1, floor=floors), "/v1/accounts")
    assert statuses(answer) == [Result.CREATED] * 10
    return ids


def text(ids: Ids) -> list[str]:
    return [str(UUID(int=id)) for id in ids_list(ids)]


def posted(http: Client, account: Ids) -> int:
    """Credits minus debits."""
    counters = http.get(f"/v1/accounts/{text(account.reshape(1, 2))[0]}").json()["counters"]
    return int(counters["credits_posted"]) - int(counters["debits_posted"])


# Arrow


def test_a_stream_of_legs_is_written_and_answers_row_by_row(http: Client, accounts: Ids) -> None:
    count = 3_000
    debit, credit = accounts[np.arange(count) % 4], accounts[4 + np.arange(count) % 4]
    ids = new_ids(count, debit)
    content = body(id=ids, debit=debit, credit=credit, amount=np.arange(1, count + 1), asset=GBP, code=5)
    answer = bulk(http, content)
    assert answer.status_code == 201
    assert int(answer.headers["Tessera-Lsn"]) > 0
    rows = table(answer)
    assert set(rows["status"].to_pylist()) == {Result.CREATED}
    stamps = rows["timestamp"].to_pylist()
    assert all(later == earlier + 1 for earlier, later in pairwise(stamps))
    assert json.loads(rows.schema.metadata[RESULTS_KEY])[str(int(Result.BELOW_FLOOR))] == "below_floor"
    assert sum(posted(http, account) for account in accounts[4:8]) == count * (count + 1) // 2

    read = http.get(f"/v1/legs/{text(ids[7:8])[0]}").json()
    assert (read["amount"], read["code"], read["asset"]) == (8, 5, "GBP")
    assert read["debit"] == text(accounts[3:4])[0]

    again = bulk(http, content)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert table(again)["status"].to_pylist() == [Result.EXISTS] * count
    assert table(again)["timestamp"].to_pylist() == stamps


def test_refused_rows_say_why_and_may_be_asked_for_alone(http: Client, accounts: Ids) -> None:
    debit = np.repeat(accounts[:1], 4, axis=0)
    debit[2] = accounts[9]
    content = body(
        id=new_ids(4, debit), debit=debit, credit=accounts[1], amount=[1, -5, 1, 1], asset=GBP, code=1
    )
    answer = bulk(http, content, "/v1/legs?answers=all")
    assert answer.status_code == 201
    assert statuses(answer) == [
        Result.CREATED,
        Result.AMOUNT_MUST_NOT_BE_NEGATIVE,
        Result.BELOW_FLOOR,
        Result.CREATED,
    ]
    alone = bulk(http, content, "/v1/legs?answers=refused")
    assert alone.status_code == 200
    assert table(alone)["row"].to_pylist() == [1, 2]
    assert statuses(alone) == [Result.AMOUNT_MUST_NOT_BE_NEGATIVE, Result.ID_ALREADY_FAILED]


def test_every_row_refused_is_an_answer_too(http: Client, accounts: Ids) -> None:
    answer = bulk(
        http,
        body(id=ids_of(accounts[0], 2), debit=accounts[0], credit=accounts[0], amount=1, asset=GBP, code=1),
    )
    assert answer.status_code == 200
    assert "Idempotent-Replayed" not in answer.headers
    assert statuses(answer) == [Result.ACCOUNTS_MUST_BE_DIFFERENT] * 2


def test_holds_chains_and_the_engines_own_flags(http: Client, accounts: Ids) -> None:
    ids = ids_of(accounts[0], 6)
    flags = [LegFlag.PENDING, LegFlag.POST_PENDING, LegFlag.LINKED, 0, LegFlag.OF_MOVE, LegFlag.BURNT]
    pending = np.zeros((6, 2), np.uint64)
    pending[1] = ids[0]
    debit, credit = np.repeat(accounts[:1], 6, axis=0), np.repeat(accounts[1:2], 6, axis=0)
    credit[3] = accounts[0]
    debit[1] = credit[1] = 0
    answer = bulk(
        http,
        body(
            id=ids, debit=debit, credit=credit, amount=[5, 5, 1, 1, 1, 1], asset=[1, 0, 1, 1, 1, 1], code=1,
            flags=flags, pending_id=pending,
        ),
    )  # fmt: skip
    assert statuses(answer) == [
        Result.CREATED,
        Result.CREATED,
        Result.LINKED_EVENT_FAILED,
        Result.ACCOUNTS_MUST_BE_DIFFERENT,
        Result.RESERVED_FLAG,
        Result.RESERVED_FLAG,
    ]
    assert posted(http, accounts[1]) == 5


def test_several_batches_in_one_stream_are_one_batch(http: Client, accounts: Ids) -> None:
    """A chain goes across them, and stamps go on."""
    legs = {"debit": accounts[0], "credit": accounts[1], "amount": 1, "asset": GBP, "code": 1}
    flags = [0, LegFlag.LINKED, 0, 0]
    made = columns_of({**legs, "id": ids_of(accounts[0], 4), "flags": flags}, LEGS, int)
    whole = pa.ipc.open_stream(stream(made, slice(0, 4), LEGS)).read_all()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_table(whole, max_chunksize=2)
    answer = bulk(http, sink.getvalue().to_pybytes())
    assert statuses(answer) == [Result.CREATED] * 4


def test_accounts_with_parents_guards_and_owners(http: Client) -> None:
    ids = neighbours(3)
    party = http.party("owner")
    parents = np.array([ids[0] * 0, ids[0], ids[0]])
    content = body(
        ACCOUNTS,
        id=ids, party=UUID(party), parent=parents, asset=GBP, code=[1, 2, 0], flags=[8, 0, 0],
        floor=[None, -50, None], ceiling=[None, 70, None],
    )  # fmt: skip
    answer = bulk(http, content, "/v1/accounts")
    assert statuses(answer) == [Result.CREATED, Result.CREATED, Result.CODE_MUST_NOT_BE_ZERO]
    read = http.get(f"/v1/accounts/{text(ids[1:2])[0]}").json()
    assert (read["parent"], read["party"], read["floor"], read["ceiling"]) == (
        text(ids[:1])[0],
        party,
        -50,
        70,
    )
    assert http.get(f"/v1/accounts/{text(ids[:1])[0]}").json()["rollup"]


# What is wrong changes nothing


def problem(answer: Any, status: int, code: str, where: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert (found["code"], found.get("where", "")) == (code, where), found
    return found


def test_a_wrong_stream_is_refused_and_nothing_of_it_is_written(http: Client, accounts: Ids) -> None:
    good = {
        "id": new_ids(3),
        "debit": accounts[0],
        "credit": accounts[1],
        "amount": 1,
        "asset": GBP,
        "code": 1,
    }
    content = body(**good)
    before = http.books()
    with_null = pa.ipc.open_stream(content).read_all()
    with_null = with_null.set_column(3, "amount", pa.array([1, None, 3], pa.int64()))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, with_null.schema) as writer:
        writer.write_table(with_null)
    problem(bulk(http, sink.getvalue().to_pybytes()), 422, "invalid_field", "[1].amount")
    problem(bulk(http, content[:-9]), 400, "malformed_arrow", "body")
    problem(bulk(http, content + b"more"), 400, "malformed_arrow", "body")
    problem(bulk(http, b'[{"id": 1}]'), 400, "malformed_arrow", "body")
    problem(bulk(http, content, "/v1/accounts"), 422, "unknown_field", "debit")
    problem(bulk(http, content, "/v1/legs?answers=some"), 400, "invalid_parameter", "answers")
    problem(bulk(http, content, "/v1/legs?anwsers=all"), 400, "unknown_parameter", "anwsers")
    answer = http.post("/v1/moves", content=content, headers=HEADERS)
    problem(answer, 415, "unsupported_media_type", "Content-Type")
    answer = http.post("/v1/legs", content=content, headers={"Content-Type": "text/plain"})
    assert MEDIA_TYPE in problem(answer, 415, "unsupported_media_type", "Content-Type")["accepted"]
    assert http.books() == before


def test_a_body_over_the_limit_is_refused(http: Client, accounts: Ids) -> None:
    before = http.books()
    large = bytes(arrow.BODY_BYTES_MAX + 1)
    problem(bulk(http, large), 413, "body_too_large", "")
    pieces = (large[at : at + 65_536] for at in range(0, len(large), 65_536))
    answer = http.post("/v1/legs", content=pieces, headers=HEADERS)
    problem(answer, 413, "body_too_large", "")
    assert http.books() == before
    assert len(accounts) == 10


@pytest.mark.parametrize("media_type", [MEDIA_TYPE, "application/json"])
def test_a_body_that_stops_half_way_is_nobodys(
    http: Client, gateway: RunningGateway, accounts: Ids, media_type: str
) -> None:
    if media_type == MEDIA_TYPE:
        content = body(id=new_ids(9), debit=accounts[0], credit=accounts[1], amount=1, asset=GBP, code=1)
    else:
        content = json.dumps(leg(accounts)).encode()
    before = http.books()
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v1/legs HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\n"
        head += f"Content-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content[:-10])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b"", "the server closes, without an answer"
    assert http.books() == before


# JSON, one by one


def leg(accounts: Ids, **more: Any) -> dict[str, Any]:
    debit, credit = text(accounts[:2])
    given = {
        "id": fresh_id(account=debit),
        "debit": debit,
        "credit": credit,
        "amount": 3,
        "asset": "GBP",
        "code": 1,
    }
    return {name: value for name, value in (given | more).items() if value is not None}


def test_one_leg_as_an_object_answers_with_an_object(http: Client, accounts: Ids) -> None:
    sent = leg(accounts)
    answer = http.post("/v1/legs", json=sent)
    assert answer.status_code == 201
    assert int(answer.headers["Tessera-Lsn"]) > 0
    assert answer.json().keys() == {"id", "code", "timestamp"}
    assert (answer.json()["id"], answer.json()["code"]) == (sent["id"], "created")
    assert http.get(f"/v1/legs/{sent['id']}").json()["timestamp"] == answer.json()["timestamp"]

    again = http.post("/v1/legs", json=sent)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert again.json() == answer.json() | {"code": "exists"}

    other = problem(http.post("/v1/legs", json=sent | {"amount": 4}), 409, "exists_with_different_amount", "")
    assert "exists_with_different_amount" in other["detail"]


UNUSUAL: list[dict[str, Any]] = [
    {"amount": "3"},
    {"timestamp": "1970-01-01T00:00:00Z"},
    {"user_data_64": str(2**64 - 1)},
]


@pytest.mark.parametrize("unusual", UNUSUAL)
@pytest.mark.parametrize("alone", [True, False])
def test_what_the_short_cut_does_not_take_means_the_same(
    http: Client, accounts: Ids, unusual: dict[str, Any], alone: bool
) -> None:
    sent = leg(accounts, **unusual)
    answer = http.post("/v1/legs", json=sent if alone else [sent])
    assert answer.status_code == 201, answer.text
    plain = sent | ({"amount": 3} if "amount" in unusual else {}) | {"user_data_32": 0, "flags": []}
    again = http.post("/v1/legs", json=plain if alone else [plain])
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    usual = again.json() if alone else again.json()["results"][0]
    first = answer.json() if alone else answer.json()["results"][0]
    assert usual == first | {"code": "exists"}


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(
    ("wrong", "status", "code", "where"),
    [
        ({"amount": -1}, 422, "negative_amount", "amount"),
        ({"amount": 2**63}, 422, "invalid_amount", "amount"),
        ({"amount": 1.5}, 422, "invalid_amount", "amount"),
        ({"asset": "XYZ"}, 422, "asset_not_found", "asset"),
        ({"id": "12"}, 422, "invalid_field", "id"),
        ({"amuont": 3}, 422, "unknown_field", "amuont"),
        ({"amount": None}, 422, "missing_field", "amount"),
        ({"flags": ["of_move"]}, 422, "invalid_field", "flags[0]"),
        ({"code": 70_000}, 422, "invalid_field", "code"),
        ({"if_debit_version": -1}, 422, "invalid_field", "if_debit_version"),
    ],
)
def test_wrong_fields_are_named(
    http: Client, accounts: Ids, wrong: dict[str, Any], status: int, code: str, where: str, alone: bool
) -> None:
    before = http.books()
    sent = leg(accounts, **wrong)
    found = problem(
        http.post("/v1/legs", json=sent if alone else [sent]),
        status,
        code,
        where if alone else f"[0].{where}",
    )
    assert found["detail"]
    assert http.books() == before


def test_refusals_of_one_and_of_several(http: Client, accounts: Ids) -> None:
    poor = text(accounts[9:])[0]
    answer = http.post("/v1/legs", json=leg(accounts, debit=poor))
    problem(answer, 409, "below_floor", "")
    assert int(answer.headers["Tessera-Lsn"]) > 0, "its id is burnt, which is on disk"
    problem(http.post("/v1/legs", json=[leg(accounts, debit=poor)]), 409, "below_floor", "[0]")
    mixed = http.post("/v1/legs", json=[leg(accounts), leg(accounts, debit=poor)])
    assert mixed.status_code == 201
    assert [item["code"] for item in mixed.json()["results"]] == ["created", "below_floor"]


def test_longer_arrays_are_a_batch_of_their_own(http: Client, accounts: Ids) -> None:
    for count in (GATHERED_LEGS_MAX, GATHERED_LEGS_MAX + 1, 700):
        answer = http.post("/v1/legs", json=[leg(accounts) for _ in range(count)])
        assert (answer.status_code, answer.json()["created"]) == (201, count)


def test_requests_of_many_connections_share_turns_and_stay_apart(
    http: Client, gateway: RunningGateway, accounts: Ids
) -> None:
    """Each client's chain fails or holds by itself, whoever is in the turn with it."""
    poor = text(accounts[9:])[0]
    before = gateway.engine.health().lsn
    count = 300

    def send(number: int) -> Any:
        bad = number % 3 == 0
        chain = [
            leg(accounts, flags=["linked"]),
            leg(accounts, debit=poor) if bad else leg(accounts),
        ]
        answer = http.post("/v1/legs", json=chain)
        if bad:
            problem(answer, 409, "below_floor", "[1]")
        else:
            assert [item["code"] for item in answer.json()["results"]] == ["created"] * 2
        return answer.headers["Tessera-Lsn"]

    with ThreadPoolExecutor(32) as pool:
        positions = list(pool.map(send, range(count)))
    assert gateway.engine.health().lsn - before < count, "there were fewer records than requests"
    assert len(set(positions)) < count
    assert posted(http, accounts[1]) == 3 * 2 * 200


async def test_requests_sent_ahead_are_answered_in_order(gateway: RunningGateway, accounts: Ids) -> None:
    """One connection, many requests before the first answer, the short cut's and others mixed."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    wanted = []
    for number in range(30):
        if number % 5 == 4:
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            wanted.append("serving")
            continue
        sent = leg(accounts)
        content = json.dumps(sent).encode()
        writer.write(
            b"POST /v1/legs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json; charset=utf-8\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
        )
        wanted.append(sent["id"])
    for expected in wanted:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        answer = json.loads(await reader.readexactly(length))
        assert (answer.get("id") or answer["status"]) == expected
    writer.close()
    await writer.wait_closed()


def test_requests_are_counted_whichever_way_they_went(http: Client, accounts: Ids) -> None:
    def counted() -> float:
        lines = http.get("/metrics").text.splitlines()
        prefix = 'tessera_http_requests_total{method="POST",route="/v1/legs",status="201"} '
        return sum(float(line.removeprefix(prefix)) for line in lines if line.startswith(prefix))

    before = counted()
    http.post("/v1/legs", json=leg(accounts))
    http.post("/v1/legs", json=leg(accounts, amount="3"))
    bulk(
        http,
        body(id=ids_of(accounts[0], 1), debit=accounts[0], credit=accounts[1], amount=1, asset=GBP, code=1),
    )
    assert counted() == before + 3


def test_accounts_by_id_as_json(http: Client) -> None:
    ids = text(new_account_ids(3))
    drafts: list[dict[str, Any]] = [{"id": id, "asset": "GBP", "code": 7, "floor": -5} for id in ids]
    answer = http.post("/v1/accounts", json=drafts)
    assert (answer.status_code, answer.json()["created"]) == (201, 3)
    again = http.post("/v1/accounts", json=drafts)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert http.get(f"/v1/accounts/{ids[0]}").json()["floor"] == -5
    other = [draft | {"floor": 0} for draft in drafts]
    problem(http.post("/v1/accounts", json=other), 409, "exists_with_different_floor", "[0]")
    problem(http.post("/v1/accounts", json=[{"id": ids[0], "code": 7}]), 422, "missing_field", "[0].asset")
    problem(http.post("/v1/accounts", json=[drafts[0] | {"asset": "X"}]), 422, "asset_not_found", "[0].asset")
    problem(http.post("/v1/accounts", json=[]), 422, "invalid_field", "body")
    assert ids_column([UUID(id).int for id in ids]).shape == (3, 2)
