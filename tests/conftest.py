"""Fixtures that all layers share; each lives in a file named after what it provides."""

pytest_plugins = ("tests.fixtures_postgres",)
