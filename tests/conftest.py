"""What all tests share: the marker for tests that need a real program, and how property tests run."""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import HealthCheck, settings

SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
"""Where programs are looked for; Debian keeps servers outside a user's path."""

# A loaded machine is slow, and that is no fault; what failed is printed so that it can be repeated.
settings.register_profile(
    "ptproxy", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("ptproxy")


@pytest.fixture(autouse=True, scope="session")
def _these_tests_stay_as_they_are():
    """Commands that run inside the tests' own process do not confine it: that would be for good."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ptproxy.proxy.confine.confine", lambda **_: ())
        yield


MOST_SHOWN = 64
"""Bytes of a parameter that a test's name shows."""


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Long bytes have a number for a name: what holds a time or a signature is another in each worker."""
    return argname if isinstance(val, bytes) and len(val) > MOST_SHOWN else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """``@pytest.mark.program("curl")``: skipped by name without curl; with ``CI=true`` that is a failure."""
    for marker in item.iter_markers("program"):
        for name in marker.args:
            if shutil.which(name, path=SEARCH_PATH) is None:
                if os.environ.get("CI") == "true":
                    pytest.fail(f"{name} is not installed, and CI must not skip what needs it", pytrace=False)
                pytest.skip(f"{name} is not installed")
