"""Run a command confined as a systemd unit says: ``python confined.py UNIT COMMAND ...``.

Where there is no systemd to do it, the kernel does what it would: no new privileges, no core dumps, no memory
that is written and then run (Linux 6.3 and later), only the system calls and address families of the unit.
"""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

NO_NEW_PRIVS, MDWE, REFUSE_EXEC_GAIN = 38, 65, 1  # prctl(2)
ALLOW, ERRNO, EQUAL = 0x7FFF0000, 0x00050000, 4  # seccomp.h of libseccomp
EPERM, EINVAL = 1, 22


class Comparison(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def settings_of(unit):
    """What a unit's service says: each key's values in their order."""
    settings = {}
    section = ""
    for line in unit.read_text().splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            key, _, value = line.partition("=")
            settings.setdefault(key, []).append(value)
    return settings


def groups():
    """The named groups of system calls that systemd knows."""
    said = subprocess.run(
        ["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True
    ).stdout
    found, name = {}, ""
    for line in said.splitlines():
        if line.startswith("@"):
            name = line.strip()
            found[name] = []
        elif line.startswith("    ") and not line.strip().startswith("#"):
            found[name].append(line.strip())
    return found


def allowed_calls(filters):
    """The system calls that lines of SystemCallFilter= leave, in their order: one with ~ takes away."""
    known = groups()

    def expand(word):
        return {call for each in known[word] for call in expand(each)} if word.startswith("@") else {word}

    allowed = set()
    for line in filters:
        named = {call for word in line.removeprefix("~").split() for call in expand(word)}
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


def filter_calls(calls, families):
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ERRNO | EPERM))
    assert context

    def allow(call, *comparisons):
        number = library.seccomp_syscall_resolve_name(call.encode())
        array = (Comparison * len(comparisons))(*comparisons)
        if number >= 0:  # else another machine's
            assert library.seccomp_rule_add_array(context, ALLOW, number, len(comparisons), array) == 0, call

    for call in sorted(calls - {"socket"}):
        allow(call)
    for family in families:
        allow("socket", Comparison(0, EQUAL, getattr(socket, family), 0))
    assert library.seccomp_load(context) == 0


def confine(unit):
    settings = settings_of(unit)
    kernel = ctypes.CDLL(None, use_errno=True)
    if settings.get("NoNewPrivileges") == ["yes"]:
        assert kernel.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    if "LimitCORE" in settings:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if settings.get("MemoryDenyWriteExecute") == ["yes"] and kernel.prctl(MDWE, REFUSE_EXEC_GAIN, 0, 0, 0):
        assert ctypes.get_errno() == EINVAL, "this kernel refuses"
    os.umask(int(settings["UMask"][0], 8))
    filter_calls(
        allowed_calls(settings["SystemCallFilter"]), " ".join(settings["RestrictAddressFamilies"]).split()
    )


if __name__ == "__main__":
    confine(Path(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
