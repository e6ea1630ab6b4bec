"""Root becomes an ordinary user, for good (``user:`` and ``group:`` of a bridge or directory node).

A process that was started as root keeps nothing of it: real, effective and saved ids, the one group, no
supplementary groups, no capabilities. That it cannot come back is tried, not believed.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ptproxy.errors import StartError, why
from ptproxy.proxy.confine import close_memory

CAPABILITIES: Final = ("CapPrm", "CapEff", "CapAmb")
"""Sets of /proc/self/status that must be empty; what may be inherited is worth nothing with no_new_privs."""


@dataclass(frozen=True, slots=True)
class RunAs:
    """Whom a process becomes."""

    user: str
    uid: int
    gid: int
    home: str

    @classmethod
    def of(cls, user: str, group: str | None) -> RunAs:
        """The user of that name, with its own group or that ``group`` alone.

        Raises :class:`~ptproxy.errors.StartError` for one that this machine does not know, and for root.
        """
        try:
            import grp  # noqa: PLC0415  (not on every system)
            import pwd  # noqa: PLC0415
        except ImportError:
            raise StartError("user: this system has no users to become: leave the line out") from None
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise StartError(
                f"user: this machine has no user {user!r}; make one (useradd --system {user}), "
                "or write another name"
            ) from None
        try:
            gid = entry.pw_gid if group is None else grp.getgrnam(group).gr_gid
        except KeyError:
            raise StartError(f"group: this machine has no group {group!r}") from None
        if entry.pw_uid == 0 or gid == 0:
            field = "user" if entry.pw_uid == 0 else "group"
            raise StartError(f"{field}: that is root's, which is what is to be given up")
        return cls(user, entry.pw_uid, gid, entry.pw_dir)

    @property
    def is_us(self) -> bool:
        """Whether this process runs as that user already."""
        return os.getuid() == os.geteuid() == self.uid

    def become(self) -> None:
        """Become that user; root can before, and can never again. Raises StartError.

        To be called before any thread is started. After a StartError the process must end: it may be
        half of both.
        """
        try:
            os.setgroups([self.gid])
            _for_good(os, "setresgid", "setgid", self.gid)
            _for_good(os, "setresuid", "setuid", self.uid)
        except OSError as error:
            raise StartError(f"user: cannot become {self.user}: {why(error)}") from None
        if left := self.left_over():
            raise StartError(f"user: root was not given up whole: {left}")
        for _ in close_memory():  # another user's process is open again
            raise StartError("user: the process' memory cannot be closed to others")
        os.environ.update(HOME=self.home, USER=self.user, LOGNAME=self.user)

    def left_over(self) -> str:
        """What of root is still there, or can be had again; empty: nothing."""
        ways: dict[str, Callable[[], None]] = {
            "setuid": lambda: os.setuid(0),
            "seteuid": lambda: os.seteuid(0),
            "setgid": lambda: os.setgid(0),
            "setegid": lambda: os.setegid(0),
            "setgroups": lambda: os.setgroups([0]),
        }
        for name, come_back in ways.items():
            with contextlib.suppress(PermissionError):
                come_back()
                return f"{name} leads back"
        if {os.getuid(), os.geteuid()} != {self.uid} or {os.getgid(), os.getegid()} != {self.gid}:
            return "its ids are others"
        if sys.platform == "linux" and (set(os.getresuid()), set(os.getresgid())) != ({self.uid}, {self.gid}):
            return "its saved ids are others"
        if set(os.getgroups()) - {self.gid}:
            return "its groups are others"
        return _capabilities()


def _for_good(system: object, precise: str, usual: str, number: int) -> None:
    """Real, effective and saved id; where there is no call for all three, root's usual one sets them."""
    call = getattr(system, precise, None)
    if call is not None:
        call(number, number, number)
    else:
        getattr(system, usual)(number)


def _capabilities() -> str:
    """The sets of capabilities that are not empty; empty: none is, or this system has none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in CAPABILITIES and int(value, 16):
                return f"{name} is {value.strip()}"
    return ""
