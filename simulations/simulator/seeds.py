"""The committed runs: those that have found something, and for each mutant one that catches it.

They stand in `seeds.json` beside this file, as `Plan`s, and run before anything else.
"""

from pathlib import Path
from typing import Final

import msgspec

from simulations.simulator.faults import Plan

FILE: Final = Path(__file__).with_name("seeds.json")


class Finding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run that once went wrong, and what was wrong with the code."""

    found: str
    plan: Plan


class Catch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run that catches a mutant, by which check, and after how many seeds of a search it was met."""

    mutant: str
    check: str
    seeds: int
    plan: Plan


class Committed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of them."""

    findings: list[Finding]
    catches: list[Catch]


def committed() -> Committed:
    """What the file says."""
    return msgspec.json.decode(FILE.read_bytes(), type=Committed)


def save(content: Committed) -> None:
    """Write the file anew."""
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(_brief(content)), indent=1) + b"\n")


def _brief(content: Committed) -> object:
    """Without what is as it is by default."""
    plain = msgspec.to_builtins(content)
    standard = msgspec.to_builtins(Plan(seed=0))
    for entry in (*plain["findings"], *plain["catches"]):
        entry["plan"] = {
            name: value for name, value in entry["plan"].items() if name == "seed" or value != standard[name]
        }
    return plain
