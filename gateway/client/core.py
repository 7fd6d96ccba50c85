"""What both clients share: a request for every call, and what its answer means.

Nothing here knows whether it runs in the caller's thread or in another one.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import numpy as np

from engine.ids import format_id, parse_id
from engine.layout import ids_column, ids_list
from engine.results import Result
from gateway.arrow_schema import MEDIA_TYPE, ROWS_MAX
from gateway.client import columns as cols
from gateway.client.answers import Answers, decode
from gateway.client.columns import LEGS, Columns, Given, Kind
from gateway.client.errors import InvalidColumns, RequestRefused
from gateway.client.ids import Sequence, new_ids
from gateway.client.transport import Response, Transport

if TYPE_CHECKING:
    from gateway.client.calls import Call, Reply

T = TypeVar("T")

BATCH_ROWS: Final = 8_190
"""Rows in a batch unless told otherwise: large enough to be quick, small enough to be prompt."""
_ARROW: Final = {"Content-Type": MEDIA_TYPE}
_JSON: Final = {"Content-Type": "application/json"}
_NOT_FOUND: Final = 404
_ID_IN_WRONG_BUCKET: Final = Result.ID_IN_WRONG_BUCKET.slug

Json = Any


class Batch(NamedTuple):
    """Rows to be sent as one request."""

    kind: Kind
    columns: Columns
    rows: slice


class Core:
    """Calls on one server."""

    def __init__(self, transport: Transport, batch_rows: int, random: np.random.Generator) -> None:
        if not 1 <= batch_rows <= ROWS_MAX:
            raise ValueError(f"batch_rows is {batch_rows}; a request takes 1 to {ROWS_MAX} rows")
        self.transport = transport
        self._batch_rows = batch_rows
        self._sequence = Sequence.drawn(random)
        self._assets: dict[str, int] = {}
        self._ids_tell_shards = False  # as far as we know

    # Bulk

    def batches(self, given: Given, kind: Kind) -> list[Batch]:
        """What was given, in requests, every leg with an id. Raises InvalidColumns; nothing has been sent."""
        columns = cols.columns_of(given, kind, self.asset_number)
        if kind is LEGS and "id" not in columns:
            count = len(next(iter(columns.values()), ()))
            columns["id"] = new_ids(
                count, columns.get("debit"), columns.get("pending_id"), sequence=self._sequence
            )
        if "id" not in columns:
            raise InvalidColumns("id", "it is missing")
        return [Batch(kind, columns, rows) for rows in cols.batches(columns, self._batch_rows)]

    def post(self, batch: Batch) -> Answers:
        """The durable answers to a batch, sent as often as it takes."""
        kind, columns, rows = batch
        response = self.transport.send("POST", kind.path, cols.stream(columns, rows, kind), _ARROW)
        answers = decode(response.body, columns["id"][rows], response.lsn)
        if response.attempts > 1 and kind is LEGS and "flags" in columns:
            return self._with_chains(answers, columns["flags"][rows])
        return answers

    def _with_chains(self, answers: Answers, flags: Any) -> Answers:
        """Of a batch that was sent more than once, chains that are there since an earlier attempt say so.

        A chain that is sent again answers `exists` once and `linked_event_failed` for its other members. It
        is in the ledger as a whole if another member is there too; then each of them has its own stamp.
        """
        status, timestamp = answers.status.copy(), answers.timestamp.copy()
        for chain in cols.chains(flags):
            there = np.flatnonzero(status[chain] == Result.EXISTS)
            failed = np.flatnonzero(status[chain] == Result.LINKED_EVENT_FAILED)
            if len(there) != 1 or len(there) + len(failed) != chain.stop - chain.start:
                continue
            if self.leg_exists(ids_list(answers.ids[chain][failed[-1:]])[0]):
                first = int(timestamp[chain][there[0]]) - int(there[0])
                timestamp[chain] = np.arange(first, first + chain.stop - chain.start)
                status[chain] = Result.EXISTS
        return Answers(ids=answers.ids, status=status, timestamp=timestamp, lsn=answers.lsn)

    def leg_exists(self, id: int) -> bool:
        """Whether a leg is in the ledger, with everything that was answered before."""
        try:
            self.get(f"/v1/legs/{format_id(id)}")
        except RequestRefused as refused:
            if refused.status == _NOT_FOUND:
                return False
            raise
        return True

    def asset_number(self, code: str) -> int:
        """The number of a Thing's code, asked for once."""
        if code not in self._assets:
            path = f"/v1/things/{quote(code, safe='')}"
            try:
                thing = self.get(path, wait_lsn=0)  # what the query tables have, however far behind they are
            except RequestRefused as refused:
                if refused.status != _NOT_FOUND:
                    raise
                thing = self.get(path)
            self._assets[code] = int(thing["asset"])
        return self._assets[code]

    # JSON

    def get(self, path: str, query: Mapping[str, Any] | None = None, wait_lsn: int | None = None) -> Json:
        """What a path answers, with everything answered before; or with the log up to `wait_lsn`."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        headers = None if wait_lsn is None else {"Tessera-Wait-Lsn": str(wait_lsn)}
        target = f"{path}?{urlencode(given)}" if given else path
        return _json(self.transport.send("GET", target, headers=headers))

    def send(self, method: str, path: str, content: Any) -> Json:
        """What a path answers to a JSON body."""
        return _json(self.transport.send(method, path, msgspec.json.encode(content), _JSON))

    def ask(self, call: "Call[T]", after: int | None) -> "Reply[T]":
        """The reply to a call; with `after`, of what has the log up to there."""
        from gateway.client.calls import reply_of  # noqa: PLC0415  # the schemas of the server: slow to import

        def send(keyed: bool) -> Response:
            body, headers = call.content(self.new_id, keyed)
            if after is not None:
                headers["Tessera-Wait-Lsn"] = str(after)
            return self.transport.send(call.method, call.target, body, headers)

        response = self._at_home(send) if call.is_at_home_somewhere else send(False)
        return reply_of(call, response.body, response.headers)

    def pages(self, path: str, query: Mapping[str, Any]) -> Iterator[Json]:
        """Every item of a list, page by page."""
        cursor = None
        while True:
            page = self.get(path, {**query, "cursor": cursor})
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def create_thing(self, code: str, kind: str, fields: Mapping[str, Any]) -> Json:
        return self.send("POST", "/v1/things", self._identified(fields) | {"code": code, "kind": kind})

    def create_party(self, kind: str, fields: Mapping[str, Any]) -> Json:
        return self.send("POST", "/v1/parties", self._identified(fields) | {"kind": kind})

    def open_account(self, key: str, asset: str, fields: Mapping[str, Any]) -> Json:
        return self.send("POST", "/v1/accounts", {**fields, "key": key, "asset": asset})

    def move(self, kind: str, fields: Mapping[str, Any]) -> Json:
        content = {**fields, "kind": kind}
        if "id" in content:
            return self.send("POST", "/v1/moves", content)

        def send(keyed: bool) -> Response:
            more = {"Idempotency-Key": self.new_id()} if keyed else {}
            body = msgspec.json.encode(content if keyed else self._identified(content))
            return self.transport.send("POST", "/v1/moves", body, _JSON | more)

        return _json(self._at_home(send))

    def step(self, move: str, transition: str, fields: Mapping[str, Any]) -> Json:
        path = f"/v1/moves/{quote(move, safe='')}/{quote(transition, safe='+')}"
        return self.send("POST", path, {"id": self.new_id(of=move), **fields})

    def create_webhook(self, url: str, fields: Mapping[str, Any]) -> Json:
        return self.send("POST", "/v1/webhooks", self._identified(fields) | {"url": url})

    def webhook(self, method: str, webhook: str, more: str = "", content: Any = None) -> Json:
        path = f"/v1/webhooks/{quote(webhook, safe='')}{more}"
        if content is None:
            return _json(self.transport.send(method, path))
        return self.send(method, path, content)

    def _identified(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields, with an id, so that sending them again changes nothing."""
        return {"id": self.new_id(), **fields}

    def _at_home(self, send: Callable[[bool], Response]) -> Response:
        """The answer to a request for a Move: under an id of ours, or under a key (`send(True)`) where ids
        have to tell the shard that the Move is at home on: that is for the server to know."""
        if not self._ids_tell_shards:
            try:
                return send(False)
            except RequestRefused as refused:
                if refused.code != _ID_IN_WRONG_BUCKET:
                    raise
                self._ids_tell_shards = True
        return send(True)

    def new_id(self, of: str = "") -> str:
        """A new id for a request, as UUID text; `of` is the Move whose shard it has to reach, if known."""
        try:
            home = ids_column([parse_id(of)]) if of else None
        except ValueError:
            home = None  # what is no id is the server's to refuse
        return format_id(ids_list(new_ids(1, pending_id=home, sequence=self._sequence))[0])


def _json(response: Response) -> Json:
    return msgspec.json.decode(response.body) if response.body else None
