"""Everything an engine may be told, in one immutable object. The environment is read here and nowhere
else."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.placement import SHARDS_MAX
from persistence.database import DatabaseSettings

DEFAULT_DATA_DIR: Final = Path(".tessera")
ENVIRONMENT_PREFIX: Final = "TESSERA_"
TURN_WEIGHT_LIMIT: Final = 65_536
"""What the kernel takes in one call, with room to spare."""
_AT_LEAST: Final = {
    "mailbox_messages_max": 1,
    "mailbox_weight_max": 1,
    "turn_weight_max": 1,
    "turn_weight_min": 0,
    "turns_in_flight_max": 1,
    "projection_lag_legs_max": 1,
    "ids_per_generation": 1,
    "generations_max": 3,
    "snapshot_legs": 1,
    "sweep_interval_ns": 0,
}


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an engine keeps its log, and the bounds it works within.

    Exactly one of `data_dir` (embedded PostgreSQL) and `database_url` (any PostgreSQL from 15 on) is used;
    with neither, the embedded server under `.tessera`.
    """

    data_dir: Path | None = None
    database_url: str | None = None
    database_schema: str = "tessera"
    takeover: bool = False  # end the session of an engine that holds the log, and take its place
    tenant: str = "default"
    shards: int | None = None  # how many a new database gets; None = 1, or what the database has
    connect_limit_s: float = 30.0  # how long PostgreSQL is tried to be reached
    kinds: Path | None = None  # a folder with kinds of Moves, one in each file; see docs/kinds.md

    mailbox_messages_max: int = 20_000  # messages that may wait in a shard's mailbox
    mailbox_weight_max: int = 1_000_000  # legs, Moves and reads in those messages
    turn_weight_max: int = 65_536  # legs, Moves and reads that one turn takes
    turn_weight_min: int = 256  # with less, a turn waits for more while a commit is on its way
    turns_in_flight_max: int = 4  # turns that may wait for their commit
    projection_lag_legs_max: int = 20_000_000  # beyond it new work is refused until SQL has caught up
    ids_per_generation: int = 1 << 22  # ids remembered in one generation of the id window
    generations_max: int = 4
    snapshot_legs: int = 5_000_000  # a snapshot is taken after this many legs
    sweep_interval_ns: int = 100_000_000  # how often expired holds are looked for

    def __post_init__(self) -> None:
        if self.data_dir is not None and self.database_url is not None:
            raise ValueError("give either a data directory or a database URL, not both")
        for name, least in _AT_LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.shards is not None and not 0 < self.shards <= SHARDS_MAX:
            raise ValueError(f"shards must be 1 to {SHARDS_MAX}, not {self.shards}")
        if self.turn_weight_max > TURN_WEIGHT_LIMIT:
            raise ValueError(
                f"turn_weight_max must be at most {TURN_WEIGHT_LIMIT}, not {self.turn_weight_max}"
            )

    @property
    def database(self) -> DatabaseSettings:
        """Which database that is."""
        embedded = self.database_url is None
        return DatabaseSettings(
            data_dir=str(self.data_dir or DEFAULT_DATA_DIR) if embedded else None,
            url=self.database_url,
            schema=self.database_schema,
            connect_limit_s=self.connect_limit_s,
        )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **given: Any) -> "Settings":
        """The given settings, and for the others the variables `TESSERA_<NAME>`. Raises ValueError for bad
        ones."""
        source = os.environ if environment is None else environment
        chosen = {key: value for key, value in given.items() if value is not None}
        if not chosen.keys() & {"data_dir", "database_url"}:
            from_source = {"data_dir", "database_url"}
        else:
            from_source = set()
        for field in msgspec.structs.fields(cls):
            variable = ENVIRONMENT_PREFIX + field.name.upper()
            wanted = field.name in from_source or field.name not in {"data_dir", "database_url"}
            if wanted and field.name not in chosen and variable in source:
                try:
                    chosen[field.name] = msgspec.convert(
                        source[variable], field.type, strict=False, dec_hook=_to_path
                    )
                except msgspec.ValidationError as exc:
                    raise ValueError(f"{variable}: {exc}") from exc
        return cls(**chosen)


def _to_path(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(f"a setting of type {kind}")
