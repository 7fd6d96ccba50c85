"""What Litestar does not know about operations, added to their descriptions: problems of every body, tags of
every answer, and parameters that are there or not but never null."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway import problems

METHODS: Final = ("get", "post", "put", "patch", "delete")
BODY_PROBLEMS: Final = ("malformed_json", "body_too_large", "unsupported_media_type")
"""What any operation with a body may answer."""
PATTERNS: Final[Mapping[str, str]] = {
    "If-Match": r'^(\*|"[1-9][0-9]{0,17}(-[0-9]+)?")$',
    "cursor": "^[A-Za-z0-9_-]{9,}$",
}
"""Parameters that are text of a certain form."""


def add_details(described: dict[str, Any]) -> None:
    """Complete the operations of a document."""
    for method, operation in _operations(described):
        for parameter in operation.get("parameters", ()):
            parameter["schema"] = _without_null(parameter["schema"])
            if pattern := PATTERNS.get(parameter["name"]):
                parameter["schema"]["pattern"] = pattern
        if "requestBody" in operation:
            _describe_body_problems(operation)
        if method == "get":
            _describe_tags(operation)


def _operations(described: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for item in described["paths"].values():
        for method in METHODS:
            if method in item:
                yield method, item[method]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter: one that is not given is left out."""
    several = schema.get("oneOf", [])
    if {"type": "null"} not in several:
        return schema
    left = [one for one in several if one != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name != "oneOf"}
    return {**rest, **left[0]} if len(left) == 1 else {**rest, "oneOf": left}


def _describe_body_problems(operation: dict[str, Any]) -> None:
    for code in BODY_PROBLEMS:
        status, title = problems.GATEWAY_CODES[code]
        answer = operation["responses"].setdefault(str(status), {"description": "", "content": {}})
        if f"`{code}`" in answer["description"]:
            continue
        parts = [part for part in (answer["description"].rstrip("."), f"`{code}`: {title}") if part]
        answer["description"] = "; ".join(parts) + "."
        content = answer["content"].setdefault(
            problems.MEDIA_TYPE, {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
        )
        content.setdefault("examples", {})[code] = {"value": problems.example_of(code, status)}


def _describe_tags(operation: dict[str, Any]) -> None:
    """Add what `gateway.preconditions` gives to every JSON answer to a GET."""
    answer = operation["responses"]["200"]
    if "application/json" not in answer.get("content", {}):
        return
    answer.setdefault("headers", {})["ETag"] = {
        "schema": {"type": "string"},
        "description": "Of this answer. That of a single account, Move or Party goes into `If-Match`.",
    }
    operation["responses"]["304"] = {"description": "`If-None-Match` names it: the client has it already."}
    operation.setdefault("parameters", []).append(
        {
            "name": "If-None-Match",
            "in": "header",
            "description": "ETags of answers that the client has.",
            "schema": {"type": "string"},
        }
    )
