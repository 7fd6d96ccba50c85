"""TigerBeetle from its binary: its own benchmark, and its client for Python.

Its benchmark is written in its own language and runs beside the server, as it comes: one client, batches of
8,189, ten thousand accounts. The client for Python runs in an interpreter that has it, which need not be
ours: `--tigerbeetle-python`. It must be of a release that the binary takes.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from gateway.options import CommandFailed, ExitCode
from simulations.benchmarks.measurement import Options, PeerFigure, short
from simulations.benchmarks.mixes import BATCH_LEGS

NAME: Final = "TigerBeetle's benchmark"
CLIENT_NAME: Final = "TigerBeetle's Python client"
CLIENT: Final = Path(__file__).with_name("tigerbeetle_client.py")
CLIENT_LEGS_MAX: Final = 400_000
"""More would only take longer."""
LIMIT_S: Final = 1_800
ANSWER_S: Final = 60
_VERSION: Final = re.compile(r"TigerBeetle version (\S+)")
_BATCH: Final = re.compile(r"^transfer batch size = (\d+) txs$", re.MULTILINE)
_RATE: Final = re.compile(r"^load accepted = (\d+) tx/s$", re.MULTILINE)
_LATENCY: Final = re.compile(r"^batch latency p(\d+) *= (\d+) ms", re.MULTILINE)


class Load(NamedTuple):
    """What its benchmark says of a load: transfers a second, and latencies of a batch."""

    rate: float
    p50_ms: float
    p99_ms: float


def parsed(output: str) -> Load:
    """The figures in what the benchmark prints. Raises CommandFailed if they are not there, or are of other
    batches."""
    batch, rate = _BATCH.search(output), _RATE.search(output)
    latencies = {int(percent): float(ms) for percent, ms in _LATENCY.findall(output)}
    if batch is None or rate is None or not latencies.keys() >= {50, 99}:
        raise CommandFailed(
            ExitCode.FAILED,
            f"TigerBeetle's benchmark says nothing of its load: {_end(output)}",
        )
    if int(batch[1]) != BATCH_LEGS:
        raise CommandFailed(
            ExitCode.FAILED, f"TigerBeetle's benchmark sends batches of {batch[1]}, not of {BATCH_LEGS}."
        )
    return Load(float(rate[1]), latencies[50], latencies[99])


def version(binary: Path) -> str:
    """The binary's version. Raises CommandFailed if it can't be run, or is not TigerBeetle."""
    try:
        done = subprocess.run(  # noqa: S603  # named by whoever runs the benchmark
            [binary.absolute(), "version"], capture_output=True, text=True, timeout=ANSWER_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise CommandFailed(ExitCode.BAD_INPUT, f"{binary} can't be run: {exc}.") from exc
    found = _VERSION.search(done.stdout + done.stderr)
    if found is None:
        raise CommandFailed(
            ExitCode.BAD_INPUT, f"{binary} does not say that it is TigerBeetle.", "Give its binary."
        )
    return found[1]


def check(options: Options) -> None:
    """Raises CommandFailed if what is given can't be run together."""
    if options.tigerbeetle is None:
        if options.tigerbeetle_python is not None:
            raise CommandFailed(
                ExitCode.USAGE,
                "--tigerbeetle-python needs a server: give TigerBeetle's binary with --tigerbeetle too.",
            )
        return
    version(options.tigerbeetle)
    if options.tigerbeetle_python is not None:
        _client(options.tigerbeetle, options.tigerbeetle_python, accounts=2, transfers=1)


def versions(options: Options) -> dict[str, str]:
    """Its version, if it takes part."""
    return {} if options.tigerbeetle is None else {"TigerBeetle": version(options.tigerbeetle)}


def benchmark(options: Options) -> Iterator[PeerFigure]:
    """Its own benchmark, at each size of ours."""
    if options.tigerbeetle is None:
        return
    for legs in options.scale.bulk_legs:
        name = f"bulk/uniform {short(legs)}"
        if not options.wants(name):
            continue
        loads = []
        for run in range(options.scale.runs):
            loads.append(_benchmark(options.tigerbeetle, options.scale.accounts, legs))
            options.tell(f"{name}, {NAME}, run {run + 1}: {loads[-1].rate:,.0f} transfers/s")
        rates = [load.rate for load in loads]
        yield PeerFigure(peer=NAME, name=name, metrics=("acknowledged", "drained"), runs=rates)
        yield PeerFigure(peer=NAME, name=name, metrics=("batch p50",), runs=[load.p50_ms for load in loads])
        yield PeerFigure(peer=NAME, name=name, metrics=("batch p99",), runs=[load.p99_ms for load in loads])


def client(options: Options) -> Iterator[PeerFigure]:
    """Its client for Python, two batches on their way at a time as with ours."""
    names = [f"bulk/uniform {short(legs)}" for legs in options.scale.bulk_legs]
    names = [name for name in names if options.wants(name)]
    if options.tigerbeetle is None or not names:
        return
    if options.tigerbeetle_python is None:
        options.tell(f"without {CLIENT_NAME}: give an interpreter that has it with --tigerbeetle-python")
        return
    legs = min(options.scale.bulk_legs[0], CLIENT_LEGS_MAX)
    rates = []
    for run in range(options.scale.runs):
        rates.append(_client(options.tigerbeetle, options.tigerbeetle_python, options.scale.accounts, legs))
        options.tell(f"bulk, {CLIENT_NAME}, run {run + 1}: {rates[-1]:,.0f} transfers/s")
    for name in names:
        yield PeerFigure(peer=CLIENT_NAME, name=name, metrics=("acknowledged", "drained"), runs=rates)


def _benchmark(binary: Path, accounts: int, transfers: int) -> Load:
    arguments = (f"--account-count={accounts}", f"--transfer-count={transfers}")
    with tempfile.TemporaryDirectory(prefix="tessera-peer-") as folder:
        done = subprocess.run(  # noqa: S603  # named by whoever runs the benchmark
            [binary.absolute(), "benchmark", *arguments],
            cwd=folder,  # it leaves its data file here while it runs
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    if done.returncode:
        raise CommandFailed(ExitCode.FAILED, f"TigerBeetle's benchmark failed: {_end(done.stderr)}")
    return parsed(done.stdout)


def _client(binary: Path, interpreter: Path, accounts: int, transfers: int) -> float:
    """Transfers a second through the client. Raises CommandFailed."""
    with _served(binary) as address:
        try:
            done = subprocess.run(  # noqa: S603  # named by whoever runs the benchmark
                [interpreter, "-", address, str(accounts), str(transfers), str(BATCH_LEGS)],
                input=CLIENT.read_text("utf-8"),  # as a file it would find this module and not the client
                capture_output=True,
                text=True,
                timeout=LIMIT_S if transfers > 1 else ANSWER_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise CommandFailed(ExitCode.BAD_INPUT, f"{interpreter} can't be run: {exc}.") from exc
    if done.returncode:
        raise CommandFailed(
            ExitCode.BAD_INPUT,
            f"{interpreter} can't use TigerBeetle's client with {binary}: {_end(done.stderr)}",
            "The client must be installed there, and no newer than the binary.",
        )
    return float(msgspec.json.decode(done.stdout, type=dict[str, float])["rate"])


@contextmanager
def _served(binary: Path) -> Iterator[str]:
    """A server on a fresh data file; its address. It ends when its stdin does."""
    with tempfile.TemporaryDirectory(prefix="tessera-peer-") as folder:
        data = Path(folder) / "0_0.tigerbeetle"
        made = subprocess.run(  # noqa: S603  # named by whoever runs the benchmark
            [binary.absolute(), "format", "--cluster=0", "--replica=0", "--replica-count=1", data],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        if made.returncode:
            raise CommandFailed(ExitCode.FAILED, f"TigerBeetle made no data file: {_end(made.stderr)}")
        with (Path(folder) / "log").open("w") as log:
            process = subprocess.Popen(  # noqa: S603  # named by whoever runs the benchmark
                [binary.absolute(), "start", "--addresses=0", data],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            if not port:
                said = (Path(folder) / "log").read_text()
                raise CommandFailed(ExitCode.FAILED, f"TigerBeetle did not start: {_end(said)}")
            yield port
        finally:
            process.communicate(timeout=ANSWER_S)


def _end(text: str) -> str:
    """The last line that a program said, as the end of a sentence."""
    return f"{text.strip().rpartition(chr(10))[2].rstrip('.') or 'it said nothing'}."
