"""What the explanation of a Move is made of."""

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta


class ExplainedLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a Move, in words."""

    line: int
    sentence: str
    inputs: dict[str, int | str]


class ExplainedStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step that a Move has taken, and every leg that it wrote."""

    seq: int
    transition: str
    state: str
    request: UUID
    principal: Annotated[str, Meta(description="On whose word.")]
    sentences: list[str]


class RelatedMove(msgspec.Struct, frozen=True, kw_only=True):
    """A Move that this one has to do with, and what it did on this one's accounts."""

    move: UUID
    kind: str
    state: str
    reference: str | None
    sentences: list[str]


class ExplanationView(msgspec.Struct, frozen=True, kw_only=True):
    """Why a Move's amounts are what they are. `sentences` has all of it, to be read out."""

    move: UUID
    kind: str
    state: str
    lines: list[ExplainedLine]
    steps: list[ExplainedStep]
    related: list[RelatedMove]
    sentences: list[str]
