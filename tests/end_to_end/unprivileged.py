"""Bridges that are started as root and become an ordinary user."""

from __future__ import annotations

import os
import random
import re
import shutil
import site
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from live import ENVIRONMENT, HOST, ROOT, Bridge, Program

USER = "nobody"
PROBE = "import ptproxy.cli.run, pydantic, cryptography, os; os.listdir('.')"


def interpreter():
    """A Python that ``nobody`` can run with ptproxy in it, and its environment; None: there is none.

    The tests' own may be in root's home.
    """
    same = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for program in (sys.executable, same):
        paths = [str(ROOT), *site.getsitepackages()]
        environment = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                [program, "-c", PROBE], cwd=ROOT, env=environment, capture_output=True, check=False,
                user=USER, group="nogroup", extra_groups=[],
            )  # fmt: skip
        except OSError:  # it is not there, or not for everybody
            continue
        if done.returncode == 0:
            return program, environment
    return None


def needed():
    """The interpreter of :func:`interpreter`; without root or without one the test is skipped by name."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can become another user")
    found = interpreter()
    if found is None:
        pytest.skip("no Python here that the user nobody can read")
    return found


class Open:
    """A folder that other users get to: those of pytest are its user's alone."""

    def __enter__(self):
        self.path = Path(tempfile.mkdtemp(prefix="ptproxy-"))
        self.path.chmod(0o755)
        return self.path

    def __exit__(self, *_):
        shutil.rmtree(self.path)


def low_port():
    """A free port below 1024, as only root may bind it."""
    for port in random.sample(range(600, 1024), 424):  # other tests look at the same time
        with socket.socket() as sock:
            try:
                sock.bind((HOST, port))
            except OSError:
                continue
            return port
    raise AssertionError("no port below 1024 is free")


class RootBridge(Bridge):
    """A bridge that root starts on a low port, to become ``nobody``."""

    def __init__(self, folder, python, **changes):
        self.python, environment = python
        super().__init__(
            folder, address=f"{HOST}:{low_port()}", env=environment, **({"user": USER} | changes)
        )
        folder.chmod(0o755)

    def launch(self):
        self.program = Program("bridge", [self.python, "-m", "ptproxy", "bridge", "-c", self.config],
                               self.folder, env=self.env)  # fmt: skip
        return self.program

    def start(self):
        self.launch().ready(rb"listening on .*\n")
        return self

    def command(self, *words):
        """Run a command as root; its status and what it said."""
        done = subprocess.run(
            [self.python, "-m", "ptproxy", *map(str, words)], cwd=ROOT, env=self.env, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def give_all(self):
        """Everything in the folder becomes the user's."""
        for path in (self.folder, *self.folder.rglob("*")):
            shutil.chown(path, USER, "nogroup")


def rights(pid):
    """What a process may do: its ids, groups and capabilities, and what it gave up."""
    text = Path(f"/proc/{pid}/status").read_text()
    return {
        name: re.search(rf"^{name}:[ \t]*(.*?)[ \t]*$", text, re.MULTILINE)[1]
        for name in ("Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs")
    }


def children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def limit(pid, name):
    """A process' soft and hard limit, in the words of /proc."""
    found = re.search(rf"^{name} +(\S+) +(\S+)", Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE)
    return found.groups()
