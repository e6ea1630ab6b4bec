"""What a process gives up at its start: asked of the kernel, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")

SCRIPT = """
import ctypes, resource
{before}
from ptproxy.proxy.confine import confine
missing = confine({arguments})
prctl = ctypes.CDLL(None).prctl
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
core = resource.getrlimit(resource.RLIMIT_CORE)
print(missing, prctl(39, 0, 0, 0, 0), prctl(3, 0, 0, 0, 0), core, soft == hard)
"""
"""Asks PR_GET_NO_NEW_PRIVS (39) and PR_GET_DUMPABLE (3)."""


def said(before: str = "", arguments: str = "") -> str:
    script = SCRIPT.format(before=before, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_no_core_no_looking_in_no_new_rights_all_descriptors() -> None:
    low = "_, most = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
    low += "resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))"
    assert said(low) == "() 1 0 (0, 0) True"


def test_a_browsers_sandbox_may_gain_rights() -> None:
    assert said(arguments="may_gain=True") == "() 0 0 (0, 0) True"


def test_what_the_system_does_not_do_is_named() -> None:
    blind = "ctypes.CDLL = type('None', (), {'__init__': lambda self, *_, **__: None})"
    before = f"real = ctypes.CDLL\n{blind}"
    script = SCRIPT.format(before=before, arguments="").replace("prctl = ", "ctypes.CDLL = real\nprctl = ")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("('memory closed to others', 'no new privileges') 0 1 (0, 0)")
