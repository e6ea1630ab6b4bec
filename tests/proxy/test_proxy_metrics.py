"""Measures: Prometheus' own parser reads them, and nobody's name or address is in them."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from proxy_live import LOOPS, Program, run
from test_proxy_roles import Files, Running

from ptproxy.config.model import MetricsConfig
from ptproxy.proxy.bridge import run_bridge
from ptproxy.proxy.client import run_client
from ptproxy.proxy.control_asking import Asking
from ptproxy.proxy.metrics_port import page_at
from ptproxy.proxy.metrics_roles import bridge_metrics, client_metrics
from ptproxy.proxy.metrics_text import Metric, exposition

CONFIGS = Path(__file__).parent.parent.parent / "configs"


def families(text: bytes) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


# ---- the text -----------------------------------------------------------------------------------------


@given(
    st.dictionaries(st.text(max_size=20), st.floats(allow_nan=False) | st.integers(-(2**50), 2**50)),
    st.text(max_size=50).map(lambda text: text.replace("\r", "")),
)
def test_prometheus_reads_what_is_written(values: dict[str, float], text: str) -> None:
    written = exposition([Metric("x_bytes", "gauge", text, by="kind", values=values)])
    found = families(written).get("x_bytes")
    assert {s.labels["kind"]: s.value for s in found.samples} == values if values else found is None


def test_names_are_prometheus_own() -> None:
    for name, kind in (("9x", "gauge"), ("a-b", "gauge"), ("x_total", "gauge"), ("x", "counter")):
        with pytest.raises(ValueError, match=r"name of a metric|in _total"):
            Metric(name, kind, "")
    assert exposition([Metric("x", "gauge", "not known")]) == b""


# ---- of roles -----------------------------------------------------------------------------------------


async def measured(files: Files) -> tuple[dict[str, Any], dict[str, Any]]:
    """The states of a bridge and its client."""
    bridge = Running(run_bridge, files.bridge())
    await bridge.ready()
    client = Running(run_client, files.client(shape="none"))
    await client.ready()

    def ask(role: str) -> dict[str, Any]:
        with Asking(files.folder / f"{role}-state") as running:
            return running.ask("state")

    states = await asyncio.to_thread(ask, "bridge"), await asyncio.to_thread(ask, "client")
    for role in (client, bridge):
        role.task.cancel()
    await asyncio.gather(client.task, bridge.task, return_exceptions=True)
    return states


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    return asyncio.run(measured(Files(tmp_path_factory.mktemp("roles"))))


def test_they_say_how_many_and_never_who(states: tuple[dict[str, Any], dict[str, Any]]) -> None:
    bridge, client = states
    bridge["reload"] = client["reload"] = {"at": 1.0, "changed": [], "problems": []}
    bridge["clients"].append(bridge["clients"][0] | {"name": "a-name-to-look-for"})
    texts = bridge_metrics(bridge), client_metrics(client)
    for text in texts:
        for word in (b"anna", b"localhost", b"127.0.0.1", b"a-name-to-look-for"):
            assert word not in text
    of_bridge, of_client = map(families, texts)
    assert of_bridge["ptproxy_bridge_clients"].samples[0].value == 1
    assert of_client["ptproxy_client_connected"].samples[0].value == 1
    ways = {s.labels["degree"]: s.value for s in of_client["ptproxy_client_ways"].samples}
    assert ways["open"] == 1
    assert ways["silent"] == 0
    labels = {
        (family.name, name)
        for text in (of_bridge, of_client)
        for family in text.values()
        for sample in family.samples
        for name in sample.labels
    }
    assert {name for _, name in labels} == {"direction", "codec", "kind", "degree"}


def test_what_ships_asks_only_for_what_there_is(states: tuple[dict[str, Any], dict[str, Any]]) -> None:
    bridge, client = states
    bridge["reload"] = client["reload"] = {"at": 1.0, "changed": [], "problems": []}
    known = {
        line.split()[2]
        for text in (bridge_metrics(bridge), client_metrics(client))
        for line in text.decode().splitlines()
        if line.startswith("# TYPE")
    }
    alerts = yaml.safe_load((CONFIGS / "prometheus" / "alerts.yaml").read_text())
    rules = [rule for group in alerts["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 5
    assert all({"summary", "description"} <= rule["annotations"].keys() for rule in rules)
    dashboard = json.loads((CONFIGS / "grafana" / "ptproxy.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert len(queries) > 10
    for expression in (*(rule["expr"] for rule in rules), *queries):
        names = set(re.findall(r"\bptproxy_\w+", expression))
        assert names <= known, names - known


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_the_port(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(tmp_path)

    async def main() -> None:
        place = f"127.0.0.1:{files.port}"
        bridge = Running(run_bridge, files.bridge(listen="127.0.0.2:0", metrics={"listen": place}))
        await bridge.ready()
        for path, status, word in (
            ("/metrics", b"200", b"\nptproxy_streams 0\n"),
            ("/healthz", b"200", b'"healthy": true'),
            ("/state", b"404", b""),
        ):
            with await Program.connect(("127.0.0.1", files.port)) as program:
                await program.send(f"GET {path} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
                answer = await program.read_all()
                assert answer.split(b" ")[1] == status
                assert word in answer
        with await Program.connect(("127.0.0.1", files.port)) as program:
            await program.send(b"GET /metrics HTTP/1.1\r\nHost: attacker.example\r\n\r\n")
            assert (await program.read_all()).startswith(b"HTTP/1.1 400")
        second = Running(
            run_bridge, files.bridge(listen="127.0.0.2:0", state="second", metrics={"listen": place})
        )
        assert "another program listens there" in await second.fails()
        bridge.task.cancel()
        await asyncio.gather(bridge.task, return_exceptions=True)

    run(kind, monkeypatch, main)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")
def test_a_unix_socket_and_a_client_without_a_bridge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(tmp_path)

    async def main() -> None:
        bridge = Running(run_bridge, files.bridge(metrics={"listen": "unix:measures"}))
        await bridge.ready()
        assert stat.S_IMODE((tmp_path / "measures").stat().st_mode) == 0o660
        reader, writer = await asyncio.open_unix_connection(tmp_path / "measures")
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
        bridge.task.cancel()
        await asyncio.gather(bridge.task, return_exceptions=True)
        assert not (tmp_path / "measures").exists()

    run("asyncio", monkeypatch, main)


def test_bad_health_is_a_status_that_balancers_know() -> None:
    class Ill:
        def metrics(self) -> bytes:
            return b""

        def health(self) -> dict[str, Any]:
            return {"healthy": False, "why": "blocked"}

    page = page_at("/healthz", Ill())
    assert page is not None
    assert page.status.startswith(b"503")
    assert json.loads(page.body)["why"] == "blocked"


@pytest.mark.parametrize("place", ["0.0.0.0:9464", "192.0.2.1:9464", "[::]:9464"])
def test_only_this_machine(place: str) -> None:
    with pytest.raises(ValueError, match="how many use a bridge"):
        MetricsConfig.model_validate({"listen": place})
