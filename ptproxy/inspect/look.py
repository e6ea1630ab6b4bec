"""All that is said of one capture: flows, the rule for encrypted traffic, nested handshakes, labels."""

from __future__ import annotations

import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ptproxy.errors import CodecError, StartError, why
from ptproxy.inspect.encrypted_rule import exemptions
from ptproxy.inspect.flows import Flow, FlowReader
from ptproxy.inspect.ja4 import ja4
from ptproxy.inspect.nested import Verdict, verdicts
from ptproxy.inspect.pcap import CaptureReader
from ptproxy.inspect.programs import Labels, ndpi, tshark
from ptproxy.inspect.recorded import recorded_hellos

READ: Final = 1 << 20
"""Bytes of a file that are read at a time."""
PROGRAMS: Final = {"ndpiReader": ndpi, "tshark": tshark}
"""Where labels come from."""


@dataclass(frozen=True, slots=True)
class Capture:
    """A capture file, read."""

    path: Path
    flows: tuple[Flow, ...]
    labels: tuple[Labels, ...]
    missing: tuple[str, ...]
    """Programs that are not installed."""

    @property
    def hellos(self) -> Counter[str]:
        """Flows by their JA4."""
        return Counter(ja4(flow.hello) for flow in self.flows if flow.hello is not None)

    @property
    def blocked(self) -> tuple[Flow, ...]:
        """Flows that the rule for fully encrypted traffic blocks."""
        return tuple(flow for flow in self.flows if flow.first_payload and not exemptions(flow.first_payload))


@dataclass(frozen=True, slots=True)
class Finding:
    """What a capture shows, and whether it tells it from the web."""

    capture: Capture
    cover: Capture | None
    nested: tuple[Verdict, ...]
    unsaid: str
    """Why there are no nested-handshake scores; empty where there are."""
    telling: tuple[str, ...] = field(default=())
    """What a censor could act upon, one line each."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "capture": _capture_dict(self.capture),
            "cover": _capture_dict(self.cover) if self.cover else None,
            "nested": [
                {
                    "detector": one.detector,
                    "trained_on": one.trained,
                    "held_out": one.held_out,
                    "false_positives": one.false_positives,
                    "flows": one.flows,
                    "flagged": one.flagged,
                    "auc": round(one.auc, 4),
                }
                for one in self.nested
            ],
            "nested_unsaid": self.unsaid,
            "telling": list(self.telling),
        }


def read_flows(path: Path, port: int | None) -> tuple[Flow, ...]:
    """The TCP connections of a capture file; :class:`~ptproxy.errors.StartError` where it is none."""
    reader, flows = CaptureReader(), FlowReader(port)
    try:
        with path.open("rb") as file:
            while data := file.read(READ):
                flows.receive(reader.receive_data(data))
    except CodecError as error:
        raise StartError(f"{path}: {error}") from None
    except OSError as error:
        raise StartError(f"cannot read {path}: {why(error)}") from None
    return tuple(flows.flows())


def read_capture(path: Path, port: int | None) -> Capture:
    """A capture file, by our own eyes and by those of installed programs."""
    flows = read_flows(path, port)
    if not flows:
        where = f"to port {port} " if port else ""
        raise StartError(f"{path} holds no TCP connection {where}from its beginning on")
    labels, missing = [], []
    for name, ask in PROGRAMS.items():
        try:
            told = ask(path, port)
        except (OSError, subprocess.SubprocessError) as error:
            raise StartError(f"{name}: {error}") from None
        if told is None:
            missing.append(name)
        else:
            labels.append(told)
    return Capture(path, flows, tuple(labels), tuple(missing))


def look_at(capture: Capture, cover: Capture | None) -> Finding:
    """Everything there is to say."""
    nested: list[Verdict] = []
    unsaid = "no cover was given"
    if cover is not None:
        try:
            nested, unsaid = verdicts(cover.flows, capture.flows), ""
        except StartError as error:
            unsaid = str(error)
    return Finding(capture, cover, tuple(nested), unsaid, tuple(_telling(capture, cover, nested)))


def _telling(capture: Capture, cover: Capture | None, nested: list[Verdict]) -> list[str]:
    """What tells the capture from the cover, or from what browsers do where there is none."""
    found = []
    if capture.blocked:
        found.append(f"{len(capture.blocked)} flows fall under the rule for fully encrypted traffic")
    known = set(cover.hellos) if cover else {one.ja4 for one in recorded_hellos()}
    strange = {name: count for name, count in capture.hellos.items() if name not in known}
    where = "the cover" if cover else "a recorded browser"
    found += [
        f"{count} flows greet with {name}, which {where} never shows" for name, count in strange.items()
    ]
    bare = sum(not flow.tls for flow in capture.flows)
    if bare and not (cover and any(not flow.tls for flow in cover.flows)):
        found.append(f"{bare} flows are not TLS")
    for labels in capture.labels:
        theirs = next((one for one in cover.labels if one.program == labels.program), None) if cover else None
        if theirs is None:
            continue
        new = {name: count for name, count in labels.labels.items() if name not in theirs.labels}
        found += [f"{labels.program} calls {count} flows {name}" for name, count in new.items()]
        new = {name: count for name, count in labels.risks.items() if name not in theirs.risks}
        found += [f"{labels.program} holds against {count} flows: {name}" for name, count in new.items()]
    found += [
        f"nested handshakes by {one.detector}: {one.flagged} of {one.flows} flows"
        for one in nested
        if one.telling
    ]
    return found


def _capture_dict(capture: Capture) -> dict[str, Any]:
    return {
        "file": str(capture.path),
        "programs": {
            one.program: {"labels": dict(one.labels), "risks": dict(one.risks)} for one in capture.labels
        },
        "missing_programs": list(capture.missing),
        "flows": [flow_dict(flow) for flow in capture.flows],
    }


def flow_dict(flow: Flow) -> dict[str, Any]:
    """One flow."""
    hello = flow.hello
    return {
        "client": "{}:{}".format(*flow.client),
        "server": "{}:{}".format(*flow.server),
        "tls": flow.tls,
        "ja4": ja4(hello) if hello else None,
        "server_name": hello.server_name if hello else None,
        "first_payload": len(flow.first_payload),
        "exempt_by": list(exemptions(flow.first_payload)),
        "up": flow.up,
        "down": flow.down,
        "records": [part.direction * part.size for part in flow.records[:32]],
        "bytes_missing": flow.lost,
    }
