"""The demo from its first line to the last request it serves."""

import asyncio
import socket

from rich.console import Console

from actors.errors import ShardStopped
from actors.runtime import Engine
from actors.settings import Settings
from gateway.options import print_result
from gateway.server import first_of, serving, stopping_on_signals
from simulations.books import database_running
from simulations.demo import forget_earlier_demo, recover, replay_until_killed, tour
from simulations.demo_screen import Screen, print_demo, print_served
from simulations.online_retail import FILE_NAMES, FOLDERS, VARIABLE
from simulations.source import Source, read_source


async def run_demo(
    settings: Settings, source: Source, listener: socket.socket | None, *, fresh: bool, as_json: bool
) -> bool:
    """The whole demo; says whether all is well. With a `listener` it serves at the end; `fresh` empties the
    database first. Raises CommandFailed, SimulationError, ActorError or PersistenceError.
    """
    async with database_running(settings) as database:
        with Screen(quiet=as_json) as screen:
            screen.say(_intention(source))
            planned = read_source(source)
            if fresh:
                await forget_earlier_demo(database)
            killed = await replay_until_killed(settings, source, planned.move_count, screen)
            engine = await recover(settings, screen)
            try:
                report = await tour(engine, killed, source, planned, screen)
            except BaseException:
                await engine.close()
                raise
        try:
            print_result(report, print_demo, as_json=as_json)
            if listener is not None:
                await _serve(engine, listener)
        finally:
            await engine.close()
    return report.ok


async def _serve(engine: Engine, listener: socket.socket) -> None:
    """Serve until a signal says stop. Raises ShardStopped if the engine ends by itself."""
    stop = asyncio.Event()
    with stopping_on_signals(stop):
        async with serving(engine, listener) as server:
            print_served(server.url, Console(highlight=False, soft_wrap=True))
            await first_of(engine.ended(), stop.wait())
        if not stop.is_set():
            health = engine.health()
            raise ShardStopped(health.shard, health.reason)


def _intention(source: Source) -> str:
    if source.path is not None:
        return f"Replaying {source.describe()}."
    places = ", ".join(str(folder) for folder in FOLDERS)
    return f"There is no {FILE_NAMES[0]} in {places} or ${VARIABLE}, so this replays {source.describe()}."
