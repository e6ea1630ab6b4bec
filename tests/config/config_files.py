"""A folder with the files that a configuration names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ptproxy.config.load import load
from ptproxy.errors import ConfigError

KEY = "A" * 43
LINK = f"ptproxy://{KEY}@example.org:443?path=/x&codecs=websocket,http"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
PRIVATE_KEY = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"

STANDALONE = """\
role: bridge
listen: 0.0.0.0:443
mode: standalone
address: example.org:443
key: key
site: builtin
state: state
tls:
  certificate: cert.pem
  private_key: cert.key
"""
BEHIND = """\
role: bridge
listen: unix:bridge.sock
mode: behind
address: example.org:443
key: key
path: /x
codecs: [websocket, http]
state: state
tls:
  front_certificate: cert.pem
"""
CLIENT = f"""\
role: client
listen: 127.0.0.1:1080
bridge: {LINK}
key: key
state: state
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {"key": KEY, "password": "secret", "cert.pem": CERTIFICATE, "cert.key": PRIVATE_KEY}
    for name, text in files.items():
        path = tmp_path / name
        path.write_text(text)
        os.chmod(path, 0o600)
    return tmp_path


@pytest.fixture
def problems(folder: Path) -> Callable[[str], list[str]]:
    """The problems of a configuration's text, without the file's name."""

    def find(text: str) -> list[str]:
        path = folder / "c.yaml"
        path.write_text(text)
        found: list[str] = []
        try:
            load(path, codecs=("websocket", "http", "random"))
        except ConfigError as error:
            found = error.problems
        assert all(problem.startswith(f"{path}:") for problem in found)
        return [problem.removeprefix(f"{path}:") for problem in found]

    return find
