"""Quotes: what an order would cost by its policies, and what a Move's lines came from."""

from typing import Annotated, Final

from litestar import get, post
from litestar.openapi.spec import Example
from litestar.params import Body

from gateway.openapi import answers
from gateway.quote_schemas import QuoteDraft, QuoteView
from gateway.quotes import quote_of, quote_of_move, quote_view
from gateway.routes.moves import PATH, PAYER
from gateway.routes.parameters import EngineOf, IdInPath, WaitLsn, read_after
from gateway.wire import Answer, JsonBody

DRAFT: Final = {
    "payer": PAYER,
    "asset": "GBP",
    "lines": [{"thing": "mug", "quantity": 3}],
    "pricing": {"policies": ["prices@3"], "ship_to": {"country": "GB"}},
}
VIEW: Final = {
    "asset": "GBP",
    "as_of": "2011-12-09T12:50:00.000000000Z",
    "total": 2850,
    "subsidy": 0,
    "payable": 2850,
    "discounts": 0,
    "taxes": 0,
    "verdict": "allow",
    "policies": {"prices": "prices@3"},
    "lines": [
        {
            "line": 1,
            "kind": "goods",
            "thing": "mug",
            "quantity": 3,
            "amount": 2850,
            "listed": 2850,
            "discount": 0,
            "subsidy": 0,
            "refundable": True,
            "taxes": {},
        }
    ],
    "trace": [
        {
            "sentence": "Line 1: 3 of mug at 9.50 GBP each come to 28.50 GBP. The price is the list price.",
            "step": {
                "step": "priced",
                "line": 1,
                "thing": "mug",
                "quantity": 3,
                "row": 0,
                "level": "list",
                "price": 950,
                "asset": "GBP",
                "amount": 2850,
                "counted": 3,
            },
        }
    ],
    "uses": {},
    "seller_fees": {},
}


@post(
    PATH + "/quote",
    dto=JsonBody[QuoteDraft],
    status_code=200,
    tags=["Moves"],
    summary="What an order costs",
    responses=answers(
        QuoteView,
        VIEW,
        refusals=(
            "malformed_json",
            "not_found",
            "thing_not_found",
            "asset_not_found",
            "invalid_field",
            "missing_field",
            "unknown_field",
            "projection_behind",
        ),
    ),
)
async def quote_order(
    data: Annotated[QuoteDraft, Body(examples=[Example(value=DRAFT)])], engine: EngineOf
) -> Answer[QuoteView]:
    """Prices the lines by policies: every amount with the step that it came from. Nothing is written.

    `POST /v1/moves` with the same `pricing` writes the lines and keeps the quote with the Move.
    """
    return Answer(quote_view(await quote_of(engine, data)))


@get(
    PATH + "/{move_id:str}/quote",
    tags=["Moves"],
    summary="Why a Move costs what it does",
    responses=answers(QuoteView, VIEW, refusals=("invalid_parameter", "not_found")),
)
async def read_quote(move_id: IdInPath, engine: EngineOf, wait_lsn: WaitLsn = None) -> Answer[QuoteView]:
    """The quote that was frozen when the Move was created with `pricing`."""
    await read_after(engine, wait_lsn)
    return Answer(quote_view(await quote_of_move(engine, move_id)))


handlers: Final = (quote_order, read_quote)
