"""What schemathesis is told about the gateway besides its OpenAPI document; see `tests.fuzz.runs`.

Data that fits the document may still be refused for what it means: there is no such Thing, a cursor is of
another list, a kind takes no lines. It may never be refused for its form, which the document is there to say.
"""

import os
from pathlib import Path
from typing import Any, Final

import schemathesis

from tests.fuzz.world import FILE, Known

KNOWN: Final = Known(Path(os.environ[FILE]))

FORM_CODES: Final = frozenset(
    {
        "malformed_json",
        "unsupported_media_type",
        "body_too_large",
        "unknown_parameter",
        "unknown_field",
        "missing_field",
        "invalid_amount",
        "negative_amount",
    }
)
"""Problems that say that a request has not the form it should have."""
NO_MATTER_OF_FORM: Final = ("a number with a fraction or exponent", "lies between", "other lines have it")
"""To JSON Schema 1.0 is a whole number, to a ledger it is not; a pattern can't compare numbers, nor a schema
lines with each other."""
UNKNOWN_HEADER: Final = "x-schemathesis-unknown-property"


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """HTTP knows no forbidden headers."""
    del context
    return UNKNOWN_HEADER not in (case.headers or {})


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Let data that fits the document name what is there."""
    del context, kwargs
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    case.path_parameters = KNOWN.named(case.path_parameters)
    case.query = KNOWN.named(case.query)
    if case.operation.path != "/v1/things":  # which is where they come from
        case.body = KNOWN.sensible(case.operation.path, KNOWN.named(case.body))


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """What an answer names is there too."""
    del context, case
    KNOWN.learn(response.text)


@schemathesis.check
def fits_the_document(context: Any, response: Any, case: Any) -> None:
    """Data that fits the document is not refused for its form."""
    del context
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code < 400:
        return
    problem = response.json()
    if not any(words in problem["detail"] for words in NO_MATTER_OF_FORM):
        assert problem["code"] not in FORM_CODES, problem


@schemathesis.check
def problems_are_whole(context: Any, response: Any, case: Any) -> None:
    """Every error is a problem that says its own status and code, and leaks no stack."""
    del context, case
    if response.status_code < 400:
        return
    problem = response.json()
    assert problem["status"] == response.status_code, problem
    assert problem["code"], problem
    assert problem["detail"], problem
    assert "Traceback" not in response.text, problem
