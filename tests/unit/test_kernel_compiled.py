"""Compiling: everything before a shard lives, once per machine, and nowhere that others can write to."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.features import observing
from engine.kernel import audit, creation, posting, queries, replay, upkeep
from engine.kernel.compiled import first_writable, source_hash
from engine.scoring import judging
from tests.unit.kernel_scenes import block, new_ledger, v7

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = [
    value
    for module in (audit, creation, judging, observing, posting, queries, replay, upkeep)
    for name, value in vars(module).items()
    if value.__class__.__name__ == "CPUDispatcher" and value.py_func.__module__ == module.__name__
    if value.signatures and value._cache.cache_path is not None
]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.__name__)
def test_entries_are_compiled_for_one_set_of_types_and_never_again(entry: object) -> None:
    assert len(entry.signatures) == 1  # type: ignore[attr-defined]
    assert not entry._can_compile  # type: ignore[attr-defined]


def test_arguments_of_other_types_are_refused_not_compiled() -> None:
    ledger = new_ledger()
    given = block([{"id": v7(1)}])
    columns = given.columns._replace(amount=given.columns.amount.astype("f8"))
    with pytest.raises(TypeError):
        ledger.apply_legs(given._replace(columns=columns), 10**18)


def test_a_second_process_compiles_nothing() -> None:
    program = (
        "import engine.ledger\n"
        "from engine.kernel import posting, replay\n"
        "for entry in (posting.post_legs, replay.replay_legs):\n"
        "    assert sum(entry.stats.cache_hits.values()) == 1, entry.stats\n"
        "    assert not entry.stats.cache_misses, entry.stats\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_first_directory_that_can_be_written_to_is_taken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    blocked = tmp_path / "file" / "cache"
    assert first_writable([blocked]) is None
    assert first_writable([blocked, tmp_path / "a" / "b", tmp_path / "c"]) == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_any_change_of_a_source_changes_the_name_of_the_cache(tmp_path: Path) -> None:
    package = tmp_path / "kernel"
    package.mkdir()
    (tmp_path / "layout.py").write_text("a = 1\n")
    (package / "one.py").write_text("b = 1\n")
    names = {source_hash(package)}
    (package / "one.py").write_text("b = 2\n")
    names.add(source_hash(package))
    (tmp_path / "layout.py").write_text("a = 2\n")
    names.add(source_hash(package))
    (package / "two.py").write_text("")
    names.add(source_hash(package))
    assert len(names) == 4
