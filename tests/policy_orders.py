"""Orders and policies, as data, for the tests of `engine.policies`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from engine.policies.facts import OrderLine, QuoteRequest
from engine.policies.pricing import PricePolicy
from engine.policies.quote import Policy, Quote, policy_from_data, quote

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def order(*lines: tuple[str, int] | tuple[str, int, dict[str, Any]], **facts: Any) -> QuoteRequest:
    """An order of (thing, quantity[, attributes]), with facts as JSON has them."""
    made = [
        OrderLine(thing=line[0], quantity=line[1], attrs=line[2] if len(line) == 3 else {}) for line in lines
    ]
    known = {"asset": "EUR", "as_of": NOON, "exponents": {"EUR": 2, "USD": 2, "JPY": 0}, **facts}
    return msgspec.convert({"lines": msgspec.to_builtins(made), **known}, QuoteRequest)


def prices(rows: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A price table; rows are in euros on the level `list` unless they say otherwise."""
    return {"policy": "prices", "rows": [{"level": "list", "asset": "EUR", **row} for row in rows], **more}


def listed(**by_thing: int) -> dict[str, Any]:
    """A price table of list prices in euros."""
    return prices([{"thing": thing, "price": price} for thing, price in by_thing.items()])


def read(*documents: dict[str, Any]) -> dict[str, Policy]:
    """Policies by version, as the gateway has them."""
    return {f"{document['policy']}@1": policy_from_data(document) for document in documents}


def quoted(request: QuoteRequest, *documents: dict[str, Any]) -> Quote:
    """A quote by these policies."""
    return quote(read(*documents), request)


def price_policy(document: dict[str, Any]) -> PricePolicy:
    """A price table, read."""
    policy = policy_from_data(document)
    assert isinstance(policy, PricePolicy)
    return policy
