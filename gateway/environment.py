"""Settings that come from the environment."""

import os
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

_Settings = TypeVar("_Settings", bound=msgspec.Struct)


def from_environment(
    kind: type[_Settings], prefix: str, environment: Mapping[str, str] | None, given: Mapping[str, Any]
) -> _Settings:
    """The given settings, and for those that are None the variables `<prefix><NAME>`; those of this process
    if no others are given. Raises ValueError."""
    source = os.environ if environment is None else environment
    chosen = {name: value for name, value in given.items() if value is not None}
    for field in msgspec.structs.fields(kind):
        variable = prefix + field.name.upper()
        if field.name not in chosen and source.get(variable):
            try:
                chosen[field.name] = msgspec.convert(source[variable], field.type, strict=False)
            except msgspec.ValidationError as exc:
                raise ValueError(f"{variable}: {exc}") from exc
    return kind(**chosen)
