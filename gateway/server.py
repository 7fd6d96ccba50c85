"""The HTTP server: uvicorn in the engine's own event loop, from an open socket to the last answer.

Starting is: take the port (so that a busy one is reported before the database is touched), open the engine,
listen. Stopping is the reverse: no new connections, every request that was taken is answered, then the
engine writes its snapshot and lets go of the database. An engine that stops by itself (deposed, its log
diverged) ends the server too, and the reason becomes the command's failure: a gateway without an engine has
nothing true to say.
"""

import asyncio
import gc
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
import uvicorn

from actors.errors import Overloaded, ShardStopped
from actors.runtime import Engine
from actors.settings import Settings
from gateway.admission import Admission, AdmissionSettings
from gateway.app import create_app
from gateway.events.streams import StreamSettings
from gateway.fast_lane import FastLane
from gateway.listener import is_loopback
from gateway.metrics import HttpMetrics
from gateway.protocol import protocol_for
from gateway.security.opening import guarding
from gateway.security.patience import patient, sweep
from gateway.security.settings import SecuritySettings
from gateway.webhooks.settings import WebhookSettings

if TYPE_CHECKING:
    from gateway.tracing import Tracing

BACKLOG: Final = 2048
KEEP_ALIVE_S: Final = 75
DRAIN_S: Final = 30
"""How long requests already taken may need after the signal to stop."""
WATCH_S: Final = 1.0
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

OpenEngine: TypeAlias = Callable[[Settings], Coroutine[Any, Any, Engine]]


class HttpServer(uvicorn.Server):
    """A uvicorn server that leaves signals to its owner and says when it has started."""

    def __init__(
        self,
        app: FastLane,
        listener: socket.socket,
        tls: ssl.SSLContext | None = None,
        tracing: "Tracing | None" = None,
        admission: AdmissionSettings | None = None,
    ) -> None:
        chooses = None if tracing is None else tracing.chooses
        admitting = Admission(admission or AdmissionSettings.from_environment(), app.metrics.registry)
        super().__init__(
            uvicorn.Config(
                app if tracing is None else tracing.wrap(app),
                loop="none",
                http=patient(protocol_for(app.engine, app.metrics, app.gate, chooses, admitting)),
                ssl_context_factory=None if tls is None else lambda *_: tls,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=DRAIN_S,
            )
        )
        host, port = listener.getsockname()[:2]
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        self.gate = app.gate
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the command's to handle."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell whoever waits for it."""
        await super().startup(sockets)
        self.listening.set()


@asynccontextmanager
async def serving(
    engine: Engine,
    listener: socket.socket,
    streams: StreamSettings | None = None,
    security: SecuritySettings | None = None,
    tls: ssl.SSLContext | None = None,
    webhooks: WebhookSettings | None = None,
    tracing: "Tracing | None" = None,
    admission: AdmissionSettings | None = None,
) -> AsyncIterator[HttpServer]:
    """A running server over `engine`; at the end of the block every request it took has been answered.

    Webhooks may be sent to every network if told so, or if only this machine can reach the server.
    """
    local = is_loopback(listener.getsockname()[0])
    webhooks = webhooks or WebhookSettings()
    if local:
        webhooks = msgspec.structs.replace(webhooks, private=True)
    guard = guarding(engine.database, engine.settings.tenant, security or SecuritySettings(), local=local)
    async with guard as gate:
        app = create_app(engine, gate, streams, webhooks)
        if tracing is not None:
            engine.trace(tracing)
        server = HttpServer(app, listener, tls, tracing, admission)
        running = asyncio.create_task(server.serve(sockets=[listener]), name="http-server")
        delivering = asyncio.create_task(app.dispatcher.run(), name="webhooks")
        scheduling = asyncio.create_task(app.scheduler.run(), name="schedules")
        watching = [
            asyncio.create_task(_watch(engine, app.metrics), name="watch"),
            asyncio.create_task(sweep(server.server_state.connections), name="sweep"),
        ]
        try:
            await first_of(running, server.listening.wait())
            if running.done():
                await running
            yield server
        finally:
            for task in watching:
                task.cancel()
            app.dispatcher.close()
            app.scheduler.close()
            await delivering
            await scheduling
            await app.event_streams.close()
            server.should_exit = True
            await running


async def _watch(engine: Engine, metrics: HttpMetrics) -> None:
    """Ask now and then whether the log is still ours: an idle engine would not notice that it is not. And
    measure how late the loop comes to it."""
    while True:
        due = time.perf_counter() + WATCH_S
        await asyncio.sleep(WATCH_S)
        metrics.loop_lag.set(time.perf_counter() - due)
        try:
            await engine.fence()
        except Overloaded:
            continue  # busy enough to notice by itself
        except ShardStopped:
            return


async def serve(
    settings: Settings,
    open_engine: OpenEngine,
    listener: socket.socket,
    announce: Callable[[Engine, HttpServer], None],
    security: SecuritySettings | None = None,
    tls: ssl.SSLContext | None = None,
    webhooks: WebhookSettings | None = None,
    tracing: "Tracing | None" = None,
) -> None:
    """Open the engine and serve until a signal says stop. Raises ShardStopped if the engine ends itself."""
    stop = asyncio.Event()
    with stopping_on_signals(stop):
        opening = asyncio.create_task(open_engine(settings), name="engine-open")
        await first_of(opening, stop.wait())
        if not opening.done():
            opening.cancel()
            await asyncio.wait([opening])
            return
        engine = await opening
        try:
            async with serving(
                engine, listener, security=security, tls=tls, webhooks=webhooks, tracing=tracing
            ) as server:
                gc.collect()
                gc.freeze()  # what is there for good is not looked through again and again, for 0.1 s a time
                announce(engine, server)
                await first_of(engine.ended(), stop.wait())
            if not stop.is_set():
                health = engine.health()
                raise ShardStopped(health.shard, health.reason)
        finally:
            await engine.close()


async def first_of(*several: Awaitable[Any]) -> None:
    """Return once one of them is done; of the others, coroutines are cancelled and tasks left alone."""
    tasks = [asyncio.ensure_future(one) for one in several]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task, given in zip(tasks, several, strict=True):
            if task is not given:
                task.cancel()


@contextmanager
def stopping_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` at the first signal; a second one ends the process, as if nobody had asked for grace."""
    loop = asyncio.get_running_loop()

    def release() -> None:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)

    def first_signal() -> None:
        stop.set()
        release()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, first_signal)
    try:
        yield
    finally:
        release()
