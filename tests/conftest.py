"""Fixtures that all layers share; each lives in a file named after what it provides."""

from collections.abc import Iterator

import pytest
import structlog

pytest_plugins = ("tests.fixtures_postgres",)


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `make fuzz` and `make test-ray` say."""
    group = parser.getgroup("fuzz")
    group.addoption(
        "--fuzz-requests", type=int, default=0, help="fuzz deeply, with at least so many requests"
    )
    group.addoption("--fuzz-seed", type=int, default=1, help="the seed of the first run")
    runtimes = parser.getgroup("runtimes")
    runtimes.addoption("--runtime", default="", help="run tests that may run on several runtimes on this one")


@pytest.fixture(autouse=True)
def log_lines_as_before() -> Iterator[None]:
    """A command that is run in this process says where log lines go: only until the end of its test."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
