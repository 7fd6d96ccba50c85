"""Kinds of Moves: their state machines, and what each step needs."""

from typing import Final

from litestar import get
from litestar.params import FromPath

from actors.errors import NotFound
from gateway.move_views import kind_view
from gateway.openapi import answers
from gateway.reading_schemas import KindPage, KindView
from gateway.routes.parameters import EngineOf
from gateway.wire import Answer

PATH: Final = "/v1/kinds"
VIEW: Final = {
    "name": "journal",
    "code": 2,
    "states": ["draft", "posted"],
    "ended": ["posted"],
    "usual": "post",
    "needs": ["legs|entries"],
    "takes": ["payer", "payee"],
    "inputs": {},
    "roles": {},
    "columns": {},
    "transitions": [
        {
            "name": "post",
            "sources": ["draft"],
            "target": "posted",
            "needs": [],
            "takes": [],
            "inputs": {},
            "by_engine": False,
        }
    ],
}


@get(
    PATH,
    tags=["Kinds"],
    summary="All kinds",
    responses=answers(KindPage, {"items": [VIEW], "next": None}),
)
async def list_kinds(engine: EngineOf) -> Answer[KindPage]:
    """In order of their codes."""
    kinds = sorted(engine.kinds.values(), key=lambda compiled: compiled.kind.code)
    return Answer(KindPage(items=[kind_view(compiled) for compiled in kinds]))


@get(
    PATH + "/{name:str}",
    tags=["Kinds"],
    summary="One kind",
    responses=answers(KindView, VIEW, refusals=("not_found",)),
)
async def read_kind(name: FromPath[str], engine: EngineOf) -> Answer[KindView]:
    """By its name."""
    compiled = engine.kinds.get(name)
    if compiled is None:
        raise NotFound("kind", name)
    return Answer(kind_view(compiled))


handlers: Final = (list_kinds, read_kind)
