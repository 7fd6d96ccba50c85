"""The statements on the page about SQL run, on a projection with something in it."""

import re
from pathlib import Path
from typing import Final

import pytest

from persistence.database import Database
from persistence.projection import Projector
from tests.logged_ledger import lived, write_log

PAGE: Final = Path(__file__).parents[2] / "docs" / "sql.md"
STATEMENTS: Final = re.findall(r"```sql\n(.*?);\n```", PAGE.read_text("utf-8"), re.DOTALL)


def test_there_are_examples() -> None:
    assert len(STATEMENTS) >= 6


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.splitlines()[0][:40])
async def test_an_example_runs(database: Database, statement: str) -> None:
    projector = Projector(database, 0)
    await projector.project(await write_log(database, lived(71, 30).kernel.log))
    await projector.close()
    async with database.session("test") as session:
        await session.execute(statement.replace("%", "%%").encode())
