"""The schema and the log on older PostgreSQL: the other one in the wheel, and the system's if it has one."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.record import Record, encode
from persistence.database import Database, DatabaseSettings
from persistence.embedded import EmbeddedServer
from persistence.errors import OutcomeUnknown
from persistence.installation import wheel_installation
from persistence.log import Log
from persistence.schema import is_current, migrate


def installations() -> list[Path]:
    """Folders of PostgreSQL programs, other than the default's, of versions that Tessera works with."""
    found = [wheel_installation(Path()).with_name("pginstall")]
    system = shutil.which("postgres")
    if system is not None and Path(system).resolve().with_name("initdb").exists():
        said = subprocess.run([system, "--version"], capture_output=True, text=True, check=True).stdout
        if int(said.split()[2].partition(".")[0]) >= 15:
            found.append(Path(system).resolve().parent.parent)
    return found


@pytest.fixture(params=installations(), ids=lambda folder: folder.name)
def older_server(request: pytest.FixtureRequest) -> Iterator[EmbeddedServer]:
    folder = Path(tempfile.mkdtemp(prefix="tessera-versions-"))
    folder.chmod(0o755)
    server = EmbeddedServer(folder / "data", request.param)
    server.start()
    yield server
    server.destroy()
    shutil.rmtree(folder)


async def test_the_log_works_on_older_versions(older_server: EmbeddedServer) -> None:
    database = Database(DatabaseSettings(url=older_server.dsn))
    await migrate(database)
    assert await is_current(database)
    async with await Log.open(database, 0) as log:
        before = await log.wal_syncs()
        for lsn in range(1, 6):
            record = Record(shard=0, lsn=lsn, epoch=1, time=time.time_ns(), previous=log.head.chain)
            await log.append([(lsn, 1, encode(record))])
        assert await log.wal_syncs() - before >= 5
    async with await Log.open(database, 0) as log, await Log.open(database, 0, takeover=True) as second:
        assert second.head.lsn == 5
        with pytest.raises(OutcomeUnknown):
            await log.confirm()
