"""Two people chat, as they would: two bridges in different codecs, one person away, one bridge killed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

from live import Bridge, Program, made, ptproxy

from ptproxy.config.link import Link


def offering(folder, codec):
    """A bridge with both services, and the link to it for one codec."""
    bridge = Bridge(folder, mailbox__offer=True, rendezvous__offer=True)
    link = Link.parse(bridge.link)
    bridge.mailbox = link.serialize().replace(",".join(link.codecs), codec)
    return bridge


class Person:
    """Somebody with an identity in a folder, and line mode at times."""

    def __init__(self, folder, name, bridge):
        self.folder, self.name = folder / name, name
        self.folder.mkdir()
        self.options = ("chat", "-d", self.folder / "state", "--key-file", self.folder / "key")
        made(*self.options, "init", "-", "--name", name, stdin=bridge.mailbox)
        self.told = []
        self.heard = 0
        """How many of them were looked at."""

    def start(self):
        self.program = Program(
            self.name,
            [sys.executable, "-m", "ptproxy", *self.options, "lines", "--json", "--follow"],
            self.folder,
            stdin=subprocess.PIPE,
        )
        self.hear(lambda told: told["event"] == "ready")

    def stop(self, number=signal.SIGTERM):
        status = self.program.stop(number)
        assert "Traceback" not in self.program.logged(), self.program.logged()
        return status

    def ask(self, **command):
        self.program.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.program.process.stdin.flush()

    def say(self, who, text):
        self.ask(do="say", who=who, text=text)

    def hear(self, wanted):
        """The next thing told that is wanted."""
        while True:
            while self.heard < len(self.told):
                self.heard += 1
                if wanted(self.told[self.heard - 1]):
                    return self.told[self.heard - 1]
            self.program.hear(rb"\n")
            *lines, self.program.said = self.program.said.split(b"\n")
            self.told += map(json.loads, lines)

    def lines(self):
        return [told["text"] for told in self.told if told["event"] == "line"]


def killed(bridge):
    bridge.program.stop(signal.SIGKILL)


def test_two_people_one_away_a_bridge_killed(tmp_path):
    first, second = offering(tmp_path / "first", "websocket"), offering(tmp_path / "second", "http")
    with first, second:
        anna, ben = Person(tmp_path, "anna", first), Person(tmp_path, "ben", second)
        invite = made(*anna.options, "invite", "--no-qr")
        line = next(line for line in invite.splitlines() if line.startswith("ptproxy-contact:"))
        assert "unverified" in made(*ben.options, "add", "-", "--name", "Anna", stdin=line)

        anna.start()
        ben.start()
        ben.say("Anna", "ben 0")
        assert anna.hear(lambda told: told["event"] == "line")["who"] == "ben"
        numbers = []
        for person, other in ((anna, "ben"), (ben, "Anna")):
            person.ask(do="number", who=other)
            numbers.append(person.hear(lambda told: told["event"] == "number")["digits"])
        assert numbers[0] == numbers[1]
        anna.ask(do="verify", who="ben", text=numbers[1])
        anna.hear(lambda told: told["event"] == "standing" and told["standing"] == "verified")

        # A file, over a stream between the two.
        data = random.Random(1).randbytes(300_000)
        (tmp_path / "photo.jpg").write_bytes(data)
        anna.ask(do="send", who="ben", path=str(tmp_path / "photo.jpg"))
        offer = ben.hear(lambda told: told["event"] == "file" and told["state"] == "offered")
        ben.ask(do="take", offer=offer["file"])
        saved = ben.hear(lambda told: told["event"] == "file" and told["state"] == "done")
        assert Path(saved["path"]).read_bytes() == data
        anna.hear(lambda told: told["event"] == "file" and told["state"] == "done")

        # Ben is away, killed as he stands; the bridge with his mailbox is killed while Anna writes.
        ben.stop(signal.SIGKILL)
        for number in range(3):
            anna.say("ben", f"anna {number}")
        killed(second)
        for number in range(3, 6):
            anna.say("ben", f"anna {number}")
        second.start()
        anna.hear(lambda told: told["event"] == "state" and (told["number"], told["state"]) == (7, "sent"))
        assert anna.stop() == 0

        # Anna is away, Ben is back and answers; then her bridge is killed.
        ben.start()
        ben.hear(lambda told: told["event"] == "line" and told["text"] == "anna 5")
        ben.say("Anna", "ben 1")
        killed(first)
        ben.say("Anna", "ben 2 \x1b[2J")
        first.start()
        anna.start()
        anna.hear(lambda told: told["event"] == "line" and told["text"].startswith("ben 2"))
        ben.hear(lambda told: told["event"] == "state" and told["state"] == "read")
        assert anna.lines() == ["ben 0", "ben 1", "ben 2 \x1b[2J"]
        assert ben.lines() == [f"anna {number}" for number in range(6)]
        assert anna.stop() == ben.stop() == 0
        listed = ptproxy(*anna.options, "contacts").stdout
        assert "* ben: verified" in listed


def test_a_mailbox_moves_and_its_old_bridge_is_gone(tmp_path):
    first, second = offering(tmp_path / "first", "websocket"), offering(tmp_path / "second", "http")
    with first, second:
        anna, ben = Person(tmp_path, "anna", first), Person(tmp_path, "ben", second)
        invite = made(*anna.options, "invite", "--no-qr")
        line = next(line for line in invite.splitlines() if line.startswith("ptproxy-contact:"))
        made(*ben.options, "add", "-", "--name", "Anna", stdin=line)
        anna.start()
        ben.start()
        ben.say("Anna", "hello")
        anna.hear(lambda told: told["event"] == "line")
        assert anna.stop() == 0
        said = made(*anna.options, "me", "--mailbox", "-", stdin=second.mailbox)
        killed(first)
        assert "still looked into" in said
        ben.say("Anna", "found you")
        anna.start()
        anna.hear(lambda told: told["event"] == "line" and told["text"] == "found you")
        ben.hear(lambda told: told["event"] == "state" and told["state"] == "read")
        assert anna.stop() == ben.stop() == 0
