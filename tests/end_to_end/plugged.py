"""What the tests of programs that plug in share: how much is sent, a cheap client, servers on ports."""

from __future__ import annotations

import os

from live import MIB, Program, free_port, listens, until

PLAIN = {"shape": "none", "tls__fingerprint": "python"}
SIZE = int(os.environ.get("PTPROXY_PLUG_MIB", "2")) * MIB
"""Bytes that each program moves; ``PTPROXY_PLUG_MIB=64`` where time does not matter."""
TRIES = 5


def forwarded(client) -> int:
    """The port that a started client's first forward listens on."""
    return int(client.program.ready(rb":(\d+) -> ")[1])


def on_a_port(name, folder, argv, configure):
    """A server that must be told its port, and that port; another one where somebody else was quicker.

    ``configure(port)`` writes what ``argv`` reads.
    """
    for _ in range(TRIES):
        configure(port := free_port())
        program = Program(name, argv, folder)
        try:
            until(lambda: program.process.poll() is not None or listens(port), f"{name} listens")  # noqa: B023
        except BaseException:
            program.stop()
            raise
        if program.process.poll() is None:
            return program, port
        said = program.logged()
        program.stop()
    raise AssertionError(f"{name} does not start: {said[-2000:]}")
