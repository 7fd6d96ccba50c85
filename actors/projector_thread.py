"""Runs a projector in a thread with an event loop of its own.

A turn of large Moves keeps the engine's loop busy for a tenth of a second, and a projector on the same loop
could then feed PostgreSQL only between turns. In a thread of its own it goes on meanwhile: most of its work
is in NumPy, in compiled code or in the socket, outside the interpreter's lock.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from engine.record import Record
from persistence.projection import Projector

_T = TypeVar("_T")


class ProjectorThread:
    """A `Projector` with the same methods, for callers on another loop."""

    def __init__(self, projector: Projector) -> None:
        self._projector = projector
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"projector-{projector.shard}", daemon=True)
        self._thread.start()

    @property
    def lsn(self) -> int:
        """The last record that the tables contain."""
        return self._projector.lsn

    @property
    def handed(self) -> int:
        """The last record that was given to it and did not fail yet."""
        return self._projector.handed

    @property
    def timestamp(self) -> int:
        """The newest stamp in them."""
        return self._projector.timestamp

    def on_advance(self, callback: Callable[[], None]) -> None:
        """Have this called on the loop of the caller after every transaction."""
        loop = asyncio.get_running_loop()

        def advanced() -> None:
            loop.call_soon_threadsafe(callback)

        self._projector.advanced = advanced

    async def start(self) -> None:
        """As `Projector.start`."""
        await self._there(self._projector.start)

    async def extend(self, records: Sequence[Record], at_once: int, pieces: int) -> None:
        """As `Projector.extend`."""
        await self._there(self._projector.extend, records, at_once, pieces)

    def hurry(self, hurried: bool) -> None:
        """Say whether somebody waits for what is being written."""
        self._projector.hurried = hurried
        if hurried:
            self.gap()

    def gap(self) -> None:
        """As `Projector.gap`; costs nothing while nobody waits for it."""
        if self._projector.spreading and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._projector.gap)

    async def flush(self) -> None:
        """As `Projector.flush`."""
        await self._there(self._projector.flush)

    async def read_back(self, start: int, legs_max: int) -> list[Record]:
        """As `Projector.read_back`."""
        return await self._there(self._projector.read_back, start, legs_max)

    async def close(self) -> None:
        """End the session and the thread."""
        if self._thread.is_alive():
            await self._there(self._end)
            self._loop.call_soon_threadsafe(self._loop.stop)
            await asyncio.to_thread(self._thread.join)

    async def _end(self) -> None:
        """Let what was cancelled come to its end, then close the session."""
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._projector.close()

    async def _there(self, work: Callable[..., Coroutine[Any, Any, _T]], *arguments: Any) -> _T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(*arguments), self._loop))

    def _run(self) -> None:
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()
