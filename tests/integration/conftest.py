"""Fixtures of this layer."""

import pytest

from tests.fixtures_gateway import gateway, http, spare_databases

__all__ = ["gateway", "http", "spare_databases"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a module's tests of the gateway on each of the runtimes that the module names in `RUNTIMES`."""
    runtimes = getattr(metafunc.module, "RUNTIMES", None)
    if runtimes is not None and "gateway" in metafunc.fixturenames:
        metafunc.parametrize("gateway", runtimes, indirect=True, scope="module")
