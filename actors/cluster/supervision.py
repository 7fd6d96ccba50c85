"""What the processes that keep shards running say to each other, in lines of JSON.

Those who start a process write to its standard input and read what it says from its standard output. This
module imports little, so that a process which only watches others is small and starts quickly.
"""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Final, Literal

import msgspec

from actors.settings import Settings

VERSION: Final = version("tessera")
Action = Literal["run", "stop", "move", "drain"]
REFUSED: Final = 2
"""The exit code of a supervisor that was refused."""
STOPPED: Final = 0
LOST: Final = 1
"""Exit codes of who hosts a shard: it was told to stop, or the shard has ended by itself."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a shard serves: the address that others reach it at, and the node's name for people."""

    host: str
    node: str
    port: int = 0  # 0 = a free one


class ShardPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which shard to host, how, for whom, and by which version of Tessera."""

    version: str
    shard: int
    settings: Settings
    holder: str
    place: Place = Place(host="127.0.0.1", node="")


class HostStatus(msgspec.Struct, frozen=True, kw_only=True, tag="status"):
    """How a shard's process is: `opening` (and why it takes so long), `serving`, `ended` (and why), or
    `refused`."""

    shard: int
    state: str
    reason: str
    pid: int
    node: str
    version: str
    address: str = ""  # where it serves
    epoch: int = 0


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """A process of a nursery has ended, with its exit code (negative: the signal that ended it)."""

    pid: int
    code: int


class RayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How shards are run by Ray."""

    address: str | None = None  # of Ray's head; None = a head of our own, on this machine
    first_port: int = 0  # shard n serves at first_port + n; 0 = any port


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted: to keep the shards running, to stop them, to move one, or to move all off a node."""

    action: Action = "run"
    address: str  # of Ray's head
    settings: Settings
    shards: int
    shard: int = 0  # to be moved …
    node: str = ""  # … to there, or the node to be drained
    first_port: int = 0  # shard n serves at first_port + n; 0 = any port
    stop_shards: bool = False  # when it ends, because nobody else would


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervisor says: `refused`, `ready`, or a `note`."""

    event: str
    text: str = ""
    hint: str = ""


def take_stdout() -> IO[bytes]:
    """Standard output, for what is said to whoever started this process; what is printed from now on goes to
    standard error."""
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return output


def encode(value: msgspec.Struct) -> bytes:
    """Something with settings in it, as JSON."""
    return msgspec.json.encode(value, enc_hook=str)


def to_path(kind: type, value: Any) -> Any:
    """Decodes the paths in settings."""
    if kind is Path:
        return Path(value)
    raise NotImplementedError(f"a setting of type {kind}")
