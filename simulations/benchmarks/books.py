"""Proves the books that a benchmark made, in a process of its own, and says what they are.

    python -m simulations.benchmarks.books FOLDER

The engine is opened once more, so that recovery is proved too, and does what `tessera verify` does.
"""

import logging
import sys
from pathlib import Path

import msgspec

from actors.runtime import Engine
from actors.settings import Settings
from gateway.logs import configure_logs
from gateway.options import print_json, run
from simulations.benchmarks.measurement import books_hash


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the books are in order, and a hash of what all accounts have."""

    ok: bool
    problems: list[str]
    checked: dict[str, int]
    books: str


async def _proof(folder: Path) -> Proof:
    async with Engine.running(Settings.from_environment(data_dir=folder)) as engine:
        report = await engine.verify()
        _, state = await engine.capture()
    return Proof(
        ok=report.ok,
        problems=report.problems,
        checked=report.checked,
        books=books_hash(state["ledger"]["accounts"]),
    )


if __name__ == "__main__":
    configure_logs(logging.WARNING)
    print_json(run(_proof(Path(sys.argv[1]))))
