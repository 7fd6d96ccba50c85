"""What the OpenAPI document says about credentials: how they are sent, and the scope of each operation."""

from typing import Any, Final

from gateway.security.authorization import needed
from gateway.security.gate import PUBLIC_PATHS

SCHEME: Final = "bearer"


def describe_credentials(document: dict[str, Any]) -> None:
    """Add them to a document."""
    document["components"]["securitySchemes"] = {
        SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key (`tessera keys create`) or a token of the OpenID Connect provider. "
            "Without any keys, a gateway on loopback asks for none.",
        }
    }
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if not isinstance(operation, dict) or "responses" not in operation:
                continue
            if path in PUBLIC_PATHS:
                operation["security"] = []
                continue
            resource, action = needed(method.upper(), path)
            operation["security"] = [{}, {SCHEME: []}]
            scope = f"Needs the scope `{resource}:{action}`."
            operation["description"] = "\n\n".join(filter(None, (operation.get("description"), scope)))
