"""SQL lives in `.sql` files. A file holds named statements, each with a line that describes it:

    -- name: head
    -- The last record of a shard.
    select …

`statements("log")` reads `sql/log.sql` and returns its statements by name.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)\n-- \S.*\n", re.MULTILINE)


@cache
def statements(file: str, package: str = "persistence") -> Mapping[str, bytes]:
    """The statements of `<package>/sql/<file>.sql` by name, as psycopg takes them. Raises ValueError if a
    statement has no name, no description or the name of another one."""
    text = files(package).joinpath("sql", f"{file}.sql").read_text("utf-8")
    starts = list(_NAME.finditer(text))
    if not starts or text.count("-- name:") != len(starts) or text[: starts[0].start()].strip():
        raise ValueError(f"{file}.sql: every statement starts with its name and a line that describes it")
    ends = [start.start() for start in starts[1:]] + [len(text)]
    found = {
        start[1]: text[start.end() : end].strip().removesuffix(";").encode()
        for start, end in zip(starts, ends, strict=True)
    }
    if len(found) != len(starts):
        raise ValueError(f"{file}.sql: two statements have the same name")
    return MappingProxyType(found)
