"""What an export consists of, and the proof of it.

    manifest.json          what there is, and the totals that it must come to
    log-0-000001.parquet   shard 0's log: position, epoch and payload of each record, to the bit
    legs, accounts, …      what the log says, for whoever reads the books with other tools

The log is the truth, and all that an import reads. Its records are chained by their hashes, so where the last
one ends (`chain`) covers all of them; `log_sha256` covers them with a hash that can't be forged. The manifest
has the SHA-256 of every file, so the SHA-256 of the manifest, the *proof*, stands for everything. Kept
elsewhere, it shows whether an export is still the one that was made.
"""

import hashlib
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Annotated, Final

import msgspec

from engine.ids import BUCKETS
from engine.placement import Placement
from persistence.errors import ExportRefused

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1
MANIFEST_BYTES_MAX: Final = 64 << 20
FILE_NAME: Final = r"^(log|legs|accounts|parties|things|moves)-\d{1,5}-\d{6}\.parquet$"

Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Chain = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
Count = Annotated[int, msgspec.Meta(ge=0)]
Run = tuple[Annotated[int, msgspec.Meta(ge=0, lt=1024)], Annotated[int, msgspec.Meta(gt=0, le=BUCKETS)]]
"""A shard, and how many buckets in a row are on it."""
Total = Annotated[str, msgspec.Meta(pattern=r"^(0|-?[1-9]\d{0,38})$")]
"""An amount in minor units, as text: a sum may need more than 64 bits."""


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file."""

    name: Annotated[str, msgspec.Meta(pattern=FILE_NAME)]
    rows: Count
    bytes: Count
    sha256: Hash


class ShardEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One shard's log: it has the records 1 to `records`, the last of them of `epoch` and at `time` (ns)."""

    shard: Annotated[int, msgspec.Meta(ge=0, lt=1 << 15)]
    records: Annotated[int, msgspec.Meta(gt=0)]
    epoch: Annotated[int, msgspec.Meta(gt=0)]
    time: Count
    chain: Chain  # the hash of the last record
    log_sha256: Hash  # over all payloads, each with its length before it
    books_sha256: Hash  # over all accounts with their balances


class AssetTotals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all accounts in one asset come to; roll-ups, which show what is there already, are left out."""

    asset: Annotated[int, msgspec.Meta(gt=0)]
    accounts: Count
    debits_posted: Total
    credits_posted: Total
    debits_pending: Total
    credits_pending: Total


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole export."""

    format: int
    tessera: str  # the version that made it
    created: str  # RFC 3339
    tenants: list[str]
    placement: list[Run]  # of all buckets, in order
    shards: Annotated[list[ShardEntry], msgspec.Meta(min_length=1)]
    legs: Count
    totals: list[AssetTotals]
    files: list[FileEntry]

    def named(self, table: str, shard: int) -> list[FileEntry]:
        """The files of one table of a shard, in order."""
        prefix = f"{table}-{shard}-"
        return sorted(
            (file for file in self.files if file.name.startswith(prefix)), key=lambda file: file.name
        )


def runs_of(placement: Placement) -> list[Run]:
    """Where buckets are, as a manifest says it."""
    return [(shard, len(list(run))) for shard, run in groupby(placement.shard_of_bucket.tolist())]


def placement_of(manifest: Manifest, folder: Path) -> Placement:
    """Where buckets are. Raises ExportRefused."""
    path = str(folder / MANIFEST)
    buckets = [shard for shard, count in manifest.placement for _ in range(count)]
    try:
        placement = Placement(buckets)
    except ValueError as error:
        raise ExportRefused(f"{path} says of a placement what can't be: {error}", path) from error
    if not {entry.shard for entry in manifest.shards} <= set(range(placement.shards)):
        raise ExportRefused(f"{path} has a shard that its placement has not", path)
    return placement


_decoder = msgspec.json.Decoder(Manifest)


def encode_manifest(manifest: Manifest) -> bytes:
    """As it stands in the file."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def proof_of(content: bytes) -> str:
    """What stands for the whole export: the SHA-256 of its manifest."""
    return hashlib.sha256(content).hexdigest()


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """The manifest of an export, and its proof. Raises ExportRefused."""
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            content = file.read(MANIFEST_BYTES_MAX + 1)
    except OSError as error:
        raise ExportRefused(f"there is no export in {folder}: {error.strerror}: {path}", str(path)) from error
    if len(content) > MANIFEST_BYTES_MAX:
        raise ExportRefused(f"{path} is no manifest: it has more than 64 MiB", str(path))
    try:
        manifest = _decoder.decode(content)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ExportRefused(f"{path} is no manifest of an export: {error}", str(path)) from error
    if manifest.format != FORMAT:
        raise ExportRefused(
            f"{path} is of format {manifest.format}; this release reads format {FORMAT}", str(path)
        )
    names = [file.name for file in manifest.files]
    if len(set(names)) != len(names) or len({entry.shard for entry in manifest.shards}) != len(
        manifest.shards
    ):
        raise ExportRefused(f"{path} names a file or a shard twice", str(path))
    return manifest, proof_of(content)


def check_files(folder: Path, manifest: Manifest, progress: Callable[[int, int], None]) -> None:
    """Compares every file with the manifest. `progress` is told the bytes done, and of how many.

    Raises ExportRefused for the first that is missing or different.
    """
    total, done = sum(file.bytes for file in manifest.files), 0
    for file in manifest.files:
        path = folder / file.name
        try:
            with path.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
                size = content.tell()
        except OSError as error:
            raise ExportRefused(f"{path} can't be read: {error.strerror}", str(path)) from error
        if size != file.bytes or digest != file.sha256:
            raise ExportRefused(
                f"{path} is not the file that was exported: it has {size} bytes and the SHA-256 {digest}, "
                f"where the manifest says {file.bytes} and {file.sha256}",
                str(path),
            )
        done += size
        progress(done, total)
