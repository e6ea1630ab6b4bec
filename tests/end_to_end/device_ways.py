"""Run inside a network of its own by ``test_e2e_plug_device.py``: a device, and the world that it is part of.

This network is the device, ``eth0`` its card. At the card's other end is the namespace ``world``: the bridge,
a web server, UDP, a name server, and a capture of every packet that leaves or enters the device. The world
would answer whoever asks it directly; a run without the tunnel shows so. What is run in between are the
recipes of ``ptproxy/proxy/PROGRAMS.md``, word for word. Arguments: a folder, bytes to fetch. Prints one
JSON object.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import random
import re
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

from live import ENVIRONMENT, HOST, PATIENCE, ROOT, Bridge, Client, Program, until

RECIPES = ROOT / "ptproxy" / "proxy" / "PROGRAMS.md"
BRIDGE, CARD = "10.77.0.1", "10.77.0.2"
PORT = 4443
SITE, SITE6, RESOLVER = "198.51.100.7", "2001:db8::7", "9.9.9.9"
NAMES = {"page.test": SITE, "page6.test": SITE6}
IPV4, IPV6 = 0x0800, 0x86DD
ICMPV6 = 58
SO_ATTACH_FILTER, SOL_PACKET, PACKET_STATISTICS = 26, 263, 6
"""From Linux's headers; Python names none of them."""
_AT_BRIDGE = struct.unpack(">I", socket.inet_aton(BRIDGE))[0]
# Classic BPF (code, jump if true, jump if false, value) on an Ethernet frame: TCP over IPv4 with the bridge's
# address and port at either end is left out, everything else is kept.
NOT_THE_TUNNEL = (
    (0x28, 0, 0, 12), (0x15, 0, 11, IPV4),        # its type
    (0x30, 0, 0, 23), (0x15, 0, 9, 6),            # its protocol
    (0x20, 0, 0, 26), (0x15, 2, 0, _AT_BRIDGE),   # from the bridge, or
    (0x20, 0, 0, 30), (0x15, 0, 5, _AT_BRIDGE),   # to it
    (0xB1, 0, 0, 14),                             # where TCP begins
    (0x48, 0, 0, 14), (0x15, 3, 0, PORT),         # from its port, or
    (0x48, 0, 0, 16), (0x15, 1, 0, PORT),         # to it
    (0x06, 0, 0, 0xFFFF),                         # kept
    (0x06, 0, 0, 0),                              # left out
)  # fmt: skip

WORLD = f"""
ip netns add world
ip link add eth0 type veth peer name far netns world
ip addr add {CARD}/24 dev eth0
ip link set eth0 up
ip -n world addr add {BRIDGE}/24 dev far
ip -n world link set lo up
ip -n world link set far up
ip -n world addr add {SITE}/32 dev lo
ip -n world addr add {RESOLVER}/32 dev lo
ip -n world addr add {SITE6}/128 dev lo nodad
ip route add default via {BRIDGE}
"""
CARD_OUTSIDE = f"""
ip -n outside addr add {CARD}/24 dev eth0
ip -n outside link set eth0 up
ip -n outside route add default via {BRIDGE}
"""
TO_ITS_END = """
echo done
read asked
jobs -p >jobs
kill $(cat jobs)
wait || true
"""
FETCH = """
import hashlib, sys
from urllib.request import urlopen
data = urlopen(sys.argv[1], timeout=60).read()
print(len(data), hashlib.sha256(data).hexdigest())
"""
ASK = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(60)
sock.sendto(b"over UDP", ("198.51.100.7", 7777))
print(sock.recv(100).decode())
"""


def recipe(heading: str) -> list[str]:
    """The commands under a heading, block by block, for the one user that the tests have."""
    section = RECIPES.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [
        block.replace("runuser -u anna -- ", "") for block in re.findall(r"```sh\n(.*?)```", section, re.S)
    ]


# ---- the world ------------------------------------------------------------------------------------


def answer(query: bytes) -> bytes:
    """What a name server says (RFC 1035 section 4): the address of that kind, or that there is none."""
    end = query.index(0, 12) + 5
    labels, at = [], 12
    while size := query[at]:
        labels.append(query[at + 1 : at + 1 + size].decode())
        at += size + 1
    kind = struct.unpack_from(">H", query, at + 1)[0]
    address = NAMES.get(".".join(labels))
    family, wanted = (socket.AF_INET6, 28) if address and ":" in address else (socket.AF_INET, 1)
    found = address is not None and kind == wanted
    head = query[:2] + struct.pack(">HHHHH", 0x8180 if address else 0x8183, 1, int(found), 0, 0)
    record = b""
    if found:
        data = socket.inet_pton(family, address)
        record = struct.pack(">HHHIH", 0xC00C, kind, 1, 60, len(data)) + data
    return head + query[12:end] + record


def live_in_the_world(size: int) -> None:
    """In ``world``: pages, names, UDP and the capture, which tells on request what it has seen."""
    page = random.Random(size).randbytes(size)
    head = f"HTTP/1.0 200 OK\r\nContent-Length: {size}\r\n\r\n".encode()

    def serve(sock: socket.socket) -> None:
        while True:
            connection, _ = sock.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(head + page)

    def echo(sock: socket.socket, how) -> None:
        while True:
            data, address = sock.recvfrom(65536)
            sock.sendto(how(data), address)

    for family, address in ((socket.AF_INET, SITE), (socket.AF_INET6, SITE6)):
        web = socket.socket(family, socket.SOCK_STREAM)
        web.bind((address, 80))
        web.listen()
        threading.Thread(target=serve, args=(web,), daemon=True).start()
    for address, port, how in ((RESOLVER, 53, answer), (SITE, 7777, bytes.upper)):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, port))
        threading.Thread(target=echo, args=(sock, how), daemon=True).start()
    card = Card()
    print("ready", flush=True)
    while sys.stdin.readline():
        print(json.dumps(card.seen()), flush=True)


class Card:
    """Every packet at the world's end of the device's card."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        # What belongs to the tunnel is left out in the kernel: so the rest has room, however busy we are.
        program = b"".join(struct.pack("=HBBI", *step) for step in NOT_THE_TUNNEL)
        memory = ctypes.create_string_buffer(program)
        fprog = struct.pack("HP", len(NOT_THE_TUNNEL), ctypes.addressof(memory))
        self._sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
        self._sock.bind(("far", 0))
        self._sock.setblocking(False)
        self._frames = self._counted()

    def seen(self) -> dict[str, object]:
        """Since it was last asked: what went beside the tunnel, packets lost to us, packets of any kind."""
        beside = []
        with contextlib.suppress(BlockingIOError):
            while True:
                if what := described(self._sock.recv(1 << 16)):
                    beside.append(what)
        _, lost = struct.unpack("II", self._sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        before, self._frames = self._frames, self._counted()
        return {"beside": beside, "lost": lost, "packets": self._frames - before}

    def _counted(self) -> int:
        """Packets that the interface has counted, both ways."""
        (line,) = [
            row for row in Path("/proc/net/dev").read_text().splitlines() if row.strip().startswith("far:")
        ]
        fields = line.split(":")[1].split()
        return int(fields[1]) + int(fields[9])


def described(frame: bytes) -> str | None:
    """What a packet is; None for what a card says by itself."""
    kind = struct.unpack_from(">H", frame, 12)[0]
    packet = frame[14:]
    if kind == IPV4:
        protocol, ends = packet[9], [socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])]
        ports = struct.unpack_from(">HH", packet, 4 * (packet[0] & 15)) if protocol in (6, 17) else ()
        return f"protocol {protocol}, {ends}, ports {list(ports)}"
    if kind == IPV6 and packet[6] in (0, ICMPV6) and packet[24] == 0xFF:
        return None  # neighbours and groups: multicast of the link (RFC 4861, RFC 3810)
    return f"IPv6, next header {packet[6]}" if kind == IPV6 else None  # ARP


# ---- the device -----------------------------------------------------------------------------------


class Device:
    """What is done on the device, and what is then seen outside."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.world = Program(
            "world", ["ip", "netns", "exec", "world", sys.executable, __file__, "world", str(size)], folder,
            stdin=subprocess.PIPE,
        )  # fmt: skip
        self.world.hear(b"ready\n")

    def seen(self) -> dict[str, object]:
        """What the capture has seen since it was last asked."""
        self.world.said = b""
        self.world.process.stdin.write(b"\n")
        self.world.process.stdin.flush()
        return json.loads(self.world.hear(rb"\{.*\}\n")[0])

    def run(self, program: str, *arguments: str, inside: str | None) -> str:
        """Python that knows no proxy: what it says, or how it failed."""
        prefix = ["ip", "netns", "exec", inside] if inside else []
        done = subprocess.run(
            [*prefix, sys.executable, "-c", program, *arguments],
            env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=3 * PATIENCE, check=False,
        )  # fmt: skip
        return done.stdout.strip() if done.returncode == 0 else f"failed: {done.stderr.strip()[-200:]}"

    def tour(self, inside: str | None) -> dict[str, object]:
        """A page by name over IPv4 and over IPv6, and a datagram; and what was seen of it."""
        self.seen()
        page = self.run(FETCH, "http://page.test/", inside=inside)
        seen = [self.seen()]  # asked for in between: without a tunnel a page is more than the capture holds
        page6 = self.run(FETCH, "http://page6.test/", inside=inside)
        udp = self.run(ASK, inside=inside)
        seen.append(self.seen())
        return {"page": page, "page6": page6, "udp": udp, "seen": seen}

    def shell(self, name: str, commands: str) -> Program:
        """Run commands as a person would; what they leave in the background belongs to the program."""
        (self.folder / "bin").mkdir(exist_ok=True)
        ptproxy = self.folder / "bin" / "ptproxy"
        ptproxy.write_text(f'#!/bin/sh\nexec {sys.executable} -m ptproxy "$@"\n')
        ptproxy.chmod(0o755)
        path = os.pathsep.join((str(ptproxy.parent), str(Path(sys.executable).parent), ENVIRONMENT["PATH"]))
        where = {"PATH": path, "PYTHONPATH": str(ROOT)}
        script = f"set -e\ncd {self.folder}\n{commands}\n{TO_ITS_END}"
        program = Program(name, ["sh", "-c", script], self.folder, env=where, stdin=subprocess.PIPE)
        program.ready(rb"done\n")
        return program


def end(program: Program) -> None:
    """Let a shell go, and all that it has left in the background."""
    program.process.stdin.write(b"\n")
    program.process.stdin.flush()
    program.wait()
    program.stop()


def main(folder: Path, size: int) -> None:
    subprocess.run(["sh", "-ec", WORLD], env=ENVIRONMENT, check=True)
    bridge = Bridge(folder / "bridge", address=f"{BRIDGE}:{PORT}")
    bridge.change(egress__allow=[SITE, SITE6, RESOLVER], limits__drain="0s")
    client = Client(
        folder / "client", bridge.link, "websocket",
        shape="none", tls__fingerprint="python", listen=f"{HOST}:1080", limits__drain="0s",
    )  # fmt: skip
    at_the_bridge = Program(
        "bridge",
        ["ip", "netns", "exec", "world", sys.executable, "-m", "ptproxy", "bridge", "-c", bridge.config],
        folder,
    )
    at_the_bridge.ready(rb"listening on .*\n")
    device = Device(folder, size)
    page = random.Random(size).randbytes(size)
    said: dict[str, object] = {"expected": f"{size} {hashlib.sha256(page).hexdigest()}"}
    Path("/etc/resolv.conf").write_text(f"nameserver {RESOLVER}\n")
    said["directly"] = device.tour(None)  # what a leak would look like

    client.start()
    (shell,) = recipe("Everything that a shell starts")
    running = device.shell("shell", shell)
    said["shell"] = device.tour("tunnel")
    said["devices"] = subprocess.run(
        ["ip", "-n", "tunnel", "-o", "link"], env=ENVIRONMENT, capture_output=True, text=True, check=True
    ).stdout
    client.stop()
    device.seen()
    said["without client"] = device.run(FETCH, f"http://{SITE}/", inside="tunnel")
    end(running)
    said["without tun2socks"] = device.run(FETCH, f"http://{SITE}/", inside="tunnel")
    said["seen without"] = device.seen()

    before, after = recipe("The whole device")
    running = device.shell("device", before + CARD_OUTSIDE + after)
    outside = [
        "ip",
        "netns",
        "exec",
        "outside",
        sys.executable,
        "-c",
        f"import socket; socket.create_connection(('{HOST}', 1080))",
    ]
    until(
        lambda: subprocess.run(outside, env=ENVIRONMENT, capture_output=True, check=False).returncode == 0,
        "a client",
    )
    said["device"] = device.tour(None)
    end(running)
    for program in (device.world, at_the_bridge):
        program.stop()
    print(json.dumps(said))


if __name__ == "__main__":
    if sys.argv[1] == "world":
        live_in_the_world(int(sys.argv[2]))
    else:
        main(Path(sys.argv[1]), int(sys.argv[2]))
