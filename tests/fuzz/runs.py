"""Runs of schemathesis against a gateway that serves already."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

from tests.faults.served import environment
from tests.fuzz.world import FILE

CONFIG: Final = Path(__file__).with_name("schemathesis.toml")


class Run(NamedTuple):
    """What became of a run."""

    requests: int
    failures: int
    said: str


def run(url: str, key: str, world: Path, seed: int, examples: int, *options: str) -> Run:
    """Make requests of every kind, with all checks, as somebody with a key. `world` is the file that says
    what is there, `examples` how many there are at most for each operation and phase."""
    report = world.with_name(f"fuzz-{seed}.json")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
            *("run", f"{url}/openapi.json", "--checks", "all", "--no-color", "--warnings", "off"),
            *("--header", f"Authorization: Bearer {key}", "--seed", str(seed)),
            *("--max-examples", str(examples), "--generation-database", "none"),
            *("--report", "json", "--report-json-path", str(report), *options),
        ],
        cwd=world.parent,  # where it keeps what it remembers
        env=environment(**{FILE: str(world)}),
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    told = json.loads(report.read_text()) if report.exists() else {}
    cases = told.get("test_cases", {"generated": 0, "unique_failures": 0})
    failures = cases["unique_failures"] + len(told.get("errors", []))
    return Run(cases["generated"], failures or int(done.returncode != 0), said)
