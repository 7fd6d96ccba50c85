"""Fixtures of this layer."""

from tests.fixtures_gateway import gateway, http, spare_databases

__all__ = ["gateway", "http", "spare_databases"]
