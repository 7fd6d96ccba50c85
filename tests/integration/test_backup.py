"""Backups of an embedded server: what comes back, with the log that was kept and without it, and what is
refused."""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from actors.runtime import Engine
from actors.settings import Settings
from engine.commands import CreateParty
from gateway.cli import app
from gateway.options import ExitCode
from persistence import schema
from persistence.backup import BACKUP, BASE, WAL, following, take
from persistence.database import Database, DatabaseSettings
from persistence.embedded import EmbeddedServer
from persistence.errors import BackupRefused, EmbeddedServerFailed
from persistence.restoring import Restored, restore
from tests.fixtures_engine import Ids
from tests.integration.test_security_commands import logs

__all__ = ["logs"]

PARTIES: Final = 50


def quiet(*_: object) -> None:
    """Progress that nobody looks at."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user can enter, for clusters and their backups."""
    made = Path(tempfile.mkdtemp(prefix="tessera-backup-"))
    made.chmod(0o755)
    yield made
    for data in made.iterdir():
        if any(data.glob("postgres*")):
            server = EmbeddedServer(data)
            server.start()
            server.destroy()
    shutil.rmtree(made)


def in_folder(folder: Path) -> Database:
    return Database(DatabaseSettings(data_dir=str(folder)))


async def add_parties(engine: Engine, seed: int) -> list[int]:
    """Parties that were acknowledged."""
    ids = Ids(seed)
    commands = [CreateParty(id=ids(), kind="person") for _ in range(PARTIES)]
    answers = await engine.create_parties(commands)
    assert all(answer.accepted for answer in answers)
    return [command.id for command in commands]


async def parties_in(data: Path) -> set[int]:
    """Those that an engine on a restored database shows, whose books are in order."""
    async with Engine.running(Settings(data_dir=data)) as engine:
        await engine.wait_projected()
        assert (await engine.verify()).problems == []
        with engine.database.session_sync("test") as session:
            return {row[0].int for row in session.execute("select id from party").fetchall()}


async def restored(folder: Path, data: Path, kept: Path | None = None) -> Restored:
    """Bring a backup back, and leave it stopped."""
    database = in_folder(data)
    try:
        return await restore(database, folder, kept, quiet)
    finally:
        await asyncio.to_thread(database.stop)


def cluster_of(data: Path) -> Path:
    """Where the cluster of a data directory is."""
    pointer = data / "postgres.location"
    return Path(pointer.read_text().strip()) if pointer.exists() else data / "postgres"


async def test_a_backup_alone_and_with_the_log_that_was_kept(folder: Path) -> None:
    async with Engine.running(Settings(data_dir=folder / "data")) as engine:
        before = await add_parties(engine, 1)
        backup = await take(engine.database, folder / "alone")
        [end] = backup.ends
        assert end.lsn == engine.health().lsn
        async with following(engine.database, folder / "followed", synchronous=True) as (_, follower):
            assert follower.synchronous
            after = await add_parties(engine, 2)
        last = engine.health().lsn
        later = await add_parties(engine, 3)  # commits wait for nobody any more
        with engine.database.session_sync("test") as session:
            assert session.execute("select count(*) from pg_replication_slots").fetchone() == (0,)
            waited_for = session.execute("select current_setting('synchronous_standby_names')").fetchone()
            assert waited_for == ("",)
    wal = folder / "kept"
    shutil.copytree(cluster_of(folder / "data") / "pg_wal", wal, ignore=shutil.ignore_patterns("*status"))

    for name, kept, there in (
        ("alone", None, {*before}),
        ("followed", None, {*before, *after}),
        ("followed", wal, {*before, *after, *later}),
    ):
        data = folder / f"restored-{name}-{kept is not None}"
        done = await restored(folder / name, data, kept)
        assert done.backed_up[0].lsn <= done.restored[0].lsn
        assert name != "followed" or done.restored[0].lsn >= last
        assert await parties_in(data) == there
    with pytest.raises(BackupRefused, match="is missing"):  # the later backup let PostgreSQL forget it
        await restored(folder / "alone", folder / "refused", wal)


def _flip(name: str) -> Callable[[Path], None]:
    def flip(copy: Path) -> None:
        path = next(copy.glob(name))
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.unlink()
        path.write_bytes(content)

    return flip


def _remove(name: str) -> Callable[[Path], None]:
    return lambda copy: next(copy.glob(name)).unlink()


def _add(copy: Path) -> None:
    (copy / BASE / "postgresql.auto.conf.d").write_text("archive_command = 'true'")


def _link(copy: Path) -> None:
    (copy / BASE / "PG_VERSION").unlink()
    (copy / BASE / "PG_VERSION").symlink_to("/etc/hostname")


def _gap(copy: Path) -> None:
    segment = next((copy / BASE / "pg_wal").glob("0*"))
    number = int(segment.name[16:], 16) + 2
    (copy / WAL).mkdir()
    shutil.copy(segment, copy / WAL / f"{segment.name[:16]}{number:08X}")


def _other_timeline(copy: Path) -> None:
    segment = next((copy / BASE / "pg_wal").glob("0*"))
    (copy / WAL).mkdir()
    shutil.copy(segment, copy / WAL / f"00000002{segment.name[8:]}")


def _short_segment(copy: Path) -> None:
    segment = next((copy / BASE / "pg_wal").glob("0*"))
    (copy / WAL).mkdir()
    (copy / WAL / segment.name).write_bytes(segment.read_bytes()[:-1])


def _other_end(copy: Path) -> None:
    said = json.loads((copy / BACKUP).read_text())
    said["ends"] = [{"shard": 0, "lsn": said["ends"][0]["lsn"] + 1, "chain": "00" * 16}]
    (copy / BACKUP).unlink()
    (copy / BACKUP).write_text(json.dumps(said))


TOUCHED: Final[dict[str, tuple[Callable[[Path], None], str]]] = {
    "a table": (_flip("base/base/*/1259"), "is not the file that was backed up"),
    "a table that is gone": (_remove("base/base/*/1259"), "can't be read"),
    "the log": (_flip("base/pg_wal/0*"), "is not the file that was backed up"),
    "PostgreSQL's manifest": (_flip("base/backup_manifest"), "is not the file that was written"),
    "the description": (_flip(BACKUP), BACKUP),
    "no description": (_remove(BACKUP), "there is no backup"),
    "one more file": (_add, "is not part of the backup"),
    "a link": (_link, "is not the file|is not part"),
    "a gap in the log": (_gap, "is missing"),
    "another timeline": (_other_timeline, "timeline 2"),
    "half a segment": (_short_segment, "has not 16777216 bytes"),
    "a log that ends too early": (_other_end, "does not have record"),
}


async def test_what_is_not_what_was_backed_up_is_refused_and_leaves_nothing(folder: Path) -> None:
    database = in_folder(folder / "data")
    await asyncio.to_thread(database.start)
    try:
        await schema.migrate(database)
        async with Engine.running(Settings(data_dir=folder / "data")) as engine:
            await add_parties(engine, 1)
        await take(database, folder / "backup")
        with pytest.raises(BackupRefused, match="not empty"):
            await take(database, folder / "backup")
        with pytest.raises(EmbeddedServerFailed, match="already"):
            await restored(folder / "backup", folder / "data")
    finally:
        await asyncio.to_thread(database.stop)
    for number, (name, (touch, words)) in enumerate(TOUCHED.items()):
        copy, data = folder / f"touched-{number}", folder / f"refused-{number}"
        shutil.copytree(folder / "backup", copy, copy_function=os.link)  # what is touched is written anew
        touch(copy)
        with pytest.raises(BackupRefused, match=words):
            await restored(copy, data)
        assert not any(data.glob("postgres*")), name
        shutil.rmtree(copy)


def test_the_commands(folder: Path) -> None:
    def said(*arguments: str, code: ExitCode = ExitCode.OK) -> Any:
        done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    async def live() -> None:
        async with Engine.running(Settings(data_dir=folder / "data")) as engine:
            await add_parties(engine, 1)

    asyncio.run(live())
    data, other, copy = str(folder / "data"), str(folder / "restored"), str(folder / "backup")
    taken = said("backup", copy, "--data-dir", data)
    assert (taken["following"], taken["synchronous"]) == (False, False)
    done = said("restore", copy, "--data-dir", other)
    assert (done["ok"], done["problems"], done["backed_up"]) == (True, [], taken["ends"])
    assert done["restored"] == taken["ends"]
    assert "already" in said("restore", copy, "--data-dir", other, code=ExitCode.DATA_DIR)["error"]
    assert "not empty" in said("backup", copy, "--data-dir", data, code=ExitCode.BAD_INPUT)["error"]
    url = ("--database-url", "postgresql://127.0.0.1:1/none")
    assert "pg_basebackup" in said("backup", copy, *url, code=ExitCode.BAD_INPUT)["error"]
