"""Logs: addresses scrubbed, JSON and console, cheap when filtered, deaf to a full disk."""

from __future__ import annotations

import io
import json
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from ptproxy import log
from ptproxy.config.model import LogConfig
from ptproxy.errors import StartError


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    before = structlog.get_config()
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.configure(**before)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def lines(**settings: Any) -> tuple[io.StringIO, Any]:
    out = io.StringIO()
    log.set_up(LogConfig.model_validate({"level": "debug", "format": "json", **settings}), out)
    return out, log.get_logger("ptproxy.tunnel.client")


def test_json_lines() -> None:
    out, logger = lines()
    logger.info("carrier open", codec="http", rtt=0.04, path=Path("/x"))
    line = json.loads(out.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "carrier open", "codec": "http", "rtt": 0.04, "path": "/x", "level": "info",
        "where": "tunnel.client",
    }  # fmt: skip


def test_console_lines() -> None:
    out, logger = lines(format="console")
    logger.warning("carrier lost", codec="http", target="example.org:80")
    text = out.getvalue()
    assert text.count("\n") == 1
    assert "carrier lost" in text
    assert "codec=http" in text
    assert "example.org" not in text
    assert "\x1b" not in text


def test_colour_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name, value, coloured in (("TERM", "xterm", True), ("TERM", "dumb", False), ("NO_COLOR", "1", False)):
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv(name, value)
        out = Terminal()
        log.set_up(LogConfig(), out)
        log.get_logger("x").info("hello")
        assert ("\x1b[" in out.getvalue()) is coloured


ADDRESSES = ["192.0.2.77", "2001:db8::7:1", "::ffff:192.0.2.77", "fe80::1%eth0", "::1", "127.0.0.1"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_are_scrubbed_wherever_they_stand(address: str) -> None:
    out, logger = lines()
    bare = address.partition("%")[0]
    logger.info(
        f"from {address}.",
        peer="secret.example:443",
        text=f"[{address}]:443 and {address}:80, ({address})",
        nested={"a": [f"x {address}"], "target": "secret.example"},
        pair=(address, 80),
        error=OSError(f"connect to ('{address}', 443)"),
        host="secret.example",
    )
    try:
        raise ConnectionRefusedError(f"Connect call failed ('{address}', 80)")
    except ConnectionRefusedError:
        logger.exception("failed")
    text = out.getvalue()
    assert bare not in text
    assert "secret.example" not in text
    assert log.SCRUBBED in text
    assert "Traceback" in text


def test_addresses_are_shown_when_asked_for() -> None:
    out, logger = lines(addresses="shown")
    logger.info("from 192.0.2.77", target="secret.example")
    assert "192.0.2.77" in out.getvalue()
    assert "secret.example" in out.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "12:30:45", "2026-11-22T21:09:41.487877Z", "version 1.2.3", "std::vector", "ratio 16:9", "::",
        "sha256:abcdef0123", "1.2.3.4.5", "file.py:12: error", "dead:beef", "cafe:", ":", "",
    ],
)  # fmt: skip
def test_what_is_no_address_stays(text: str) -> None:
    assert log.scrub_text(text) == text


def test_our_own_listening_address_stays() -> None:
    out, logger = lines()
    logger.info("listening", listen="127.0.0.1:1080")
    assert "127.0.0.1:1080" in out.getvalue()


@given(
    st.ip_addresses(), st.sampled_from(["{}", "[{}]:443", "x {}, y", "('{}', 80)", "{}:80", "<{}>", "a={}"])
)
def test_every_address_is_found(address: Any, form: str) -> None:
    text = str(address)
    if text == "::" or (address.version == 6 and form == "{}:80"):
        return  # "any address" says nothing; without brackets :80 reads as a part of the address
    assert text not in log.scrub_text(form.format(text))


@given(st.text())
def test_scrubbing_never_fails(text: str) -> None:
    assert isinstance(log.scrub_text(text), str)


def test_payload_shows_only_its_length() -> None:
    out, logger = lines()
    logger.info("got", data=b"secret", view=memoryview(b"secret"))
    assert "secret" not in out.getvalue()
    assert "6 bytes" in out.getvalue()


def test_levels_filter() -> None:
    out, logger = lines(level="warning")
    logger.debug("no")
    logger.info("no")
    logger.warning("yes")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["yes"]


def test_filtered_calls_cost_nothing_but_the_call() -> None:
    _, logger = lines(level="warning")
    logger.warning("once")  # binds
    assert logger.bind().info is not logger.bind().warning
    assert logger.bind().info.__qualname__.startswith("_nop")


def test_the_standard_library_goes_the_same_way() -> None:
    out, _ = lines(level="info")
    logging.getLogger("asyncio").error("Task failed for %s", "192.0.2.77")
    logging.getLogger("asyncio").debug("no")
    line = json.loads(out.getvalue())
    assert (line["event"], line["where"], line["level"]) == (
        f"Task failed for {log.SCRUBBED}",
        "asyncio",
        "error",
    )


def test_a_log_file(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "ptproxy.log"
    for _ in range(2):
        log.set_up(LogConfig(file=path))
        log.get_logger("x").info("hello")
    log.set_up(LogConfig(), io.StringIO())  # closes the file
    assert path.read_text().count("hello") == 2
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(StartError, match=r"log\.file: cannot write"):
        log.set_up(LogConfig(file=tmp_path))


def test_a_broken_output_loses_lines_only() -> None:
    out, logger = lines()
    out.close()
    logger.info("nobody hears this")

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    log.set_up(LogConfig(), Full())
    log.get_logger("x").info("nobody hears this")
