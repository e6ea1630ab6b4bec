"""Two network namespaces joined by a link that delays and loses packets; kernels without ``netem`` too.

Each namespace has a TUN device; a process between them reads each packet, drops it with some chance, and
writes it to the other device after half a round trip. TCP is the kernel's own on both sides, so what a loss
costs is what it costs on a real link of that round trip. Needs root (Linux).
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import signal
import struct
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

TUNSETIFF: Final = 0x400454CA
IFF_TUN_NO_PI: Final = 0x1001
CLONE_NEWNET: Final = 0x40000000
PACKET: Final = 65_536
NEAR, FAR = "10.213.0.1", "10.213.0.2"
"""The link's ends, inside namespaces of their own: nobody else sees these addresses."""


class LossyLink:
    """The two namespaces and what is between them, for the time of a ``with``."""

    def __init__(self, rtt: float, loss: float, seed: int = 1, congestion: str = "cubic") -> None:
        """``rtt`` seconds; ``loss`` the chance of each packet, both ways; ``congestion`` TCP's control."""
        self.rtt, self.loss, self.seed, self.congestion = rtt, loss, seed, congestion
        self.near = f"ptp-near-{os.getpid()}"
        self.far = f"ptp-far-{os.getpid()}"
        self._between = 0

    def __enter__(self) -> LossyLink:
        for name in (self.near, self.far):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        ends = [_tun(name) for name in (self.near, self.far)]
        for name, own, other in ((self.near, NEAR, FAR), (self.far, FAR, NEAR)):
            _ip("-n", name, "addr", "add", own, "peer", other, "dev", "link0")
            _ip("-n", name, "link", "set", "link0", "up")
            _ip("-n", name, "route", "change", other, "dev", "link0", "congctl", self.congestion)
        self._between = os.fork()
        if not self._between:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.nice(-10)
            _carry(ends, self.rtt / 2, self.loss, random.Random(self.seed))
        for end in ends:
            os.close(end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.kill(self._between, signal.SIGKILL)
        os.waitpid(self._between, 0)
        for name in (self.near, self.far):
            _ip("netns", "del", name)

    def inside(self, name: str, *command: str) -> Sequence[str]:
        """A command line that runs ``command`` in the namespace ``name``."""
        return ("ip", "netns", "exec", name, *command)


def _ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True)


def _tun(name: str) -> int:
    """The packets of a new device ``link0`` in a namespace: one read, one packet."""
    libc = ctypes.CDLL(None, use_errno=True)
    home, there = Path("/proc/self/ns/net").open(), Path(f"/run/netns/{name}").open()  # noqa: SIM115
    with home, there:
        if libc.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"link0", IFF_TUN_NO_PI))
        finally:
            libc.setns(home.fileno(), CLONE_NEWNET)
    return device


def _carry(ends: Sequence[int], delay: float, loss: float, rng: random.Random) -> None:
    """Packets from each end to the other, for good."""
    under_way: list[tuple[float, int, int, bytes]] = []
    count = 0
    while True:
        now = time.monotonic()
        while under_way and under_way[0][0] <= now:
            _, _, to, packet = heapq.heappop(under_way)
            try:
                os.write(to, packet)
            except OSError:
                pass  # its queue is full: lost, as on any link
        wait = max(0.0, under_way[0][0] - now) if under_way else None
        for source in select.select(ends, (), (), wait)[0]:
            to = ends[1] if source == ends[0] else ends[0]
            for _ in range(64):
                try:
                    packet = os.read(source, PACKET)
                except BlockingIOError:
                    break
                if rng.random() >= loss:
                    count += 1
                    heapq.heappush(under_way, (time.monotonic() + delay, count, to, packet))
