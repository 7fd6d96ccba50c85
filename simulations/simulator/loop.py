"""An event loop whose time is simulated: nothing waits, and everything happens in one order.

What is ready runs in the order in which it became ready; when nothing is, time jumps to whatever is due next.
There are no threads, no sockets and no clock but the loop's own, so a run depends on nothing but its input.

Callbacks belong to the process in whose context they were made. A process that is killed never runs another
one: no `finally`, no answer. One that is stopped keeps its callbacks until it is woken.
"""

import asyncio
import contextvars
import heapq
from asyncio.events import _set_running_loop
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

ROUNDS_MAX: Final = 100_000
"""Callbacks at one moment; more of them would mean that something goes round in circles."""


class Process:
    """Something that can be killed and stopped."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.stopped = False
        self._missed: list[_Callback] = []

    def keep(self, callback: "_Callback") -> None:
        """Keep a callback for the time when it is woken."""
        self._missed.append(callback)

    def wake(self) -> "list[_Callback]":
        """Run again; what was missed."""
        self.stopped = False
        missed, self._missed = self._missed, []
        return missed


_PROCESS: Final[contextvars.ContextVar[Process | None]] = contextvars.ContextVar("process", default=None)


def current_process() -> Process | None:
    """Whose callback this is."""
    return _PROCESS.get()


class _Callback(asyncio.TimerHandle):
    """A callback of this loop; a timer if it is in the loop's heap."""

    __slots__ = ("args", "callback", "context", "gone", "process")

    def __init__(self, callback: Callable[..., object], args: Any, context: contextvars.Context) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.process = context.get(_PROCESS)
        self.gone = False

    def cancel(self) -> None:
        self.gone = True

    def cancelled(self) -> bool:
        return self.gone


class SimulatedLoop(asyncio.AbstractEventLoop):
    """`step` after `step`. Use it as a context manager: it is the running loop meanwhile."""

    def __init__(self) -> None:
        self._now = 0.0
        self._ready: deque[_Callback] = deque()
        self._timers: list[tuple[float, int, _Callback]] = []
        self._count = 0  # of timers so far: those of one moment run in the order they were made
        self._tasks: list[asyncio.Task[Any]] = []
        self._over = False

    def __enter__(self) -> "SimulatedLoop":
        _set_running_loop(self)
        return self

    def __exit__(self, *_: object) -> None:
        _set_running_loop(None)
        self._over = True
        for task in self._tasks:
            if not task.done():
                coroutine = task.get_coro()
                assert coroutine is not None
                with suppress(RuntimeError):
                    coroutine.close()

    def step(self) -> bool:
        """Let happen what is due next, and all that follows at the same moment; False if there is nothing."""
        self.settle()
        while self._timers:
            when, _, timer = heapq.heappop(self._timers)
            if timer.gone or (timer.process is not None and timer.process.dead):
                continue
            self._now = max(self._now, when)
            self._ready.append(timer)
            self.settle()
            return True
        return False

    def settle(self) -> None:
        """Run what is ready, until nothing is."""
        ready = self._ready
        for _ in range(ROUNDS_MAX):
            if not ready:
                return
            callback = ready.popleft()
            process = callback.process
            if callback.gone or (process is not None and process.dead):
                continue
            if process is not None and process.stopped:
                process.keep(callback)
                continue
            callback.context.run(callback.callback, *callback.args)
        raise AssertionError(f"more than {ROUNDS_MAX} callbacks at one moment")

    def spawn(self, process: Process, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Start a task in a process."""
        context = contextvars.copy_context()
        context.run(_PROCESS.set, process)
        return context.run(self.create_task, work, context=context)

    def run_in(self, process: Process, work: Callable[..., object], *arguments: Any) -> None:
        """Run something in a process, as soon as that runs."""
        context = contextvars.copy_context()
        context.run(_PROCESS.set, process)
        self.call_soon(work, *arguments, context=context)

    def wake(self, process: Process) -> None:
        """Let a stopped process run again."""
        self._ready.extend(process.wake())

    # What asyncio asks of a loop

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._over

    def is_closed(self) -> bool:
        return self._over

    def call_soon(  # type: ignore[override]  # plainer
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = _Callback(callback, args, context or contextvars.copy_context())
        if not self._over:
            self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]  # plainer
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # plainer
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = _Callback(callback, args, context or contextvars.copy_context())
        self._count += 1
        if not self._over:
            heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **_: Any,
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        return task

    def call_exception_handler(self, _context: dict[str, Any]) -> None:
        """It is told of what the dead have left behind when that is collected: no moment of the run."""
