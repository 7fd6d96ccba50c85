"""Arrow streams of legs and accounts: decoded to columns, written as one batch, answered with a stream."""

from typing import Final
from urllib.parse import parse_qsl

from actors.answers import LegAnswers
from actors.runtime import Engine
from engine.results import Result
from gateway import arrow
from gateway.arrow_schema import MEDIA_TYPE
from gateway.problems import gateway_problem
from gateway.replies import CREATED, LSN_HEADER, REPEATED, REPLAYED_HEADER, Headers, Reply, problem_reply

LEGS: Final = "/v1/legs"
ACCOUNTS: Final = "/v1/accounts"
PATHS: Final = frozenset({LEGS, ACCOUNTS})
"""Where Arrow streams are taken."""
ARROW: Final = MEDIA_TYPE.encode()
ANSWERS: Final = {"all": False, "refused": True}
"""Values of the parameter `answers`, and whether they ask for the refused rows only."""


async def reply_to(engine: Engine, path: str, query: bytes, body: bytes) -> Reply:
    """The answer to a bulk request on one of `PATHS`, durable if it says that anything was written."""
    try:
        refused_only = _refused_only(query)
        if path == LEGS:
            answers = await engine.post_legs(arrow.decode_legs(body))
        else:
            answers = await engine.create_accounts(arrow.decode_accounts(body))
        status, headers = _said(answers)
        return Reply(status, ARROW, arrow.encode_answers(answers, refused_only), headers)
    except Exception as exc:  # whatever it is, the client gets a problem
        return problem_reply(exc, "POST", path)


def _refused_only(query: bytes) -> bool:
    """What a bulk request's query asks for. Raises Problem for anything but `answers`."""
    if not query:
        return False
    given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    wanted = given.pop("answers", "all")
    for name in given:
        raise gateway_problem("unknown_parameter", f"There is no parameter {name!r}.", name, "answers")
    if wanted not in ANSWERS:
        raise gateway_problem(
            "invalid_parameter", f"answers: there is no {wanted!r}.", "answers", ", ".join(ANSWERS)
        )
    return ANSWERS[wanted]


def _said(answers: LegAnswers) -> tuple[int, Headers]:
    """The status of a bulk answer: 201 if anything was created; and its headers."""
    headers: Headers = [(LSN_HEADER, b"%d" % answers.lsn)]
    if (answers.status == Result.CREATED).any():
        return CREATED, headers
    if (answers.status == Result.EXISTS).all():
        headers.append(REPLAYED_HEADER)
    return REPEATED, headers
