"""Real tors on both sides: a bridge and a client that know each other by the bridge line alone.

There is no Tor network here: that the client has fetched the bridge's own
descriptor through the transport shows all that a transport does.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from free_ports import free_port
from pt_live import PATIENCE, ROOT

COMMON = """\
DataDirectory {folder}
Log notice file {folder}/log
Log info file {folder}/info
SafeLogging 0
DisableNetwork 0
RunAsDaemon 0
ShutdownWaitLength 0
TestingTorNetwork 1
DirAuthority nobody orport=1 v3ident={fingerprint} 127.0.0.1:1 {fingerprint}
"""

BRIDGE = """\
BridgeRelay 1
Address 127.0.0.1
AssumeReachable 1
PublishServerDescriptor 0
SocksPort 0
ORPort 127.0.0.1:auto
ExtORPort auto
ServerTransportPlugin ptproxy_ws exec {plugin}
ServerTransportListenAddr ptproxy_ws 127.0.0.1:{port}
"""

CLIENT = """\
SocksPort auto
UseBridges 1
ClientTransportPlugin ptproxy_ws exec {plugin}
{line}
"""


class Tor:
    """One tor, with what it says."""

    def __init__(self, folder: Path, text: str) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        (folder / "empty").write_text("")
        (folder / "torrc").write_text(COMMON.format(folder=folder, fingerprint="F" * 40) + text)
        command = ["tor", "-f", str(folder / "torrc"), "--defaults-torrc", str(folder / "empty"), "--hush"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def said(self, pattern: str, file: str = "log") -> re.Match[str]:
        """The first place in a file of tor's that matches, waited for."""
        for _ in range(int(PATIENCE / 0.05)):
            path = self.folder / file
            text = path.read_text(errors="replace") if path.exists() else ""
            if match := re.search(pattern, text, re.MULTILINE):
                return match
            assert self.process.poll() is None, text
            threading.Event().wait(0.05)
        raise AssertionError(f"{pattern!r} was not said in {text}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)


@pytest.mark.program("tor")
def test_a_real_client_reaches_a_real_bridge(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m ptproxy tor-pt\n')
    plugin.chmod(0o700)
    assert shutil.which("tor")
    bridge = Tor(tmp_path / "bridge", BRIDGE.format(plugin=plugin, port=free_port()))
    try:
        bridge.said(r"Registered server transport 'ptproxy_ws' at '127\.0\.0\.1:\d+'")
        line = bridge.said(
            r"^Bridge ptproxy_ws 127\.0\.0\.1:\d+ [0-9A-F]{40} key=\S+ path=\S+ .*$", "bridgelines"
        )
        client = Tor(tmp_path / "client", CLIENT.format(plugin=plugin, line=line[0]))
        try:
            client.said(r"Bootstrapped 15% \(handshake_done\)")
            client.said(r"new bridge descriptor '\w+' \(fresh\)")
            assert "ptproxy_ws" in bridge.said(r"Extended ORPort connection.*|ptproxy_ws.*", "info")[0]
        finally:
            client.stop()
    finally:
        bridge.stop()
    state = tmp_path / "bridge" / "pt_state" / "ptproxy" / "ptproxy_ws"
    assert (state / "bridge.key").exists()
    assert not (tmp_path / "client" / "pt_state" / "ptproxy").exists()
