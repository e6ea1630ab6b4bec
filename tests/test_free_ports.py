"""The ports that tests hand to servers."""

from __future__ import annotations

import socket

import free_ports
from free_ports import FIRST, HOST, LAST, free_port


def test_each_is_free_and_given_once() -> None:
    given = [free_port() for _ in range(200)]
    assert len(set(given)) == 200
    assert FIRST <= min(given) <= max(given) <= LAST
    for port in given:
        with socket.create_server((HOST, port)), socket.socket(type=socket.SOCK_DGRAM) as udp:
            udp.bind((HOST, port))


def test_a_taken_one_is_not_given(monkeypatch) -> None:
    first, second, third = free_port(), free_port(), free_port()
    monkeypatch.setattr(free_ports, "_given", set())
    drawn = iter((first, second, third))
    monkeypatch.setattr(free_ports._rng, "randint", lambda *_: next(drawn))
    with socket.create_server((HOST, first)), socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind((HOST, second))
        assert free_port() == third
