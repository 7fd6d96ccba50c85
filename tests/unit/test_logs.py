"""Log lines: one form for ours and for those of libraries, with what the context says."""

import json
import logging

import pytest
import structlog

from gateway.logs import configure_logs


def test_every_line_is_one_object_with_the_trace(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    configure_logs()
    with structlog.contextvars.bound_contextvars(trace_id="0af7"):
        structlog.get_logger("tessera").warning("ours", shard=1)
        logging.getLogger("library").warning("theirs: %s", "x")
        try:
            raise ValueError("out of luck")
        except ValueError:
            logging.getLogger("library").exception("failed")
    captured = capsys.readouterr()
    assert captured.out == ""
    ours, theirs, failed = map(json.loads, captured.err.splitlines())
    for line in (ours, theirs, failed):
        assert line["trace_id"] == "0af7"
        assert line["timestamp"].endswith("Z")
    assert (ours["event"], ours["level"], ours["shard"]) == ("ours", "warning", 1)
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("theirs: x", "warning", "library")
    assert "ValueError: out of luck" in failed["exception"]
