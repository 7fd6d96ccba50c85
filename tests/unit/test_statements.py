"""Named SQL statements: found by name, and refused when a file is not in order."""

from pathlib import Path

import pytest

from persistence import statements as module
from persistence.statements import statements


def test_a_statement_is_found_by_its_name() -> None:
    assert statements("log")["confirm"] == b"select true"


@pytest.mark.parametrize(
    "text",
    [
        "select 1;\n",
        "-- name: a\nselect 1;\n",
        "select 1;\n-- name: a\n-- Says what.\nselect 1;\n",
        "-- name: a\n-- Says what.\nselect 1;\n-- name: a\n-- Again.\nselect 2;\n",
        "-- name: a\n-- Says what.\nselect 1;\n-- name: b\nselect 2;\n",
    ],
)
def test_a_file_that_is_not_in_order_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "broken.sql").write_text(text)
    monkeypatch.setattr(module, "files", lambda _: tmp_path)
    with pytest.raises(ValueError, match=r"broken\.sql"):
        statements("broken")
