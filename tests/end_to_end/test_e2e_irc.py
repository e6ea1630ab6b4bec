"""Two people talk on IRC: two sic clients, each through proxychains and the SOCKS port, and a real ngircd."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from live import CODECS, HOST, Program, free_port, listens, until

pytestmark = [pytest.mark.program(name) for name in ("ngircd", "sic", "proxychains4")]

SERVER = """
[Global]
Name = irc.example.org
Info = A server for a test
Listen = {host}
Ports = {port}
{user}
[Limits]
MaxConnectionsIP = 0
[Options]
DNS = no
Ident = no
PAM = no
"""

CHAIN = """
strict_chain
[ProxyList]
socks5 {host} {port}
"""

TALK = [
    (0, "is anybody there?"),
    (1, "yes, and nobody else can read it"),
    (0, "добрый вечер 👋"),
    (1, "x" * 300),
]


@pytest.fixture(scope="module")
def server(folder):
    """The port of an IRC server."""
    port = free_port()
    config = folder / "ngircd.conf"
    user = "ServerUID = nobody\nServerGID = nogroup" if os.geteuid() == 0 else ""
    config.write_text(SERVER.format(host=HOST, port=port, user=user))
    program = Program("ngircd", ["ngircd", "-n", "-f", config], folder)
    until(lambda: program.process.poll() is not None or listens(port), "ngircd listens")
    yield port
    program.stop()


class Person:
    """Somebody with an IRC client whose lines are typed and read by the test."""

    def __init__(self, name, folder, socks, server):
        self.name = name
        chain = folder / f"{name}.conf"
        chain.write_text(CHAIN.format(host=HOST, port=socks))
        self.program = Program(
            name,
            ["proxychains4", "-f", chain, "sic", "-h", HOST, "-p", str(server), "-n", name],
            folder,
            stdin=subprocess.PIPE,
        )

    def type(self, line):
        self.program.process.stdin.write(line.encode() + b"\n")
        self.program.process.stdin.flush()

    def hear(self, text):
        """Wait for the text, and forget all that came up to its end."""
        match = self.program.hear(re.escape(text.encode()))
        self.program.said = self.program.said[match.end() :]


@pytest.mark.parametrize("codec", CODECS)
def test_two_people_talk(clients, codec, server, tmp_path):
    socks = clients[codec].port
    # Names of their own for each codec: the server forgets those of the last one in its own time.
    number = CODECS.index(codec)
    anna, ben = people = [Person(f"{name}{number}", tmp_path, socks, server) for name in ("anna", "ben")]
    channel = f"#tunnel{number}"
    try:
        for person in people:
            person.hear("End of MOTD command")
        anna.type(f":j {channel}")
        anna.hear("End of NAMES list")
        ben.type(f":j {channel}")
        ben.hear("End of NAMES list")
        anna.hear("JOIN")
        for index, words in TALK:
            speaker = people[index]
            speaker.type(words)
            for person in people:
                person.hear(f"<{speaker.name}> {words}\n")  # sic shows its own lines as well
        anna.type(f":m {ben.name} between us")
        ben.hear(f"<{anna.name}> between us")
        anna.type(f":l {channel} bye")
        ben.hear("PART")
        for person in people:  # it was the SOCKS port that they talked through
            assert re.search(rf"{HOST}:{socks} .* {HOST}:{server} .* OK", person.program.logged())
    finally:
        for person in people:
            person.program.stop()
