"""A writer of a log in a process of its own: it appends one large record and then tells how it went.

    python -m tests.faults.writer URL

Prints a line of JSON per step: what it did, and `ok` or the error that stopped it.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Final

from persistence.database import Database, DatabaseSettings
from persistence.errors import PersistenceError
from persistence.log import Log

PAYLOAD_BYTES: Final = 32 << 20
"""More than all buffers on the way can hold, so that the COPY can be stopped in its middle."""


async def main(url: str) -> None:
    """Append, and after a lost session try everything that a writer might."""
    log = await Log.open(Database(DatabaseSettings(url=url)), 0)
    records = [(log.head.lsn + 1, log.epoch, bytes(PAYLOAD_BYTES))]
    _tell("open", "ok")
    await _try("append", log.append(records))
    await _try("confirm", log.confirm())
    await _try("resolve", log.resolve(records))
    await _try("append again", log.append(records))
    await _try("confirm again", log.confirm())
    await log.close()


async def _try(step: str, attempt: Awaitable[object]) -> None:
    try:
        await attempt
    except PersistenceError as error:
        _tell(step, type(error).__name__, str(error))
    else:
        _tell(step, "ok")


def _tell(step: str, result: str, message: str = "") -> None:
    sys.stdout.write(json.dumps({"step": step, "result": result, "message": message}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
