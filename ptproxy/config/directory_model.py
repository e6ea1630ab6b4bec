"""The settings of a directory node (``role: directory``); see :mod:`ptproxy.config.model`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PlainValidator, ValidationInfo

from ptproxy.config.model import LogConfig, Section
from ptproxy.config.quantities import Endpoint, is_ip, parse_address
from ptproxy.config.values import Count, File, Loop, Texts, read_listen, read_text


def _node_address(value: object) -> Endpoint:
    endpoint = parse_address(value)
    if not is_ip(endpoint.host):
        raise ValueError("expected the address as others reach it, no name, as in 203.0.113.5:4646")
    return endpoint


def _node_listen(value: object, info: ValidationInfo) -> tuple[Endpoint, ...]:
    endpoints = read_listen(value, info)
    if any(endpoint.unix is not None for endpoint in endpoints):
        raise ValueError("a directory node listens on UDP ports, as in 0.0.0.0:4646")
    if len(endpoints) != len({":" in endpoint.host for endpoint in endpoints}):
        raise ValueError("expected one address of each family at most, as in [0.0.0.0:4646, '[::]:4646']")
    return endpoints


def _signer(value: object) -> str:
    text = read_text(value).strip()
    if len(text) != 43:
        raise ValueError("expected the 43 characters that say who signs the network's list of first nodes")
    return text


NodeAddress = Annotated[Endpoint, PlainValidator(_node_address)]
NodeListen = Annotated[tuple[Endpoint, ...], PlainValidator(_node_listen)]
Signer = Annotated[str, PlainValidator(_signer)]


class DirectoryLimits(Section):
    """What a directory node spends at most."""

    records: Count = 16_384
    """Records kept, 2.5 KiB each."""
    requests: Count = 50
    """Requests a second of one address, in the long run."""


class DirectoryConfig(Section):
    """A directory node's whole configuration."""

    role: Literal["directory"]
    listen: NodeListen = Field(..., examples=["0.0.0.0:4646"])
    address: NodeAddress = Field(..., examples=["203.0.113.5:4646"])
    """Where others reach it."""
    key: File = Field(..., examples=["directory.key"])
    network: File | None = Field(default=None, examples=["network.list"])
    """The signed list of first nodes; None: a network by ptproxy's own numbers, joined by ``nodes``."""
    network_key: Signer | None = Field(default=None, examples=["A" * 43])
    """Who signs it."""
    nodes: Texts = Field(default=(), examples=["[ptproxy-node:AAAA]"])
    """Nodes to begin with, besides those of the list."""
    beacon: File | None = Field(default=None, examples=["beacons"])
    """Beacons, one a line, as ``ptproxy directory beacon join`` prints them; read again each half minute."""
    addresses: Literal["public", "any"] = "public"
    """``any``: nodes may be in networks that are not the Internet, and many in one: for trials."""
    state: File = Field(..., examples=["state"])
    user: str | None = Field(default=None, min_length=1, max_length=64, examples=["ptproxy"])
    """Whom a process that was started as root becomes, for good, once it has bound its addresses and read
    its keys; None: it stays who it is."""
    group: str | None = Field(default=None, min_length=1, max_length=64, examples=["ssl-cert"])
    """Its only group; None: the user's own."""
    limits: DirectoryLimits = DirectoryLimits()
    log: LogConfig = LogConfig()
    loop: Loop = "auto"
