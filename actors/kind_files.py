"""Kinds of Moves that somebody has added: a file of TOML for each, in the folder that the settings name."""

import tomllib
from pathlib import Path

from actors.settings import Settings
from engine.kinds import KindError, MoveKind, kind_from_data
from engine.standard_kinds import STANDARD_KINDS


def kinds_of(settings: Settings) -> tuple[MoveKind, ...]:
    """The kinds that come with Tessera, and those in the folder. Raises KindError for a file that is none."""
    if settings.kinds is None:
        return STANDARD_KINDS
    if not settings.kinds.is_dir():
        raise KindError(str(settings.kinds), "folder", "there is none; TESSERA_KINDS names a folder")
    return (*STANDARD_KINDS, *map(_read, sorted(settings.kinds.glob("*.toml"))))


def _read(file: Path) -> MoveKind:
    try:
        data = tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise KindError(file.name, "file", f"not TOML: {exc}") from exc
    return kind_from_data(data)
