"""Schemathesis finds nothing wrong: no 5xx, no undocumented status, no answer that its schema does not allow.

In the tests it makes some thousand requests; `make fuzz` makes as many as it is told.
"""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from actors.settings import Settings
from gateway.security.settings import SecuritySettings
from tests.fuzz import world
from tests.fuzz.runs import run
from tests.integration.test_access import Guarded

EXAMPLES_MAX: Final = 3
"""Of each operation and phase, in the tests."""
EXAMPLES_MAX_DEEP: Final = 200
REQUESTS_OF_TESTS: Final = 3_000


def test_the_gateway_keeps_to_its_document(
    spare_databases: Any, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    wanted = pytestconfig.getoption("fuzz_requests")
    settings = Settings(database_url=spare_databases())
    there = tmp_path / "world.json"
    with Guarded(settings, SecuritySettings(auth=True)) as gateway:
        key = gateway.key("*")
        with gateway.client(key) as http:
            there.write_text(json.dumps(world.make(http)))
        made, seed = 0, int(pytestconfig.getoption("fuzz_seed"))
        while made < (wanted or REQUESTS_OF_TESTS):
            examples = EXAMPLES_MAX_DEEP if wanted else EXAMPLES_MAX
            done = run(gateway.url, key, there, seed, examples)
            print(done.said)
            assert done.failures == 0, done.said
            made, seed = made + done.requests, seed + 1
        with gateway.client(key) as http:
            http.books()
            assert http.get("/health").json()["status"] == "serving"
        print(f"{made} requests, nothing wrong")
