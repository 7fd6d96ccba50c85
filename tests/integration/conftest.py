"""Fixtures of this layer."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TypeAlias

import pytest

from actors.runtime import Engine
from actors.settings import Settings
from tests.fixtures_cluster import engine_on
from tests.fixtures_gateway import gateway, http, spare_databases
from tests.fixtures_ray import ray_address

__all__ = ["gateway", "http", "ray_address", "spare_databases"]


Opening: TypeAlias = Callable[[Settings], AbstractAsyncContextManager[Engine]]


@pytest.fixture
def opened(request: pytest.FixtureRequest) -> Opening:
    """Opens engines on a runtime."""
    runtime = getattr(request, "param", "local")
    if runtime == "ray":
        return partial(engine_on, runtime, ray_address=request.getfixturevalue("ray_address"))
    return partial(engine_on, runtime)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a module's tests of a gateway or of opened engines on each of the runtimes that the module names in
    `RUNTIMES`, or on the one that the command line does."""
    runtimes = getattr(metafunc.module, "RUNTIMES", None)
    wanted = metafunc.config.getoption("--runtime")
    if wanted and runtimes is not None:
        runtimes = [wanted]
    if runtimes is not None and "gateway" in metafunc.fixturenames:
        metafunc.parametrize("gateway", runtimes, indirect=True, scope="module")
    if runtimes is not None and "opened" in metafunc.fixturenames:
        metafunc.parametrize("opened", runtimes, indirect=True)
