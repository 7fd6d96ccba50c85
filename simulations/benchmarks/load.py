"""Puts a load of small requests on a server, and waits for what became of it."""

import subprocess
import sys
from collections.abc import Iterable
from typing import Final

import msgspec

from gateway.options import CommandFailed, ExitCode
from simulations.benchmarks.load_generator import Load, Target

GENERATOR: Final = "simulations.benchmarks.load_generator"
LIMIT_S: Final = 600
"""A load that takes longer has failed."""


def put(target: Target, bodies: Iterable[bytes]) -> Load:
    """Send the bodies from another process, and wait for all answers. Raises CommandFailed if one of them is
    not 201."""
    command = [sys.executable, "-m", GENERATOR, msgspec.json.encode(target).decode()]
    try:
        done = subprocess.run(  # noqa: S603  # ourselves
            command, input=b"\n".join(bodies), capture_output=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise CommandFailed(ExitCode.FAILED, f"A load took more than {LIMIT_S} s.") from exc
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise CommandFailed(ExitCode.FAILED, f"The load generator gave up: {said}.")
    return msgspec.json.decode(done.stdout, type=Load)
