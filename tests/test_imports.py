"""Imports go strictly down, packages side by side never see one another, protocols do no I/O.

And only :mod:`ptproxy.state` writes files.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "ptproxy"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("pt", "api"),
    ("proxy", "peers", "inspect"),
    ("tunnel",),
    ("session", "auth", "codec", "front", "e2e", "dht", "ways"),
    ("config", "target", "addresses", "buffer", "fields"),
    ("errors",),
)
"""From the top; whatever stands in one layer must not import its neighbours."""

ROOF = {"log": {"state"}, "state": set[str]()}
"""Top-level modules for the upper layers, and which of each other they use."""
ROOF_USERS = {"cli", "pt", "api", "proxy", "peers", "tunnel"}

PROTOCOLS = set(LAYERS[4])
IO_MODULES = {
    "asyncio", "ssl", "socket", "time", "logging", "structlog", "threading", "selectors", "subprocess",
}  # fmt: skip

PURE = {
    f"ptproxy.peers.{name}"
    for name in (
        "contact_invite", "directory_beacon", "directory_network", "file_messages", "file_name",
        "find_asking", "find_bridges", "find_frames", "find_list", "find_network",
        "mailbox_answers", "mailbox_conversation",
        "mailbox_delivery", "mailbox_frames", "mailbox_rates", "mailbox_requests", "mailbox_schema",
        "messenger_contact", "messenger_events", "messenger_line", "messenger_outbox", "messenger_passes",
        "payload", "seats",
    )
}  # fmt: skip
"""Modules without I/O in packages that have some elsewhere."""
PURE |= {
    f"ptproxy.pt.{name}"
    for name in (
        "arguments", "bridge_line", "extorport", "sip003_environment", "tor_environment", "tor_lines",
        "upgrade", "wanted", "webtunnel_line",
    )
}  # fmt: skip
PURE |= {f"ptproxy.peers.store_{name}" for name in ("head", "index", "lineage", "rows")}

ENDS = {"inspect": {"cli"}}
"""Packages that only some may import, whatever their layer."""

WRITING = {
    "os": {
        "chmod", "link", "makedirs", "mkdir", "mkfifo", "remove", "rename", "replace", "rmdir", "symlink",
        "truncate", "unlink",
    },
    "shutil": {"copy", "copy2", "copyfile", "copytree", "move", "rmtree"},
    "sqlite3": {"connect"},
    "tempfile": {
        "NamedTemporaryFile", "SpooledTemporaryFile", "TemporaryDirectory", "TemporaryFile", "mkdtemp",
        "mkstemp",
    },
}  # fmt: skip
"""Functions of modules that make, change, name or delete files."""
WRITING_METHODS = {"hardlink_to", "mkdir", "rmdir", "symlink_to", "unlink", "write_bytes", "write_text"}
"""Of :class:`~pathlib.Path`; no others here have methods of these names."""
WRITERS = {
    "ptproxy.inspect.greeting": "ssl reads certificates from files: a scratch folder",
    "ptproxy.inspect.programs": "what a program reports is read from a scratch folder",
    "ptproxy.peers.store_schema": "a database in memory",
    "ptproxy.proxy.bridge": "the mode of a socket's name",
    "ptproxy.tunnel.boring.check": "ssl reads certificates from files: a scratch folder",
    "ptproxy.tunnel.listen": "a socket's name that was left behind",
}
"""Modules outside :mod:`ptproxy.state` that touch files all the same, and why that keeps no state."""

DEPTH = {name: depth for depth, layer in enumerate(LAYERS) for name in layer}


def room(name: str) -> str:
    """The package or module below ``ptproxy`` that a dotted name belongs to."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(source: str, module: str, *, package: bool = False) -> Iterator[tuple[int, str]]:
    """Every import of a module's source with its line, as absolute dotted names; lazy ones too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                up = module.split(".")
                base = ".".join(up[: len(up) - node.level + package])
                origin = f"{base}.{origin}" if origin else base
            if origin == "ptproxy":
                for alias in node.names:
                    yield node.lineno, f"ptproxy.{alias.name}"
            else:
                yield node.lineno, origin


def violations(source: str, module: str, *, package: bool = False) -> list[str]:
    """What a module imports and must not."""
    here = room(module)
    found = []
    for line, name in imports(source, module, package=package):
        top = name.split(".")[0]
        there = room(name) if top == "ptproxy" else ""
        if top != "ptproxy":
            if (here in PROTOCOLS or module in PURE) and top in IO_MODULES:
                found.append(f"{module}:{line}: a protocol imports {top}")
        elif module in PURE and there == "tunnel":
            found.append(f"{module}:{line}: a protocol imports {there}")
        elif here in ("", "__main__") or there in (here, "__version__"):
            continue
        elif there in ROOF:
            if here not in ROOF_USERS and there not in ROOF.get(here, ()):
                found.append(f"{module}:{line}: {here} imports {there}")
        elif there not in DEPTH:
            found.append(f"{module}:{line}: {there or name} has no place in the layers")
        elif here in ROOF:
            if DEPTH[there] < DEPTH["config"]:
                found.append(f"{module}:{line}: {here} imports {there}, which is above it")
        elif here not in DEPTH:
            found.append(f"{module}:{line}: {here} has no place in the layers")
        elif DEPTH[there] <= DEPTH[here] or here not in ENDS.get(there, {here}):
            found.append(f"{module}:{line}: {here} imports {there}, which is beside or above it")
    return found


def writes(source: str) -> list[int]:
    """The lines of a module's source that make, change, name or delete files."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Call) and _writes(node))
        or (isinstance(node, ast.ImportFrom) and {each.name for each in node.names} & _writing(node.module))
    ]


def _writing(module: str | None) -> set[str]:
    return WRITING.get(module or "", set())


def _writes(call: ast.Call) -> bool:
    function, texts = call.func, [ast.unparse(each) for each in call.args]
    texts += [ast.unparse(each.value) for each in call.keywords if each.arg in ("mode", "flags")]
    if isinstance(function, ast.Name):
        return function.id == "open" and _mode_writes(texts[1:])
    if not isinstance(function, ast.Attribute):
        return False
    place = ast.unparse(function.value)
    if function.attr == "open":
        if place == "os":
            return any("O_CREAT" in text or "O_TRUNC" in text or "O_APPEND" in text for text in texts)
        return _mode_writes(texts)
    return function.attr in _writing(place) or (place != "os" and function.attr in WRITING_METHODS)


def _mode_writes(texts: list[str]) -> bool:
    """Whether one of the arguments is a mode of :func:`open` that writes."""
    modes = (text.strip("'") for text in texts if text.startswith("'"))
    return any(set(mode) <= set("rwaxbt+") and set(mode) & set("wax+") for mode in modes)


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    package = path.stem == "__init__"
    assert violations(path.read_text("utf-8"), module_name(path), package=package) == []


def test_only_state_writes_files() -> None:
    found = {
        name: lines
        for path in modules()
        if room(name := module_name(path)) != "state" and (lines := writes(path.read_text("utf-8")))
    }
    assert {name: lines for name, lines in found.items() if name not in WRITERS} == {}
    assert found.keys() == WRITERS.keys(), "one that no longer writes is no exception any more"
    assert any(writes(path.read_text("utf-8")) for path in (ROOT / "state").glob("*.py"))


@pytest.mark.parametrize(
    "source",
    [
        "open(path, 'w')",
        "open(path, mode='ab')",
        "path.open('r+b')",
        "path.open(mode='x')",
        "os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)",
        "os.open(path, flags=os.O_RDWR | os.O_TRUNC)",
        "os.replace(one, two)",
        "(folder / 'x').write_text('')",
        "path.unlink(missing_ok=True)",
        "sqlite3.connect(path)",
        "tempfile.mkstemp()",
        "shutil.rmtree(path)",
        "from shutil import rmtree",
    ],
)
def test_writing_is_seen(source: str) -> None:
    assert writes(f"def f():\n    {source}\n") == [2]


@pytest.mark.parametrize(
    "source",
    [
        "open(path)",
        "open(path, 'rb')",
        "path.open('rb')",
        "store.open('a name with w and x')",
        "os.open(os.devnull, os.O_WRONLY)",
        "text.replace('a', 'w')",
        "shutil.which('tor')",
        "transport.write(data)",
    ],
)
def test_reading_is_no_writing(source: str) -> None:
    assert writes(source) == []


def test_there_is_something_to_check() -> None:
    names = {module_name(path) for path in modules()}
    assert names >= PURE
    assert len(modules()) > 20
    assert {room(".".join(("ptproxy", *path.relative_to(ROOT).parts))) for path in modules()} & PROTOCOLS


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("ptproxy.session.frames", "from ptproxy.codec.interface import Link"),
        ("ptproxy.session.frames", "import ptproxy.auth"),
        ("ptproxy.session.frames", "def f():\n    from ptproxy.tunnel import stream"),
        ("ptproxy.session.frames", "from ..auth import binding"),
        ("ptproxy.auth.opening", "import time"),
        ("ptproxy.codec.http", "from asyncio import sleep"),
        ("ptproxy.codec.http", "import logging.handlers"),
        ("ptproxy.codec.http", "from ptproxy import log"),
        ("ptproxy.codec.http", "from ptproxy.state import Document"),
        ("ptproxy.tunnel.client", "from ptproxy.proxy import bridge"),
        ("ptproxy.proxy.bridge", "from ptproxy.peers.chat import Chat"),
        ("ptproxy.proxy.bridge", "from ptproxy.cli import main"),
        ("ptproxy.inspect.visit", "from ptproxy.proxy.site import BUILTIN"),
        ("ptproxy.peers.mailbox_service", "from ptproxy.proxy.egress import EgressDialer"),
        ("ptproxy.proxy.bridge", "from ptproxy.peers.mailbox_service import MailboxService"),
        ("ptproxy.peers.mailbox_frames", "import asyncio"),
        ("ptproxy.peers.mailbox_conversation", "from ptproxy.tunnel.stream import Incoming"),
        ("ptproxy.pt.tor", "from ptproxy.inspect import pcap"),
        ("ptproxy.config.model", "from ptproxy.target import Target"),
        ("ptproxy.errors", "from ptproxy.target import Target"),
        ("ptproxy.state.files", "from ptproxy.log import get_logger"),
        ("ptproxy.state.document", "from ptproxy.tunnel.tcp import TcpDialer"),
        ("ptproxy.log", "from ptproxy.tunnel import stream"),
        ("ptproxy.tunnel.client", "from ptproxy.utils import helper"),
    ],
)
def test_violations_are_caught(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("ptproxy.session.frames", "import struct\nfrom ptproxy.errors import Reason\nfrom . import events"),
        ("ptproxy.auth.noise", "from cryptography.hazmat.primitives import hashes"),
        ("ptproxy.tunnel.client", "import asyncio, ssl\nfrom ptproxy import log, state, codec"),
        ("ptproxy.cli.inspect", "import ptproxy.inspect.visit"),
        ("ptproxy.inspect.visit", "import ssl\nimport ptproxy.tunnel.tls\nimport ptproxy.codec.client_hello"),
        ("ptproxy.cli.run", "import ptproxy.proxy.bridge\nimport ptproxy.config.load"),
        ("ptproxy.cli.main", "from ptproxy import __version__"),
        ("ptproxy.log", "from ptproxy import state\nfrom ptproxy.config.model import LogConfig"),
    ],
)
def test_permitted_imports_pass(module: str, source: str) -> None:
    assert violations(source, module) == []


def test_relative_imports_of_a_package_are_resolved() -> None:
    assert violations("from .frames import Frame", "ptproxy.session", package=True) == []
    assert violations("from ..codec import table", "ptproxy.session", package=True)
