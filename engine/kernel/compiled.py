"""How the kernel is compiled: ahead of use, and once per machine, even from a read-only install.

Importing this module tells Numba where to keep machine code, unless NUMBA_CACHE_DIR or
`numba.config.CACHE_DIR` says so already. The directory is named after a hash of the kernel's sources, because
Numba itself notices a changed function but not a changed function below it.
"""

import atexit
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, TypeVar

import numba
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic

cgutils: Any = _cgutils  # untyped
F = TypeVar("F", bound=Callable[..., Any])

_HERE: Final = Path(__file__).resolve().parent
_FOR_WRITING: Final = 1
_KEEP_IN_ALL_CACHES: Final = 3
_DATA: Final = 1


def source_hash(directory: Path) -> str:
    """A name for the sources in `directory`, the layouts above it and what else is compiled."""
    digest = blake2b(numba.__version__.encode(), digest_size=8)
    beside = directory.parent
    for path in sorted(
        [
            *directory.glob("*.py"),
            beside / "layout.py",
            *beside.glob("features/*.py"),
            *beside.glob("scoring/*.py"),
        ]
    ):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def first_writable(candidates: Iterable[Path]) -> Path | None:
    """The first candidate that can be made, and be written to."""
    for directory in candidates:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory):
                return directory
        except OSError:
            continue
    return None


def choose_cache_directory() -> Path:
    """Beside the sources, else in the user's cache, else a private directory that ends with the process.

    A shared, predictable place is never used: whoever can write to the cache can run code in the engine.
    """
    name = f"kernel-{source_hash(_HERE)}"
    candidates = [_HERE / "__pycache__" / name]
    with suppress(RuntimeError):  # an account without a home directory
        candidates.append(Path.home() / ".cache" / "tessera" / name)
    found = first_writable(candidates)
    if found is None:
        private = tempfile.TemporaryDirectory(prefix="tessera-kernel-")
        atexit.register(private.cleanup)
        found = Path(private.name)
    return found


_config: Any = numba.config  # its settings are not in its type stubs
if not _config.CACHE_DIR:
    _config.CACHE_DIR = str(choose_cache_directory())

_njit: Any = numba.njit
_OPTIONS: Final = {"nogil": True, "_nrt": False}
"""Without reference counts, which cost half of the time: the caller keeps all arrays alive."""


def entry(*arguments: types.Type, returns: types.Type = types.void) -> Callable[[F], F]:
    """Compiles a function that Python calls, for these argument types only, at the import of its module."""
    compile_for: Callable[[F], F] = _njit(returns(*arguments), cache=True, **_OPTIONS)
    return compile_for


def part(function: F) -> F:
    """Makes a function that only the kernel's other functions call; it becomes part of its callers."""
    compiled: F = _njit(forceinline=True, **_OPTIONS)(function)
    return compiled


def seldom(function: F) -> F:
    """Like `part`, but it stays a function of its own: for what is off the hot path."""
    compiled: F = _njit(**_OPTIONS)(function)
    return compiled


def _prefetch(_context: Any, array: Any, _index: Any, _offset: Any) -> Any:
    """`prefetch(array, index, offset)` starts loading the memory `offset` bytes into an element of an array.

    Legs touch memory at random, and waiting for it is most of their cost. Never faults, whatever the index.
    """
    item = array.dtype
    size = item.size if isinstance(item, types.Record) else item.bitwidth // 8

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, int32 = ir.IntType(8), ir.IntType(32)
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        position = builder.add(builder.mul(arguments[1], ir.Constant(ir.IntType(64), size)), arguments[2])
        address = builder.gep(builder.bitcast(data, byte.as_pointer()), [position])
        signature_of_hint = ir.FunctionType(ir.VoidType(), [address.type, int32, int32, int32])
        hint = cgutils.get_or_insert_function(builder.module, signature_of_hint, "llvm.prefetch.p0")
        how = [ir.Constant(int32, value) for value in (_FOR_WRITING, _KEEP_IN_ALL_CACHES, _DATA)]
        builder.call(hint, [address, *how])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), generate


prefetch: Any = intrinsic(_prefetch)
