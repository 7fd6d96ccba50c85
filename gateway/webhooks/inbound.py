"""Other people's webhooks, as transitions of Moves.

A source has a secret that its messages are signed with, and rules. The first rule that fits a message says
which Move it is about, which transition that takes, and where in the message amount, reason and metadata
stand. A message that no rule fits is nothing to us, and taken as such.

A message happens once, whatever its sender does: its id is claimed in the log, as an `Idempotency-Key` is,
before anything else is done.
"""

import time
from typing import Any, Final
from uuid import UUID

import msgspec
import xxhash

from actors.runtime import Engine
from engine.commands import Refusal
from gateway.move_commands import step
from gateway.problems import Problem, gateway_problem, refusal
from gateway.routes.parameters import new_id_like
from gateway.schemas import TransitionDraft
from gateway.webhooks.settings import NANOSECONDS
from gateway.webhooks.signatures import make_secret, verify
from gateway.webhooks.source_schemas import SourceRule, Taken
from gateway.wire import Amount, WrongValue
from persistence.views import MoveFilter
from persistence.webhook_sources import StoredSource

BODY_BYTES_MAX: Final = 1 << 18
MISSING: Final = object()
_RULES: Final = msgspec.json.Decoder(list[SourceRule])
_NOBODYS: Final = make_secret()


def check_signature(source: StoredSource | None, headers: dict[str, str], body: bytes) -> str:
    """The id of a message that a source has signed. A source that is not there takes as long to say, and has
    signed nothing. Raises SignatureRefused."""
    now = time.time_ns()
    keys = [_NOBODYS] if source is None else source.keys(now)
    return verify(headers, body, keys, now // NANOSECONDS)


async def take_in(engine: Engine, source: StoredSource, id: str, body: bytes) -> tuple[Taken, bool]:
    """Let a message have its effect; with whether it had that before. Raises Problem."""
    content = _decoded(body)
    rule = next((rule for rule in _RULES.decode(source.rules) if _fits(rule, content)), None)
    if rule is None:
        return Taken(outcome="ignored"), False
    draft = _draft(rule, content)
    move = await _move(engine, rule, content)
    engine = engine.on_word_of(f"webhook:{source.name}")
    digest = xxhash.xxh3_128_digest(body)
    claimed = await engine.claim(f"\0webhook\0{source.name}\0{id}", digest, new_id_like(move.int))
    if claimed.digest != digest:
        raise refusal(
            Refusal.EXISTS_WITH_DIFFERENT_CONTENT, "another message came under this webhook-id", "webhook-id"
        )
    [answer] = await engine.submit([step(draft, move, rule.transition, claimed.request)])
    if not answer.accepted:
        raise refusal(answer.code, answer.message)
    return Taken(outcome="done", move=UUID(int=answer.move), state=answer.state), answer.replayed


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise gateway_problem("malformed_json", f"The body can't be read as JSON: {exc}.") from exc


def _at(content: Any, path: str) -> Any:
    """What stands at a path of a message, or MISSING."""
    for name in path.split("."):
        if isinstance(content, dict):
            content = content.get(name, MISSING)
        elif isinstance(content, list) and name.isdecimal() and int(name) < len(content):
            content = content[int(name)]
        else:
            return MISSING
    return content


def _fits(rule: SourceRule, content: Any) -> bool:
    for path, expected in rule.when.items():
        found = _at(content, path)
        if type(found) is not type(expected) or found != expected:
            return False
    return True


def _text(content: Any, path: str) -> str:
    found = _at(content, path)
    if not isinstance(found, str) or not found or "\0" in found:
        raise _lacking(path, "text")
    return found


def _draft(rule: SourceRule, content: Any) -> TransitionDraft:
    metadata = {
        name: found for name, path in rule.metadata.items() if (found := _at(content, path)) is not MISSING
    }
    given: dict[str, Any] = {"metadata": metadata}
    if rule.amount is not None:
        try:
            given["amount"] = Amount.from_json(_at(content, rule.amount))
        except WrongValue as exc:
            raise _lacking(rule.amount, "an amount in minor units") from exc
    if rule.reason is not None:
        given["reason"] = _text(content, rule.reason)
    return TransitionDraft(**given)


async def _move(engine: Engine, rule: SourceRule, content: Any) -> UUID:
    if rule.move is not None:
        try:
            return UUID(_text(content, rule.move))
        except ValueError as exc:
            raise _lacking(rule.move, "the id of a Move") from exc
    assert rule.reference is not None, "a rule has one of the two"
    reference = _text(content, rule.reference)
    await engine.wait_projected()
    found = (await engine.queries.moves(MoveFilter(reference=reference, limit=2))).items
    if len(found) > 1:
        raise _lacking(rule.reference, "a reference that only one Move has")
    if not found:
        raise refusal(Refusal.MOVE_NOT_FOUND, f"{rule.reference}: no Move has the reference {reference!r}")
    return UUID(int=found[0].id)


def _lacking(path: str, what: str) -> Problem:
    return gateway_problem("invalid_field", f"{path}: the rule expects {what} there.", path, what)
