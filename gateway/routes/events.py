"""What is committed, as events: a stream that goes on, or a page of what there is."""

from typing import Annotated, Any, Final
from uuid import UUID

from litestar import Request, get
from litestar.params import HeaderParameter, QueryParameter

from gateway.events.filters import GROUPS, EventFilter, EventType, wanted_by
from gateway.events.positions import NOW, START, cursor_of, cursor_text
from gateway.events.schemas import EventPage
from gateway.events.streams import MEDIA_TYPE, EventStream, EventStreams
from gateway.openapi import answers
from gateway.routes.parameters import EngineOf
from gateway.wire import Answer

PATH: Final = "/v1/events"
PARAMETERS: Final = {
    "types": "type",
    "parties": "party",
    "accounts": "account",
    "kinds": "kind",
    "assets": "asset",
}
"""The filters as parameters, each of which may be repeated."""
EXAMPLE: Final = {
    "items": [
        {
            "id": "0.42.3",
            "type": "move.created",
            "timestamp": "2011-12-09T12:50:00.000000001Z",
            "lsn": 42,
            "data": {
                "id": "019aa0c2-7c00-7000-8000-000000000536",
                "request": "019aa0c2-7c00-7000-8000-000000000536",
                "kind": "transfer",
                "transition": "post",
                "state": "posted",
                "ended": True,
                "seq": 0,
                "version": 1,
                "payer": "019aa0c2-7c00-7000-8000-00000000a11c",
                "payee": "019aa0c2-7c00-7000-8000-000000000b0b",
                "asset": "GBP",
                "amount": 1250,
                "tender": "",
                "reason": "",
                "reference": "invoice-536365",
                "reverses": None,
                "lines": [],
                "inputs": {},
                "metadata": {},
                "legs": 1,
                "business_time": "2011-12-09T12:50:00.000000001Z",
                "expires_at": None,
            },
        }
    ],
    "position": "0.43.0",
    "more": False,
}

Several = "; repeat it for any of several."


@get(
    PATH,
    tags=["Events"],
    summary="What happened, and what happens next",
    responses=answers(EventPage, EXAMPLE, refusals=("invalid_parameter", "invalid_cursor")),
)
async def events(
    request: Request[Any, Any, Any],
    engine: EngineOf,
    type: Annotated[
        list[str] | None,
        QueryParameter(description=f"{', '.join((*GROUPS, *EventType))}{Several}"),
    ] = None,
    party: Annotated[
        list[UUID] | None,
        QueryParameter(description=f"Itself, its accounts, its Moves{Several}"),
    ] = None,
    account: Annotated[list[UUID] | None, QueryParameter(description=f"Its legs and limits{Several}")] = None,
    kind: Annotated[
        list[str] | None, QueryParameter(description=f"Kind of Moves, with their legs{Several}")
    ] = None,
    asset: Annotated[list[str] | None, QueryParameter(description=f"Code of a Thing{Several}")] = None,
    after: Annotated[
        str | None,
        QueryParameter(
            description=f"The id of the last event that was seen, `{START}` or `{NOW}`. Without it a stream "
            "begins now, and a page at the start."
        ),
    ] = None,
    last_event_id: Annotated[
        str | None,
        HeaderParameter(name="Last-Event-ID", description="As `after`, and stronger: what browsers send."),
    ] = None,
) -> Answer[EventPage] | EventStream:
    """As server-sent events (`text/event-stream`) that go on until the client leaves, in the order of the
    log, each once. A client that comes again with `Last-Event-ID` goes on where it was, from any point in
    history.

    With `Accept: application/json`, a page of what there is already; `position` is the `after` of the next.

    Every filter that is given must fit.
    """
    streams: EventStreams = request.app.state.event_streams
    given = EventFilter(
        types=type or [], parties=party or [], accounts=account or [], kinds=kind or [], assets=asset or []
    )
    wanted = await wanted_by(engine, given, PARAMETERS)
    as_page = _prefers_json(request.headers.get("accept", ""))
    where = "after" if last_event_id is None else "Last-Event-ID"
    start = last_event_id or after or (START if as_page else NOW)
    cursor = cursor_of(start, engine.log_ends(), where)
    if not as_page:
        return streams.stream(wanted, cursor)
    with streams.reader(wanted, cursor) as reader:
        items = (await reader.next()).events if reader.behind else []
        page = EventPage(
            items=[told.event for told in items], position=cursor_text(reader.cursor), more=reader.behind
        )
    return Answer(page)


def _prefers_json(accept: str) -> bool:
    """Whether a client that takes both would rather have a page."""
    return "application/json" in accept and MEDIA_TYPE not in accept


handlers: Final = (events,)
