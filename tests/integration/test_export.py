"""Books as files: exported, refused when they were touched, and imported into an empty engine."""

import hashlib
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.runtime import Engine
from actors.shard import empty_state
from engine.placement import Placement
from engine.shard_state import ShardState
from gateway.options import ExitCode
from persistence import schema
from persistence.database import Database
from persistence.errors import ExportRefused
from persistence.exports.manifest import MANIFEST, Manifest, encode_manifest, read_manifest
from persistence.exports.reading import check_export, import_log
from persistence.exports.tables import TableFiles
from persistence.exports.totals import books_sha256
from persistence.exports.writing import export
from tests.engine_life import BOUNDS, Life, living
from tests.engine_life import empty_state as life_state
from tests.fixtures_engine import Clock, Shop, settings_of, shard_of
from tests.integration.test_security_commands import Commands, logs

__all__ = ["logs"]

TURNS: Final = 12
SEED: Final = 20261120
ENVIRONMENT: Final = {f"TESSERA_{name.upper()}": str(value) for name, value in BOUNDS.items()}
LOG: Final = "log-0-000001.parquet"


def quiet(*_: object) -> None:
    """Progress that nobody looks at."""


async def lived(database: Database) -> tuple[str, Any]:
    """Let an engine have a life; the hash of its books, and its state."""
    clock = Clock(stopped=True)
    async with Engine.running(living(database), clock) as engine:
        life = await Life.begun(engine, clock, SEED)
        await life.go_on(TURNS)
        await life.end_holds()
        _, state = await engine.capture()
        return books_sha256(shard_of(engine).state.ledger.accounts), state


def fresh(_where: Placement, _shard: int) -> ShardState:
    """The empty state of a database with one shard."""
    return life_state()


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return [path.name for path in folder.iterdir()]


def wal(database: Database) -> list[tuple[Any, ...]]:
    """The log, to the bit."""
    with psycopg.connect(database.dsn, autocommit=True) as session:
        return session.execute("select shard, lsn, epoch, payload from tessera.wal order by 1, 2").fetchall()


def rewritten(folder: Path, change: Callable[[Manifest], Manifest]) -> None:
    """Give an export another manifest, and its files the hashes that they have."""
    manifest = change(read_manifest(folder)[0])
    files = []
    for file in manifest.files:
        content = (folder / file.name).read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        files.append(msgspec.structs.replace(file, bytes=len(content), sha256=sha256))
    manifest = msgspec.structs.replace(manifest, files=files)
    (folder / MANIFEST).write_bytes(encode_manifest(manifest))


async def test_what_was_exported_is_imported_to_the_bit(
    database: Database, empty_database: Database, tmp_path: Path
) -> None:
    books, state = await lived(database)
    folder = tmp_path / "books"
    manifest, proof = await export(database, folder, fresh, tenant="default", progress=quiet)
    assert [entry.books_sha256 for entry in manifest.shards] == [books]
    assert manifest.tenants == ["default"]
    assert all(total.debits_posted == total.credits_posted for total in manifest.totals)

    assert await check_export(folder, fresh, proof=proof, progress=quiet) == (manifest, proof)
    await schema.migrate(empty_database)
    await import_log(empty_database, folder, manifest, progress=quiet)
    assert wal(empty_database) == wal(database)
    again, _ = await export(empty_database, tmp_path / "again", fresh, progress=quiet)
    for name in ("shards", "totals", "legs", "tenants"):
        assert getattr(again, name) == getattr(manifest, name), name

    async with Engine.running(living(empty_database)) as engine:
        await engine.wait_projected()
        assert books_sha256(shard_of(engine).state.ledger.accounts) == books
        assert (await engine.verify()).problems == []
        assert engine.recovery.records == manifest.shards[0].records
    with pytest.raises(ExportRefused, match="has a log already"):
        await import_log(empty_database, folder, manifest, progress=quiet)
    assert state["position"]["lsn"] <= manifest.shards[0].records


async def test_tables_say_what_the_log_says(database: Database, tmp_path: Path) -> None:
    await lived(database)
    folder = tmp_path / "books"
    manifest, _ = await export(database, folder, fresh, progress=quiet)

    def asked(question: str) -> Any:
        return duckdb.execute(question.replace("BOOKS", str(folder))).fetchall()

    def in_sql(question: str) -> Any:
        with psycopg.connect(database.dsn, autocommit=True) as session:
            session.execute("set search_path to tessera")
            return session.execute(question).fetchall()

    assert asked("select count(*), sum(amount) from 'BOOKS/legs-*.parquet'") == in_sql(
        "select count(*), sum(amount) from leg"
    )
    assert asked("select count(*) from 'BOOKS/legs-*.parquet'") == [(manifest.legs,)]
    rows = "id, key, asset, debits_posted, credits_posted, debits_pending, credits_pending, floor, party"
    assert asked(f"select {rows} from 'BOOKS/accounts-*.parquet' order by ordinal") == in_sql(
        f"select {rows} from account_balance order by ordinal"
    )
    moves = "id, seq, kind, state, payer, payee, amount, reference, request"
    assert asked(f"select {moves} from 'BOOKS/moves-*.parquet' order by id, seq") == in_sql(
        f"select {moves} from move order by id, seq"
    )
    assert asked("select code, exponent, asset from 'BOOKS/things-*.parquet' order by asset") == in_sql(
        "select code, exponent, asset from thing order by asset"
    )
    parties = "select id, max(version) from {} group by id order by id"
    assert asked(parties.format("'BOOKS/parties-*.parquet'")) == in_sql(parties.format("party"))
    move_of_leg = "select count(*) from {} where {}"
    assert asked(move_of_leg.format("'BOOKS/legs-*.parquet'", "move is not null")) == in_sql(
        move_of_leg.format("leg", "flags & 32768 <> 0")
    )


def _flip(folder: Path) -> None:
    content = bytearray((folder / LOG).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / LOG).write_bytes(content)


def _cut(folder: Path) -> None:
    content = (folder / LOG).read_bytes()
    (folder / LOG).write_bytes(content[: len(content) // 2])
    rewritten(folder, lambda manifest: manifest)


def _without_last(folder: Path) -> None:
    table = pq.read_table(folder / LOG)
    pq.write_table(table.slice(0, len(table) - 1), folder / LOG, store_schema=False)
    rewritten(folder, lambda manifest: manifest)


def _without_one(folder: Path) -> None:
    table = pq.read_table(folder / LOG)
    pq.write_table(pa.concat_tables([table.slice(0, 3), table.slice(4)]), folder / LOG, store_schema=False)
    rewritten(folder, lambda manifest: manifest)


def _other_payload(folder: Path) -> None:
    table = pq.read_table(folder / LOG)
    payloads = table["payload"].to_pylist()
    payloads[5] = payloads[5][:-20] + bytes([payloads[5][-20] ^ 1]) + payloads[5][-19:]
    changed = table.set_column(2, "payload", pa.array(payloads, pa.binary()))
    pq.write_table(changed, folder / LOG, store_schema=False)
    rewritten(folder, lambda manifest: manifest)


def _other_columns(folder: Path) -> None:
    pq.write_table(pa.table({"lsn": [1]}), folder / LOG)
    rewritten(folder, lambda manifest: manifest)


def _nulls(folder: Path) -> None:
    table = pq.read_table(folder / LOG)
    payloads = [*table["payload"].to_pylist()[:-1], None]
    changed = table.set_column(2, "payload", pa.array(payloads, pa.binary()))
    pq.write_table(changed, folder / LOG, store_schema=False)
    rewritten(folder, lambda manifest: manifest)


def _missing(folder: Path) -> None:
    (folder / LOG).unlink()


def _no_log(folder: Path) -> None:
    rewritten(
        folder,
        lambda manifest: msgspec.structs.replace(
            manifest, files=[file for file in manifest.files if not file.name.startswith("log")]
        ),
    )


def _more_money(folder: Path) -> None:
    def change(manifest: Manifest) -> Manifest:
        first, *others = manifest.totals
        first = msgspec.structs.replace(first, credits_posted="1" + first.credits_posted)
        return msgspec.structs.replace(manifest, totals=[first, *others])

    rewritten(folder, change)


def _other_books(folder: Path) -> None:
    def change(manifest: Manifest) -> Manifest:
        [shard] = manifest.shards
        return msgspec.structs.replace(
            manifest, shards=[msgspec.structs.replace(shard, books_sha256="0" * 64)]
        )

    rewritten(folder, change)


def _other_placement(folder: Path) -> None:
    rewritten(folder, lambda manifest: msgspec.structs.replace(manifest, placement=[(0, 17)]))


def _newer(folder: Path) -> None:
    rewritten(folder, lambda manifest: msgspec.structs.replace(manifest, format=2))


def _path_outside(folder: Path) -> None:
    content = (folder / MANIFEST).read_text().replace(LOG, "../../etc/passwd")
    (folder / MANIFEST).write_text(content)


def _no_json(folder: Path) -> None:
    (folder / MANIFEST).write_text("[" * 100_000)


def _no_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


TAMPERED: Final = [
    (_flip, "is not the file that was exported"),
    (_cut, "can't be read"),
    (_without_last, "records of shard 0 is"),
    (_without_one, "record 4 is missing"),
    (_other_payload, "record 6 is damaged"),
    (_other_columns, "other columns"),
    (_nulls, "nulls"),
    (_missing, "No such file"),
    (_no_log, "no log of shard 0"),
    (_more_money, "does not come to the totals"),
    (_other_books, "books_sha256"),
    (_newer, "reads format 1"),
    (_path_outside, "is no manifest"),
    (_no_json, "is no manifest"),
    (_no_manifest, "there is no export"),
    (_other_placement, "what can't be"),
]


async def test_files_that_were_touched_are_refused(database: Database, tmp_path: Path) -> None:
    await lived(database)
    folder = tmp_path / "books"
    await export(database, folder, fresh, tables=False, progress=quiet)
    for tamper, words in TAMPERED:
        touched = tmp_path / tamper.__name__
        shutil.copytree(folder, touched)
        tamper(touched)
        with pytest.raises(ExportRefused, match=words):
            await check_export(touched, fresh, progress=quiet)
    with pytest.raises(ExportRefused, match="with the proof"):
        await check_export(folder, fresh, proof="0" * 64, progress=quiet)


async def test_files_that_change_after_the_check_change_nothing(
    database: Database, empty_database: Database, tmp_path: Path
) -> None:
    await lived(database)
    folder = tmp_path / "books"
    manifest, _ = await export(database, folder, fresh, tables=False, progress=quiet)
    await schema.migrate(empty_database)
    for tamper, words in ((_without_one, "is missing"), (_without_last, "has changed")):
        touched = tmp_path / tamper.__name__
        shutil.copytree(folder, touched)
        tamper(touched)
        with pytest.raises(ExportRefused, match=words):
            await import_log(empty_database, touched, manifest, progress=quiet)
        assert wal(empty_database) == []
    await import_log(empty_database, folder, manifest, progress=quiet)


async def test_an_export_of_another_tenant_or_of_nothing_is_refused(
    database: Database, tmp_path: Path
) -> None:
    with pytest.raises(ExportRefused, match="the log is empty"):
        await export(database, tmp_path / "none", fresh, progress=quiet)
    await lived(database)
    with pytest.raises(ExportRefused, match="records of 'default'"):
        await export(database, tmp_path / "other", fresh, tenant="other", progress=quiet)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(ExportRefused, match="not empty"):
        await export(database, tmp_path / "full", fresh, progress=quiet)
    assert names(tmp_path) == ["full"]


def test_files_and_row_groups_are_bounded(tmp_path: Path) -> None:
    files = TableFiles(tmp_path, "log", 0, pa.schema([("n", pa.int64())]), file_size=5)
    for start in range(0, 12, 2):
        files.write([pa.array([start, start + 1])])
    files.finish()
    assert [(file.name, file.rows) for file in files.finished] == [
        ("log-0-000001.parquet", 6),
        ("log-0-000002.parquet", 6),
    ]
    assert pq.ParquetFile(tmp_path / "log-0-000002.parquet").num_row_groups == 3


async def test_the_commands(
    database: Database, empty_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    await lived(database)
    folder = str(tmp_path / "books")
    source, target = Commands(database), Commands(empty_database)
    made = await source.in_thread("export", folder)
    assert await source.in_thread("import", folder, "--check", "--proof", made["proof"]) == made
    wrong = await target.in_thread("import", folder, "--proof", "0" * 64, code=ExitCode.BAD_INPUT)
    assert "proof" in wrong["error"]
    done = await target.in_thread("import", folder, "--proof", made["proof"])
    assert done == made | {"verified": True}
    twice = await target.in_thread("import", folder, code=ExitCode.BAD_INPUT)
    assert "has a log already" in twice["error"]
    again = await target.in_thread("export", str(tmp_path / "again"), "--log-only", "--tenant", "default")
    assert again["shards"][0]["books_sha256"] == made["shards"][0]["books_sha256"]
    assert again["totals"] == made["totals"]


async def test_several_shards(database: Database, empty_database: Database, tmp_path: Path) -> None:
    settings = settings_of(database, shards=3)
    async with Engine.running(settings) as engine:
        shop = await Shop.opened(engine)
        for _ in range(3):
            await shop.do(shop.transfer())
        await engine.wait_projected()
    states = partial(empty_state, settings)
    folder = tmp_path / "books"
    manifest, proof = await export(database, folder, states, progress=quiet)
    assert [entry.shard for entry in manifest.shards] == [0, 1, 2]
    assert await check_export(folder, states, proof=proof, progress=quiet) == (manifest, proof)
    await schema.migrate(empty_database)
    await import_log(empty_database, folder, manifest, progress=quiet)
    assert wal(empty_database) == wal(database)
    async with Engine.running(settings_of(empty_database)) as engine:
        await engine.wait_projected()
        assert (await engine.verify()).problems == []
