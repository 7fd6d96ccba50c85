"""Fixtures of the unit tests."""

from collections.abc import Iterator

import pytest

from tests.desk import Shop


@pytest.fixture
def shop() -> Iterator[Shop]:
    """A shard in small with a currency, a buyer, a seller and goods; it proves itself at the end."""
    shop = Shop()
    yield shop
    shop.close()
