"""Fixtures of the end-to-end tests, and the logs of what they started when one fails."""

from __future__ import annotations

import pytest
from live import Bridge, Clients, Echo, Program, serving

SHOWN = 6000
"""Characters of each log's end that a failure shows."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for program in Program.started:
            text = program.logged()[-SHOWN:]
            if text:
                report.sections.append((f"log of {program.name}", text))
    return report


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of the module's own, with a short name: Unix sockets have little room for theirs."""
    return tmp_path_factory.mktemp("e2e")


@pytest.fixture(scope="module")
def bridge(folder):
    """One open bridge for the module."""
    with Bridge(folder / "bridge") as bridge:
        yield bridge


@pytest.fixture(scope="module")
def clients(folder, bridge):
    """``clients["http"]``: one client a codec for the module."""
    clients = Clients(folder, bridge.link)
    yield clients
    clients.stop()


@pytest.fixture(scope="module")
def echo():
    """The port of a server that sends everything back."""
    with serving(Echo) as port:
        yield port
