"""Has a courier for every active endpoint, as long as no other gateway has.

Several gateways may serve one tenant; the one that has the lease delivers. Endpoints are looked at every
second, and at once when they are changed by way of this gateway: a courier whose endpoint has changed is
replaced by one that knows.
"""

import asyncio
import math
from contextlib import suppress
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import CollectorRegistry

from actors.errors import ShardStopped
from actors.runtime import Engine
from gateway.webhooks.courier import Courier
from gateway.webhooks.metrics import WebhookMetrics
from gateway.webhooks.settings import WebhookSettings
from persistence.account_names import AccountNames
from persistence.errors import PersistenceError
from persistence.webhook_sources import WebhookSources
from persistence.webhooks import Progress, Webhooks

TELL_S: Final = 2.0
"""How long a change waits to be known."""

_logger = structlog.get_logger("tessera.gateway")


class _Running:
    """A courier at work on one version of an endpoint."""

    def __init__(self, version: int, courier: Courier, restart_s: float) -> None:
        self.version = version
        self.courier = courier
        self._restart_s = restart_s
        self._again_at = math.inf
        self._task = asyncio.create_task(courier.run(), name="webhook-courier")
        self._task.add_done_callback(self._ended)

    def is_over(self) -> bool:
        """Whether another courier should have a try."""
        return asyncio.get_running_loop().time() >= self._again_at

    async def end(self) -> None:
        """Let it end."""
        self.courier.stop()
        await asyncio.wait([self._task])

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._again_at = asyncio.get_running_loop().time() + self._restart_s
        failure = task.exception()
        if isinstance(failure, PersistenceError | ShardStopped):
            _logger.warning("webhooks can't be delivered", error=str(failure))
        elif failure is not None:
            _logger.error("a webhook's courier failed", exc_info=failure)


class Dispatcher:
    """The webhooks of a gateway. `run` it in a task, and `close` it before the engine."""

    def __init__(
        self, engine: Engine, names: AccountNames, registry: CollectorRegistry, settings: WebhookSettings
    ) -> None:
        self.settings = settings
        self.stored = Webhooks(engine.database, engine.settings.tenant)
        self.sources = WebhookSources(engine.database, engine.settings.tenant)
        self._engine = engine
        self._names = names
        self._metrics = WebhookMetrics(registry)
        self._running: dict[UUID, _Running] = {}
        self._changed = asyncio.Event()
        self._to_tell: list[asyncio.Future[None]] = []  # who waits until what they changed is known
        self._closing = asyncio.Event()
        self._metrics.watch(
            lambda: sum(one.courier.waiting for one in self._running.values()),
            lambda: sum(one.courier.is_failing for one in self._running.values()),
        )

    async def changed(self) -> None:
        """An endpoint was changed; returns once its courier knows, if it is here."""
        told = asyncio.get_running_loop().create_future()
        self._to_tell.append(told)
        self._changed.set()
        await asyncio.wait([told], timeout=TELL_S)

    def close(self) -> None:
        """Let `run` end."""
        self._closing.set()
        self._changed.set()

    async def run(self) -> None:
        """Deliver until told to end, or the engine has ended."""
        try:
            while not self._closing.is_set():
                try:
                    await self._deliver()
                except PersistenceError as exc:
                    _logger.warning("webhooks can't be delivered", error=str(exc))
                    await self._pause(self.settings.restart_s)
        finally:
            await self.stored.close()
            await self.sources.close()

    async def _deliver(self) -> None:
        """Deliver once there is an endpoint, until told to end. Raises PersistenceError."""
        while not await self._has_work():
            if await self._pause(self.settings.poll_s):
                return
        engine = self._engine
        progress = await Progress.open(engine.database, engine.settings.tenant, self.settings.lease_s)
        try:
            while not self._closing.is_set():
                to_tell, self._to_tell = self._to_tell, []
                wanted = await self.stored.active() if await progress.take() else {}
                await self._run_couriers(wanted, progress)
                _tell(to_tell)
                await self._pause(self.settings.poll_s)
        finally:
            await self._run_couriers({}, progress)
            await progress.close()

    async def _has_work(self) -> bool:
        """Whether there is an active endpoint."""
        to_tell, self._to_tell = self._to_tell, []
        if await self.stored.active():
            self._to_tell += to_tell
            return True
        _tell(to_tell)
        return False

    async def _run_couriers(self, wanted: dict[UUID, int], progress: Progress) -> None:
        """Have a courier for each of these versions of endpoints, and no others."""
        ended = [id for id, one in self._running.items() if wanted.get(id) != one.version or one.is_over()]
        for id in ended:
            self._running[id].courier.stop()
        for id in ended:
            await self._running.pop(id).end()
        for id, version in wanted.items():
            if id not in self._running and (stored := await self.stored.get(id)) is not None:
                courier = Courier(self._engine, self._names, stored, progress, self.settings, self._metrics)
                self._running[id] = _Running(version, courier, self.settings.restart_s)

    async def _pause(self, seconds: float) -> bool:
        """Wait, or until something changes; whether it is time to end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        if not self._closing.is_set():
            self._changed.clear()
        return self._closing.is_set()


def _tell(waiting: list[asyncio.Future[None]]) -> None:
    for one in waiting:
        if not one.done():
            one.set_result(None)
