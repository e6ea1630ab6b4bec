"""What ``ptproxy doctor`` finds, and the looks at this machine that a client and a bridge have in common.

Nothing here sends anything: the clock is asked of the kernel, the size of packets of the route.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import shutil
import socket
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ptproxy.addresses import is_public
from ptproxy.errors import why

LEAST_ROOM: Final = 50 << 20
"""Bytes of disk below which state and logs may soon not be written."""
LEAST_MTU: Final = 1280
"""Bytes of a packet that every network must carry (RFC 8200 section 5); some tunnels carry less."""
LEAST_DESCRIPTORS: Final = 4096
"""Descriptors below which a busy role runs out: a stream takes two at a client."""
EARLIEST: Final = 1_750_000_000.0
"""Unix seconds before which no clock can be right: this program is younger."""
_TIME_ERROR: Final = 5
_IP_MTU: Final = 14
_IPV6_MTU: Final = 24

Kind = Literal["fine", "warning", "bad", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    kind: Kind
    text: str
    advice: str = ""
    """What to do, where anything is to be done."""


def state_folder(path: Path) -> Iterator[Finding]:
    """Whether a role can keep its state there."""
    folder = path
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if folder == path:
        mode = stat.S_IMODE(path.stat().st_mode)
        if sys.platform != "win32" and mode & 0o077:
            yield Finding(
                "permissions",
                "warning",
                f"others can look into {path} (mode {mode:04o})",
                f"chmod 0700 {path}",
            )
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding(
            "state", "bad", f"{folder} cannot be written",
            "give the folder to the user that ptproxy runs as, or set another one (state:)",
        )  # fmt: skip
        return
    room = shutil.disk_usage(folder).free
    if room < LEAST_ROOM:
        yield Finding(
            "state", "bad" if room < 1 << 20 else "warning", f"{room >> 20} MiB of disk are left at {folder}",
            "make room: without it keys, access list and logs cannot be written",
        )  # fmt: skip
    else:
        yield Finding("state", "fine", f"{path} can be written")


def clock() -> Finding:
    """What the kernel knows of its clock; how far it is off only somebody else can tell."""
    if time.time() < EARLIEST:
        return Finding(
            "clock",
            "bad",
            time.strftime("it says %Y-%m-%d", time.gmtime()),
            "set date and time of this machine",
        )
    buffer = ctypes.create_string_buffer(512)  # struct timex has 208 bytes; modes = 0 reads
    with contextlib.suppress(OSError, AttributeError):
        if ctypes.CDLL(None).adjtimex(buffer) == _TIME_ERROR:
            return Finding(
                "clock", "unknown", "nothing keeps this machine's clock",
                "a bridge takes openings within 60 s of its own time: run systemd-timesyncd, chrony or ntpd",
            )  # fmt: skip
    return Finding("clock", "fine", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()))


def descriptors() -> Finding:
    """How many descriptors a role may open."""
    try:
        import resource
    except ImportError:
        return Finding("descriptors", "unknown", "this system does not tell")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < LEAST_DESCRIPTORS:
        return Finding(
            "descriptors", "warning", f"only {most} may be open", "raise the limit: LimitNOFILE=, ulimit -n"
        )
    return Finding("descriptors", "fine", "enough")


def packets(address: str) -> Finding | None:
    """How large a packet the route there takes; nothing is sent. None where the system does not tell."""
    version = ipaddress.ip_address(address).version
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    level, option = (socket.IPPROTO_IPV6, _IPV6_MTU) if version == 6 else (socket.IPPROTO_IP, _IP_MTU)
    if sys.platform != "linux":
        return None
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((address, 443))  # chooses a route, and no more
            size = sock.getsockopt(level, option)
    except OSError as error:
        return Finding(
            "route",
            "bad",
            f"there is no way to the address: {why(error)}",
            "connect this machine to a network",
        )
    if size < LEAST_MTU:
        return Finding(
            "packets", "warning", f"the route takes packets of {size} bytes only",
            "if connections stand and then nothing comes: set the interface's MTU to 1280 or more",
        )  # fmt: skip
    return Finding("packets", "fine", f"the route takes packets of {size} bytes")


def odd_addresses(found: list[str]) -> list[str]:
    """Those that no server on the Internet has: blocked names are often answered with such."""
    return [each for each in found if not is_public(ipaddress.ip_address(each))]


def is_self(host: str) -> bool:
    """Whether an address is this machine's: a trial."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def worst(findings: list[Finding]) -> int:
    """The exit status: 1 where anything is bad."""
    return int(any(finding.kind == "bad" for finding in findings))


def user() -> str:
    """Who looks: permissions depend on it."""
    return f"user {os.geteuid()}" if hasattr(os, "geteuid") else "this user"
