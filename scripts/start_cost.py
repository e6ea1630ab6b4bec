"""Measure the start of what other programs start; what ``scripts/start_cost`` runs.

From the process's start until its port takes a connection (or, for tor, until it
has said the port), in milliseconds of wall time and of CPU of all its threads.
A first start, not counted, leaves compiled modules behind. The client's figures
are until its port is open; the tunnel, which it then makes, is in the second
row: the line "listening" comes when the bridge has answered.

    client            ptproxy client, settings as ptproxy init writes them, with a bridge on this machine
    client, tunnel    the same until it says so
    bridge            ptproxy bridge
    tor-pt client     until CMETHODS DONE, all five transports
    tor-pt bridge     until SMETHODS DONE, one transport
    sip003 client, sip003 server
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
PATIENCE = 60.0
"""Seconds after which a start counts as broken."""
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
ENVIRONMENT["PYTHONPATH"] = str(ROOT)
TRANSPORTS = "ptproxy,ptproxy_ws,ptproxy_http,ptproxy_random,webtunnel"

Sample = tuple[float, float]
"""Milliseconds of wall time, and of CPU."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return sock.getsockname()[1]


def cpu(pid: int) -> float:
    """Milliseconds that the threads of a process have run (Documentation/scheduler/sched-stats.rst)."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e6


def accepts(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection((HOST, port)):
        return True
    return False


class Start:
    """One process, from before its start."""

    def __init__(self, *arguments: str | Path, environment: dict[str, str] | None = None) -> None:
        self._begin = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ptproxy", *map(str, arguments)],
            cwd=ROOT,  # -m looks there first
            env=ENVIRONMENT | (environment or {}),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def _sample(self) -> Sample:
        wall = (time.perf_counter() - self._begin) * 1e3
        return wall, cpu(self.process.pid)

    def until_open(self, port: int) -> Sample:
        while not accepts(port):
            self.still()
            time.sleep(0.0005)
        return self._sample()

    def until_said(self, text: bytes) -> Sample:
        said = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while text not in said:
                self.still()
                if selector.select(0.1):
                    said += os.read(self.process.stdout.fileno(), 65536)
        return self._sample()

    def still(self) -> None:
        """Leave where it has ended or takes for ever."""
        if self.process.poll() is not None or time.perf_counter() - self._begin > PATIENCE:
            raise SystemExit(f"it does not start: {self.process.args}")

    def __enter__(self) -> Start:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def init(*arguments: str | Path, stdin: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ptproxy", "init", *map(str, arguments)],
        cwd=ROOT, env=ENVIRONMENT, input=stdin, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


@contextlib.contextmanager
def roles(folder: Path) -> Iterator[dict[str, Callable[[], list[Sample]]]]:
    """What is measured, by its name in the table; a run gives the samples of one start."""
    port, listen = free_port(), free_port()
    said = init(
        "bridge", folder / "bridge", "--address", f"{HOST}:{port}", "--listen", f"{HOST}:{port}",
        "--server-name", "localhost", "--access", "open", "--no-qr",
    )  # fmt: skip
    link = next(word for word in said.split() if word.startswith("ptproxy://"))
    init("client", folder / "client", "-", "--listen", f"{HOST}:{listen}", stdin=link)

    def bridge() -> list[Sample]:
        with Start("bridge", "-c", folder / "bridge" / "bridge.yaml") as start:
            return [start.until_open(port)]

    def client() -> list[Sample]:
        with Start("bridge", "-c", folder / "bridge" / "bridge.yaml") as other:
            other.until_open(port)
            with Start("client", "-c", folder / "client" / "client.yaml") as start:
                return [start.until_open(listen), start.until_said(b"listening on")]

    def tor(said: bytes, **side: str) -> list[Sample]:
        state = {
            "MANAGED_TRANSPORT_VER": "1",
            "STATE_LOCATION": str(folder / "tor"),
            "EXIT_ON_STDIN_CLOSE": "1",
        }
        environment = {f"TOR_PT_{name}": value for name, value in (state | side).items()}
        with Start("tor-pt", environment=environment) as start:
            return [start.until_said(said)]

    def shadowsocks(options: str, own: str, other: str) -> list[Sample]:
        own_port = free_port()
        where = {f"SS_{own}_HOST": HOST, f"SS_{own}_PORT": str(own_port), f"SS_{other}_HOST": HOST}
        environment = where | {f"SS_{other}_PORT": str(free_port()), "SS_PLUGIN_OPTIONS": options}
        with Start("sip003", environment=environment) as start:
            return [start.until_open(own_port)]

    state = folder / "ss"
    options = link_of_a_plugin(state)
    yield {
        "client": client,
        "bridge": bridge,
        "tor-pt client": lambda: tor(b"CMETHODS DONE", CLIENT_TRANSPORTS=TRANSPORTS),
        "tor-pt bridge": lambda: tor(
            b"SMETHODS DONE",
            SERVER_TRANSPORTS="ptproxy",
            SERVER_BINDADDR=f"ptproxy-{HOST}:0",
            ORPORT=f"{HOST}:1",
        ),
        "sip003 client": lambda: shadowsocks(options, "LOCAL", "REMOTE"),
        "sip003 server": lambda: shadowsocks(f"server;state={state}", "REMOTE", "LOCAL"),
    }


def link_of_a_plugin(state: Path) -> str:
    """The options of clients, as a server writes them at its first start."""
    where = {"SS_REMOTE_HOST": HOST, "SS_REMOTE_PORT": str(free_port()), "SS_LOCAL_HOST": HOST}
    environment = where | {"SS_LOCAL_PORT": "1", "SS_PLUGIN_OPTIONS": f"server;state={state}"}
    with Start("sip003", environment=environment) as start:
        while not (state / "client-options").exists():
            start.still()
            time.sleep(0.01)
        return (state / "client-options").read_text().strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", type=int, default=20, help="starts of each (20)")
    parser.add_argument("only", nargs="*", help="names of rows; all")
    options = parser.parse_args()
    print(f"{options.n} starts each; ms             wall: median    most    CPU: median    most")
    with tempfile.TemporaryDirectory() as folder, roles(Path(folder)) as measured:
        for name, once in measured.items():
            if options.only and name not in options.only:
                continue
            once()
            rows = zip(*(once() for _ in range(options.n)), strict=True)
            for label, samples in zip((name, f"{name}, tunnel"), rows, strict=False):
                wall, used = zip(*samples, strict=True)
                print(
                    f"{label:24}{statistics.median(wall):18.0f}{max(wall):8.0f}"
                    f"{statistics.median(used):15.0f}{max(used):8.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
