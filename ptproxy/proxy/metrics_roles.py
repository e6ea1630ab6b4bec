"""The measures of a bridge and of a client, from what ``ptproxy status`` tells of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ptproxy.proxy.metrics_text import Metric, exposition
from ptproxy.ways import Degree

State = Mapping[str, Any]


def bridge_metrics(state: State) -> bytes:
    """For one answer."""
    return exposition((*_process(state), *_bridge(state)))


def client_metrics(state: State) -> bytes:
    """For one answer."""
    return exposition((*_process(state), *_client(state)))


def _process(state: State) -> Iterator[Metric]:
    process, moved = state["process"], state["moved"]
    yield Metric("ptproxy_start_time_seconds", "gauge", "When the process began.", process["began_at"])
    yield Metric("ptproxy_cpu_seconds_total", "counter", "Processor time used.", process["cpu"])
    yield Metric("ptproxy_resident_memory_bytes", "gauge", "Memory of the process.", process["resident"])
    yield Metric("ptproxy_open_fds", "gauge", "Descriptors open.", process["descriptors"])
    yield Metric("ptproxy_max_fds", "gauge", "Descriptors there may be.", process["most_descriptors"])
    yield Metric(
        "ptproxy_tunnel_bytes_total", "counter", "Bytes of frames through carriers, without their cover.",
        by="direction", values={"sent": moved["sent"], "received": moved["received"]},
    )  # fmt: skip
    yield Metric("ptproxy_carriers_ended_total", "counter", "Carriers that have ended.", moved["carriers"])
    yield Metric("ptproxy_carriers", "gauge", "Carriers open.", by="codec", values=state["carriers"])
    yield Metric("ptproxy_streams", "gauge", "Streams open.", state["streams"])
    last = state["reload"]
    if last is not None:
        yield Metric("ptproxy_last_reload_time_seconds", "gauge", "When the last reload was.", last["at"])
        yield Metric(
            "ptproxy_last_reload_successful", "gauge", "Whether the last reload was taken (1), not refused.",
            not last["problems"],
        )  # fmt: skip


def _bridge(state: State) -> Iterator[Metric]:
    memory, accounts, sessions = state["memory"], state["accounts"], state["sessions"]
    yield Metric("ptproxy_bridge_clients", "gauge", "Clients connected, by their keys.", state["known"])
    yield Metric(
        "ptproxy_bridge_sessions", "gauge", "Sessions, those without carriers too.", sessions["open"]
    )
    yield Metric("ptproxy_bridge_max_sessions", "gauge", "Sessions there may be.", sessions["limit"])
    yield Metric("ptproxy_bridge_egress_streams", "gauge", "Streams to targets.", state["leaving"])
    yield Metric("ptproxy_bridge_strangers", "gauge", "Visitors of the web site.", state["strangers"])
    yield Metric(
        "ptproxy_bridge_undecided", "gauge", "Connections of which it is not known whose they are.",
        state["undecided"],
    )  # fmt: skip
    yield Metric(
        "ptproxy_bridge_retained_bytes", "gauge", "Bytes kept until clients have them.", memory["used"]
    )
    yield Metric("ptproxy_bridge_max_retained_bytes", "gauge", "Bytes there may be of them.", memory["limit"])
    yield Metric(
        "ptproxy_bridge_accounts", "gauge", "Whom the access list knows.", by="kind",
        values={kind: accounts[kind] for kind in ("identities", "revoked", "invites")},
    )  # fmt: skip
    if state["certificate"] is not None:
        yield Metric(
            "ptproxy_bridge_certificate_end_time_seconds", "gauge", "When the certificate ends.",
            state["certificate"]["ends_at"],
        )  # fmt: skip


def _client(state: State) -> Iterator[Metric]:
    yield Metric(
        "ptproxy_client_connected", "gauge", "Whether a carrier is open.", state["condition"] == "connected"
    )
    yield Metric("ptproxy_client_connections", "gauge", "Local connections.", state["connections"])
    count = {degree.name.lower(): 0 for degree in Degree}
    for bridge in state["bridges"]:
        for way in bridge["ways"]:
            count[Degree(way["degree"]).name.lower()] += 1
    yield Metric(
        "ptproxy_client_ways", "gauge", "Ways to bridges, by what they met with last.", by="degree",
        values=count,
    )  # fmt: skip
