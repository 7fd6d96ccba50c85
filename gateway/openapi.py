"""The OpenAPI 3.1 description of the interface, and the page that shows it.

Litestar describes the routes; the objects are described by msgspec, from the very structs that decode and
encode them, so the document cannot say anything else than the code does. The page is made here, without
scripts or anything from another host, so it works wherever the gateway does.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

import msgspec
import pyarrow as pa
from litestar import Litestar, Request
from litestar.datastructures import ResponseHeader
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import Contact, Example, License, Schema, Server, Tag
from litestar.plugins import OpenAPISchemaPlugin
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition

from engine.layout import AMOUNT_MAX
from gateway import documentation, problems, quote_schemas, reading_schemas, schemas
from gateway.arrow_schema import ACCOUNT_SCHEMA, ANSWER_SCHEMA, LEG_SCHEMA
from gateway.arrow_schema import MEDIA_TYPE as ARROW_TYPE
from gateway.events import schemas as event_schemas
from gateway.events.streams import MEDIA_TYPE as STREAM_TYPE
from gateway.openapi_details import add_details
from gateway.schedules import schemas as schedule_schemas
from gateway.security.description import describe_credentials
from gateway.security.gate import MESSAGES_PATH
from gateway.webhooks import schemas as webhook_schemas
from gateway.webhooks import source_schemas
from gateway.wire import SUM_MAX, UNSIGNED_64_MAX, WIRE_TYPES, Amount, Balance, Instant, Sum, Unsigned64

DOCUMENT_PATH: Final = "/openapi.json"
PAGE_PATH: Final = "/docs"

_BALANCES: Final = [
    {"type": "integer", "minimum": -AMOUNT_MAX, "maximum": AMOUNT_MAX},
    {"type": "string", "pattern": "^[+-]?[0-9]{1,19}$"},
]
WIRE_SCHEMAS: Final[Mapping[type, dict[str, Any]]] = {
    Amount: {
        "oneOf": [
            {"type": "integer", "minimum": 0, "maximum": AMOUNT_MAX},
            {"type": "string", "pattern": "^[0-9]{1,19}$"},
        ],
        "description": "Minor units, 0 to 2^63 - 1; sent as a string above 2^53 - 1.",
        "examples": [1250],
    },
    Balance: {
        "oneOf": _BALANCES,
        "description": "Minor units with a sign; sent as a string beyond 2^53 - 1.",
        "examples": [-50000],
    },
    Sum: {
        "oneOf": [
            {"type": "integer", "minimum": 0, "maximum": SUM_MAX},
            {"type": "string", "pattern": "^[0-9]{1,38}$"},
        ],
        "description": "Minor units of many accounts, 0 to 10^38 - 1; sent as a string above 2^53 - 1.",
        "examples": [974774793],
    },
    Unsigned64: {
        "oneOf": [
            {"type": "integer", "minimum": 0, "maximum": UNSIGNED_64_MAX},
            {"type": "string", "pattern": "^[0-9]{1,20}$"},
        ],
        "description": "0 to 2^64 - 1; sent as a string above 2^53 - 1.",
    },
    Instant: {
        "anyOf": [
            {"type": "string", "format": "date-time"},
            {"type": "string", "pattern": "^[0-9]+$"},
            {"type": "integer"},
        ],
        "description": "RFC 3339 with an offset, or nanoseconds since 1970; sent as RFC 3339.",
        "examples": ["2011-12-09T12:50:00Z"],
    },
}

DESCRIPTION: Final = """\
Parties exchange Things by Moves; every Move writes double-entry Entries.

Ids are UUID text. Amounts are whole numbers of minor units, as JSON integers or as strings, and are sent as
strings above 2^53 - 1. Unknown fields and parameters are refused. Errors are RFC 9457 problem details.

A write that says `201` is on disk. Sending the same write again, with the same id, changes nothing and
answers `200` with `Idempotent-Replayed: true`. Every write answers with `Tessera-Lsn`, its position in the
log; a query that carries that number as `Tessera-Wait-Lsn` sees the write.
"""

TAGS: Final = (
    Tag(name="Parties", description="Persons, organisations, services and machines."),
    Tag(name="Things", description="Whatever is offered, owned or counted; every Thing is an asset."),
    Tag(
        name="Accounts",
        description="Balances, limits and Entries of a key of the chart of accounts and an asset.",
    ),
    Tag(name="Kinds", description="Kinds of Moves: states, and what leads from one to the next."),
    Tag(name="Moves", description="Events that shift value between Parties, each with a state machine."),
    Tag(name="Holds", description="What is reserved, until it is posted, voided or runs out."),
    Tag(name="Entries", description="Lines of the double-entry ledger, of all accounts."),
    Tag(name="Legs", description="Bare legs in bulk: a debit and a credit of one amount."),
    Tag(name="Events", description="What happened, in the order of the log."),
    Tag(name="Webhooks", description="Events, sent to a URL; Standard Webhooks signatures."),
    Tag(name="Webhook sources", description="Other people's webhooks, as transitions of Moves."),
    Tag(name="Schedules", description="Moves that are made, or taken further, at given times."),
    Tag(name="Books", description="What must be true of the ledger as a whole."),
    Tag(name="Operations", description="Is it healthy, is it ready, how is it doing."),
)

REPLAYED: Final = ResponseHeader(
    name="Idempotent-Replayed",
    description="`true` if this is the stored answer to the same request sent before.",
    documentation_only=True,
)
LSN: Final = ResponseHeader(
    name="Tessera-Lsn", description="The write's position in the log.", documentation_only=True
)


BULK_SCHEMAS: Final[Mapping[str, pa.Schema]] = {"/v1/legs": LEG_SCHEMA, "/v1/accounts": ACCOUNT_SCHEMA}
"""Paths that take Arrow streams, and their columns."""
_SCHEMAS: Final = (
    schemas,
    reading_schemas,
    quote_schemas,
    event_schemas,
    webhook_schemas,
    source_schemas,
    schedule_schemas,
    problems,
)
"""Where the objects are."""
ALWAYS: Final = (
    "unknown_parameter",
    "unauthenticated",
    "forbidden",
    "misdirected",
    "rate_limited",
    "overloaded",
    "shard_stopped",
)
"""Problems that any operation may answer with."""


class WireSchemas(OpenAPISchemaPlugin):
    """Tells Litestar how the numbers and times of `gateway.wire` look."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        """Whether it is one of ours."""
        return field_definition.annotation in WIRE_TYPES

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        """Its schema."""
        del schema_creator
        given = WIRE_SCHEMAS[field_definition.annotation]
        return Schema(
            one_of=given.get("oneOf"),
            any_of=given.get("anyOf"),
            description=given["description"],
            examples=given.get("examples"),
        )


class DocumentationPage(OpenAPIRenderPlugin):
    """The page for people."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page as HTML."""
        del openapi_schema
        return documentation.page(document(request.app))


class DocumentJson(JsonRenderPlugin):
    """The document beside the page; the routes serve the same one at `DOCUMENT_PATH`."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The document as JSON."""
        del openapi_schema
        return msgspec.json.encode(document(request.app))


def answers(
    view: Any,
    example: object,
    *,
    status: int = 200,
    repeated: bool = False,
    also: Mapping[int, str] | None = None,
    refusals: Sequence[str] | None = (),
    conditional: bool = False,
) -> dict[int, ResponseSpec]:
    """What an operation may answer: `view` with `example`, and problems of the given codes and of `ALWAYS`.

    With `refusals` None there are no problems. `repeated` adds the 200 of a request that was sent before,
    `also` other statuses that carry a `view`; `conditional` the 412 of an `If-Match` that does not hold.
    """
    shown = [Example(id="example", value=example)]
    found = {status: ResponseSpec(view, generate_examples=False, description="Done.", examples=shown)}
    others = {200: "It was so already: the answer to the request sent before."} if repeated else {}
    for number, text in {**others, **(also or {})}.items():
        found[number] = ResponseSpec(view, generate_examples=False, description=text)
    by_status: dict[int, list[str]] = {}
    for code in () if refusals is None else (*refusals, *ALWAYS):
        by_status.setdefault(_status_of(code), []).append(code)
    if conditional:
        by_status[HTTPStatus.PRECONDITION_FAILED] = [
            code for code in refusals or () if code.endswith("_version_differs")
        ]
    for number, codes in sorted(by_status.items()):
        found[number] = ResponseSpec(
            problems.ProblemDetails,
            generate_examples=False,
            description="; ".join(f"`{code}`: {problems.title_of(code)}" for code in codes) + ".",
            media_type=problems.MEDIA_TYPE,
            examples=[Example(id=code, value=problems.example_of(code, number)) for code in codes],
        )
    return found


def _status_of(code: str) -> int:
    return (
        problems.GATEWAY_CODES[code][0] if code in problems.GATEWAY_CODES else problems.refusal_status(code)
    )


def config() -> OpenAPIConfig:
    """How Litestar builds the document."""
    return OpenAPIConfig(
        title="Tessera",
        version=version("tessera"),
        description=DESCRIPTION,
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        contact=Contact(name="The Tessera Authors"),
        servers=[Server(url="/")],
        tags=list(TAGS),
        use_handler_docstrings=True,
        path=PAGE_PATH,
        render_plugins=[DocumentationPage(path="/"), DocumentJson()],
    )


def document(app: Litestar) -> dict[str, Any]:
    """The OpenAPI document of `app`, with the objects as msgspec describes them."""
    described: dict[str, Any] = app.openapi_schema.to_schema()
    _describe_objects(described["components"]["schemas"])
    for route in app.routes:
        if isinstance(route, HTTPRoute) and (item := described["paths"].get(route.path_format)):
            for method, (handler, _) in route.route_handler_map.items():
                _restore_examples(item.get(method.lower(), {}), handler)
    described["paths"][MESSAGES_PATH]["post"]["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object", "description": "Whatever it is."}}},
    }
    described["paths"]["/v1/events"]["get"]["responses"]["200"]["content"][STREAM_TYPE] = {
        "schema": {"type": "string", "description": "Server-sent events, each with an `Event` as its data."}
    }
    add_details(described)
    for path in BULK_SCHEMAS:
        _describe_arrow(described["paths"][path]["post"], BULK_SCHEMAS[path])
    describe_credentials(described)
    return described


def _describe_objects(described: dict[str, Any]) -> None:
    structs = {
        name: kind
        for module in _SCHEMAS
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    }
    _, components = msgspec.json.schema_components(
        list(structs.values()), schema_hook=_schema_of, ref_template="#/components/schemas/{name}"
    )
    described.update(
        {
            name: schema
            for name, schema in components.items()
            if name in described or name not in structs or name in vars(event_schemas)
        }
    )


def _describe_arrow(operation: dict[str, Any], schema: pa.Schema) -> None:
    """Add what `gateway.fast_lane` takes and answers beside JSON."""
    operation["requestBody"]["content"][ARROW_TYPE] = {"schema": _stream(schema, "")}
    for status in ("200", "201"):
        operation["responses"][status].setdefault("content", {})[ARROW_TYPE] = {
            "schema": _stream(ANSWER_SCHEMA, " The schema's metadata says what the status numbers mean.")
        }


def _stream(schema: pa.Schema, more: str) -> dict[str, str]:
    columns = ", ".join(f"`{field.name}` {field.type}" for field in schema)
    return {"type": "string", "format": "binary", "description": f"An Arrow IPC stream: {columns}.{more}"}


def _restore_examples(operation: dict[str, Any], handler: HTTPRouteHandler) -> None:
    """Litestar drops nulls from examples, so they are put in again as they were given."""
    for status, answer in (handler.responses or {}).items():
        if operation and answer.examples:
            [content] = operation["responses"][str(status)]["content"].values()
            content["examples"] = {example.id: {"value": example.value} for example in answer.examples}


def _schema_of(kind: type) -> dict[str, Any]:
    if kind in WIRE_SCHEMAS:
        return dict(WIRE_SCHEMAS[kind])
    raise NotImplementedError(kind)
