"""What new carriers, strangers and downloads cost a bridge, and how that divides between workers.

scripts/bridge_cost --workers 1,2

CPU is the bridge's alone, from the process table, each worker for itself. ``scale`` is how much
more the bridge would do than one worker if each worker had a core of its own: the work done, by
the CPU of the busiest worker, over the same with one worker. So two cores that also carry the
load generator do not hide it, and an uneven division between workers does count.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import socket
import socketserver
import ssl
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "end_to_end")]

from live import Bridge, Client, serving, through  # noqa: E402
from process_figures import cpu_seconds  # noqa: E402

from ptproxy.auth.binding import Binding  # noqa: E402
from ptproxy.auth.credentials import StaticKey  # noqa: E402
from ptproxy.auth.opening import BridgeOpening, ClientOpening, Hello  # noqa: E402
from ptproxy.auth.replay import ReplayFilter  # noqa: E402
from ptproxy.codec import codec_table  # noqa: E402
from ptproxy.codec.interface import CodecSettings  # noqa: E402
from ptproxy.config.link import Link  # noqa: E402
from ptproxy.errors import AuthenticationError  # noqa: E402
from ptproxy.tunnel.tls import leaf_digest  # noqa: E402

RNG = random.SystemRandom()


def cpu(pids: list[int]) -> list[float]:
    """Seconds of CPU of each process."""
    return [cpu_seconds(pid) for pid in pids]


@dataclass
class Figure:
    """Work done, and what it took of each worker."""

    work: float
    seconds: float
    cpu: list[float]

    @property
    def each(self) -> float:
        return sum(self.cpu) / self.work

    @property
    def capacity(self) -> float:
        return self.work / max(self.cpu)


class Load:
    """Raw openings at a bridge, without the cost of a whole client."""

    def __init__(self, bridge: Bridge) -> None:
        self._line = Link.parse(bridge.link)
        self._binding = Binding.certificate(leaf_digest(next(bridge.folder.glob("*.pem"))))
        self._settings = CodecSettings.of(self._line.server_name, self._line.port, self._line.path)
        self._context = ssl.create_default_context()
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE

    def opening(self) -> bytes:
        line = self._line
        message = ClientOpening(
            line.key, StaticKey.generate(RNG), "websocket", line.seal, self._binding,
            Hello(b"", 1, (), int(time.time()), line.token), RNG,
        ).message1  # fmt: skip
        codec = codec_table()["websocket"].client(self._settings, message, RNG)
        return b"".join(codec.open_link().data_to_send())

    def connect(self, request: bytes) -> bytes:
        """One TLS connection that says this; the beginning of the answer."""
        raw = socket.create_connection((self._line.host, self._line.port))
        with self._context.wrap_socket(raw, server_hostname=self._line.server_name) as sock:
            sock.sendall(request)
            return sock.recv(12)


def connections(bridge: Bridge, pids: list[int], seconds: float, *, strangers: bool) -> Figure:
    """New TLS connections, with an opening each or with the same request without a right one."""
    load = Load(bridge)
    request = re.sub(rb"(?<=Cookie: )[^\r]+", b"session=1", load.opening())
    done, wrong = 0, 0
    start, before = time.monotonic(), cpu(pids)
    while time.monotonic() - start < seconds:
        said = request if strangers else load.opening()
        wrong += load.connect(said).startswith(b"HTTP/1.1 101") == strangers
        done += 1
    elapsed = time.monotonic() - start
    if wrong:
        raise RuntimeError(f"{wrong} of {done} were not answered as they should be")
    return Figure(done, elapsed, [b - a for a, b in zip(before, cpu(pids), strict=True)])


class Source(socketserver.BaseRequestHandler):
    """Sends for good."""

    def handle(self) -> None:
        block = bytes(1 << 18)
        with contextlib.suppress(OSError):
            while True:
                self.request.sendall(block)


def downloads(bridge: Bridge, pids: list[int], folder: Path, seconds: float, clients: int) -> Figure:
    """GiB down through so many clients at once, each with a session of its own."""
    with contextlib.ExitStack() as stack:
        echo = stack.enter_context(serving(Source))
        done = threading.Event()
        moved = [0] * clients
        threads = []
        for number in range(clients):
            name = f"client-{len(list(folder.iterdir()))}"
            client = stack.enter_context(Client(folder / name, bridge.link, "websocket", shape="none"))
            sock = stack.enter_context(through(client.port, echo))

            def take(number: int = number, sock: socket.socket = sock) -> None:
                with contextlib.suppress(OSError):
                    while not done.is_set() and (data := sock.recv(1 << 18)):
                        moved[number] += len(data)

            threads.append(threading.Thread(target=take))
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        start, before, sum_before = time.monotonic(), cpu(pids), sum(moved)
        time.sleep(seconds)
        figure = Figure(
            (sum(moved) - sum_before) / (1 << 30), time.monotonic() - start,
            [b - a for a, b in zip(before, cpu(pids), strict=True)],
        )  # fmt: skip
        done.set()
        for thread in threads:
            thread.join()
    return figure


def refusal(count: int = 20_000) -> float:
    """µs of CPU for a message 1 of a stranger's, without connection and TLS."""
    key, binding = StaticKey.generate(RNG), Binding.none()
    replay = ReplayFilter(time.time())
    messages = [RNG.randbytes(220) for _ in range(100)]
    start = time.process_time()
    for number in range(count):
        with contextlib.suppress(AuthenticationError):
            BridgeOpening(key, "websocket", False, [binding], replay).examine(messages[number % 100], 1.0)
    return (time.process_time() - start) / count * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bridge_cost", description=__doc__)
    parser.add_argument("--workers", default="1,2", help="how many, one after another (default: 1,2)")
    parser.add_argument("--seconds", type=float, default=4.0, help="time for each figure (default: 4)")
    parser.add_argument("--clients", type=int, default=8, help="clients that download (default: 8)")
    arguments = parser.parse_args()
    print("| what | workers | a second | bridge CPU each | of it each worker | scale |")
    print("|---|---:|---:|---:|---|---:|")
    alone: dict[str, float] = {}
    for workers in map(int, arguments.workers.split(",")):
        with tempfile.TemporaryDirectory(prefix="ptproxy-cost-") as place:
            folder = Path(place)
            with Bridge(folder / "bridge", workers=workers, limits__linger="1s") as bridge:
                pids = [bridge.program.pid]
                if workers > 1:
                    started = re.findall(r"is started +process=(\d+)", bridge.program.logged())
                    pids = [int(pid) for pid in started]
                figures = {
                    "opening": connections(bridge, pids, arguments.seconds, strangers=False),
                    "stranger's connection": connections(bridge, pids, arguments.seconds, strangers=True),
                    "GiB down": downloads(bridge, pids, folder, arguments.seconds, arguments.clients),
                }
        for name, figure in figures.items():
            alone.setdefault(name, figure.capacity)
            each = f"{figure.each:.2f} s" if "GiB" in name else f"{figure.each * 1e3:.2f} ms"
            shares = " + ".join(f"{part / sum(figure.cpu):.0%}" for part in figure.cpu)
            rate = f"{figure.work / figure.seconds:.4g}"
            scale = figure.capacity / alone[name]
            print(f"| {name} | {workers} | {rate} | {each} | {shares} | {scale:.2f} |", flush=True)
    print(f"\nA stranger's message 1 alone, refused by its MAC: {refusal():.1f} µs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
