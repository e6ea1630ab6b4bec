"""Much talk on IRC through a forwarded port: two sic clients that know no proxy, and a real ngircd."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import re
import selectors
import subprocess

import pytest
from live import HOST, PATIENCE, Client, Program
from plugged import PLAIN, SIZE, forwarded, on_a_port

pytestmark = [pytest.mark.program(name) for name in ("ngircd", "sic")]

SERVER = """
[Global]
Name = irc.example.org
Info = A server for a test
Listen = {host}
Ports = {port}
{user}
[Limits]
MaxConnectionsIP = 0
MaxPenaltyTime = 0
[Options]
DNS = no
Ident = no
PAM = no
"""
LINE = 396
"""Characters of a line, of 512 that the protocol has room for."""
NUDGE = b":PING sic"
"""What moves a line on in sic: it waits for more input although its buffer holds some."""
PAUSE = 0.5
"""Seconds of silence after which sic is nudged."""
AHEAD = 40
"""Lines on their way at most: ngircd hangs up on whom it owes more than 32 KiB."""


@pytest.fixture(scope="module")
def port(folder, bridge):
    """A port of the client that stands for an IRC server."""
    config = folder / "ngircd.conf"
    user = "ServerUID = nobody\nServerGID = nogroup" if os.geteuid() == 0 else ""
    server, its = on_a_port(
        "ngircd", folder, ["ngircd", "-n", "-f", config],
        lambda port: config.write_text(SERVER.format(host=HOST, port=port, user=user)),
    )  # fmt: skip
    try:
        forward = f"{HOST}:0 -> {HOST}:{its}"
        with Client(folder / "irc", bridge.link, "websocket", **PLAIN, forward=[forward]) as client:
            yield forwarded(client)
    finally:
        server.stop()


class Person:
    """Somebody with an IRC client."""

    def __init__(self, name, folder, port):
        self.program = Program(
            name, ["sic", "-h", HOST, "-p", str(port), "-n", name], folder, stdin=subprocess.PIPE
        )

    def type(self, line: bytes):
        self.program.process.stdin.write(line + b"\n")
        self.program.process.stdin.flush()

    def read(self) -> bytes:
        data = os.read(self.program.process.stdout.fileno(), 1 << 18)
        assert data, f"{self.program.name} has left"
        return data


def lines():
    """What is said: ``SIZE`` characters, the last line shorter."""
    rng = random.Random(6667)
    left = SIZE
    while left:
        yield base64.b64encode(rng.randbytes(LINE * 3 // 4))[: min(LINE, left)]
        left -= min(LINE, left)


def test_every_line_arrives_once_and_in_order(port, tmp_path):
    anna, ben = people = [Person(name, tmp_path, port) for name in ("anna", "ben")]
    try:
        for person in people:
            person.program.hear(b"End of MOTD command")
        said, heard = hashlib.sha256(), hashlib.sha256()
        waiting, on_the_way, rest = lines(), 0, b""
        with selectors.DefaultSelector() as selector:
            for person in people:
                selector.register(person.program.process.stdout, selectors.EVENT_READ, person)
            more, silences = True, 0
            while more or on_the_way:
                while more and on_the_way < AHEAD:
                    line = next(waiting, None)
                    if more := line is not None:
                        anna.type(b":m ben " + line)
                        said.update(line)
                        on_the_way += 1
                ready = selector.select(PAUSE)
                silences = 0 if ready else silences + 1
                assert silences < PATIENCE / PAUSE, f"silence, with {on_the_way} lines on the way"
                if not ready:
                    for person in people:
                        person.type(NUDGE)
                for key, _ in ready:
                    data = key.data.read()  # anna's too: sic shows what it sends
                    if key.data is ben:
                        *whole, rest = (rest + data).split(b"\n")
                        for one in whole:
                            if match := re.search(rb"<anna> (.*)", one):
                                heard.update(match[1])
                                on_the_way -= 1
        assert heard.digest() == said.digest()
    finally:
        for person in people:
            person.program.stop()
