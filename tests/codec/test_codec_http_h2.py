"""An http carrier over HTTP/2: the ``h2`` package in front of a bridge that hears HTTP/1.1, as from nginx."""

from __future__ import annotations

import random
from dataclasses import replace

import h2.config
import h2.connection
import h2.events
import pytest
from http_rig import KEY, OPENING, SETTINGS
from page_rig import CHROMIUM, CLOCK

from ptproxy.codec.cookie import session_cookie_name
from ptproxy.codec.head import ResponseReader
from ptproxy.codec.http import HTTP
from ptproxy.codec.http2.client import H2Client
from ptproxy.codec.http2.frames import goaway_frame
from ptproxy.codec.http_body import response_body
from ptproxy.codec.http_h2_client import ClientHttp2
from ptproxy.codec.interface import Appearance, CarrierEnded, OpeningReceived, PayloadReceived, SiteAnswered
from ptproxy.codec.page.cache import SiteMemory
from ptproxy.codec.page.visit import Visit

PAGE = b"<link rel=stylesheet href=/a.css><script src=/b.js></script><img src=/c.png>"


class Front:
    """One HTTP/2 connection of a web server; every request goes to the bridge on a connection of its own."""

    def __init__(self, rig, link):
        self.rig, self.link = rig, link
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="latin-1")
        )
        self.h2.initiate_connection()
        self.heads, self.bodies, self.upstream, self.dead = {}, {}, {}, False

    def move(self):
        moved = False
        if self.dead:
            return moved
        for write in self.link.data_to_send():
            moved = True
            for event in self.h2.receive_data(bytes(write)):
                self.event(event)
        for stream in list(self.upstream):
            moved |= self.pump(stream)
        data = self.h2.data_to_send()
        while data:
            moved = True
            size = self.rig.random.randint(1, 40000)
            self.rig.happened(self.link.receive_data(data[:size], self.rig.now), None)
            data = data[size:]
        if self.link.closing:
            self.dead = True
        return moved

    def event(self, event):
        if isinstance(event, h2.events.RequestReceived):
            self.heads[event.stream_id], self.bodies[event.stream_id] = dict_of(event.headers), b""
        elif isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.request(event.stream_id)

    def request(self, stream):
        head = self.heads[stream]
        self.rig.paths.append(head[":path"])
        if head[":path"] != SETTINGS.path:
            body = PAGE if head[":path"] == "/" else b"x"
            self.h2.send_headers(stream, [(":status", "200"), ("content-type", "text/html")])
            self.h2.send_data(stream, body, end_stream=True)
            return
        if self.rig.refuse:
            self.rig.refuse -= 1
            self.h2.reset_stream(stream, 7)
            return
        lines = [f"{head[':method']} {head[':path']} HTTP/1.1", f"Host: {head[':authority']}"]
        lines += [f"{name}: {value}" for name, value in head.items() if not name.startswith(":")]
        bridge = self.rig.reception.open_link()
        self.upstream[stream] = [bridge, ResponseReader(), None]
        request = "\r\n".join([*lines, "", ""]).encode() + self.bodies[stream]
        self.rig.happened(bridge.receive_data(request, self.rig.now), bridge)

    def pump(self, stream):
        bridge, reader, body = self.upstream[stream]
        moved = False
        for data in bridge.data_to_send():
            moved, rest = True, bytes(data)
            if body is None:
                head = reader.receive_data(rest)
                if head is None:
                    continue
                self.upstream[stream][2] = body = response_body(head)
                self.h2.send_headers(stream, [(":status", str(head.status))])
                rest = bytes(reader.rest)
            parts = []
            body.receive_data(memoryview(rest), parts)
            for part in parts:
                for at in range(0, len(part), 16384):
                    self.h2.send_data(stream, bytes(part[at : at + 16384]))
        if body is not None and body.done:
            self.h2.end_stream(stream)
            del self.upstream[stream]
        return moved


def dict_of(fields):
    """Header fields with the cookie's crumbs joined (RFC 9113 section 8.2.3)."""
    found = {}
    for name, value in fields:
        found[name] = f"{found[name]}; {value}" if name in found else value
    return found


class Rig:
    def __init__(self, seed=0, memory=None):
        self.random, self.now = random.Random(seed), 100.0
        memory = SiteMemory() if memory is None else memory
        visit = Visit(
            H2Client(CHROMIUM.http2, self.now),
            CHROMIUM,
            SETTINGS.host,
            "/",
            memory,
            self.random,
            self.now,
            CLOCK,
        )
        self.reception = HTTP.reception(SETTINGS, random.Random(seed + 1))
        self.bridge, self.paths, self.refuse = None, [], 0
        self.up, self.down, self.ended = bytearray(), bytearray(), {}
        front = Front(self, visit)
        while not visit.done:
            while front.move():
                pass
            self.now += 0.005
            visit.on_deadline(self.now)
        settings = replace(SETTINGS, appearance=Appearance(CHROMIUM, memory, visit.http2))
        self.client = HTTP.client(settings, OPENING, random.Random(seed))
        assert type(self.client) is ClientHttp2
        front.link = self.client.open_link()
        self.fronts = [front]

    def happened(self, events, link):
        for event in events:
            if isinstance(event, PayloadReceived):
                target = self.down if event.carrier is self.client else self.up
                target += event.data
            elif isinstance(event, CarrierEnded):
                self.ended["client" if event.carrier is self.client else "bridge"] = event.reason
            elif isinstance(event, OpeningReceived):
                assert event.opening == OPENING
                self.bridge = event.accept(KEY, self.now)
                self.bridge.send_data([b"message 2"], self.now)
                self.happened(link.receive_data(b"", self.now), link)
        if self.down == b"message 2" and not self.client.is_open:
            self.client.authenticated(KEY)

    def run(self, seconds=3.0):
        end = self.now + seconds
        while self.now < end:
            live = [front for front in self.fronts if not front.dead]
            if len(live) < self.client.links_wanted:
                self.fronts.append(Front(self, self.client.open_link()))
                continue
            if sum(front.move() for front in live):
                continue
            for carrier in (self.client, self.bridge):
                if carrier is not None:
                    due = carrier.deadline()
                    if due is not None and due <= self.now:
                        self.happened(carrier.on_deadline(self.now), None)
                    carrier.links_to_flush()
            self.now += 0.005


@pytest.mark.parametrize("seed", range(4))
def test_a_page_first_then_payload_both_ways(seed):
    rig = Rig(seed)
    rig.run(1.0)
    assert rig.paths[:5] == ["/", "/a.css", "/b.js", "/c.png", "/favicon.ico"]
    assert rig.down == b"message 2"
    up, down = random.Random(seed).randbytes(2_500_000), random.Random(seed + 9).randbytes(300_000)
    rig.client.send_data([up], rig.now)
    rig.bridge.send_data([down], rig.now)
    rig.run()
    assert rig.up == up
    assert rig.down[9:] == down
    rig.client.close(rig.now)
    rig.run()
    assert rig.ended == {"client": "", "bridge": ""}
    assert len(rig.fronts) == 1


def test_goaway_moves_the_carrier_to_a_second_connection():
    rig = Rig()
    rig.run(1.0)
    front = rig.fronts[0]
    goaway = goaway_frame(front.h2.highest_inbound_stream_id, 0)  # as nginx after keepalive_requests
    rig.happened(front.link.receive_data(goaway, rig.now), None)
    rig.client.send_data([b"after"], rig.now)
    assert rig.client.links_wanted == 2
    rig.run(40.0)  # the streamed GET of the first connection ends at its age
    assert len(rig.fronts) == 2
    assert front.dead
    assert rig.client.links_wanted == 1
    assert rig.up == b"after"
    assert rig.ended == {}
    assert rig.paths.count("/") == 1


def test_a_refused_request_is_sent_once_more():
    rig = Rig()
    rig.run(1.0)
    rig.refuse = 1
    rig.client.send_data([b"again"], rig.now)
    rig.run()
    assert rig.up == b"again"
    assert rig.ended == {}


def test_a_connection_that_breaks_ends_nothing_that_can_be_repaired():
    rig = Rig()
    rig.run(1.0)
    front = rig.fronts[0]
    front.dead = True
    rig.happened(front.link.receive_eof(rig.now), None)
    assert front.link.closing
    rig.client.send_data([b"lost and found"], rig.now)
    rig.run()
    assert rig.ended or rig.up == b"lost and found"  # a streamed GET that had begun cannot be repeated
    assert front not in [one for one in rig.fronts if not one.dead]


def test_an_opening_answered_as_a_strangers_says_so():
    rig = Rig()
    front = rig.fronts[0]

    def missing(stream):
        if front.heads[stream][":path"] == SETTINGS.path:
            front.h2.send_headers(stream, [(":status", "404"), ("date", "today")], end_stream=True)
        else:
            Front.request(front, stream)

    front.request = missing
    with pytest.raises(SiteAnswered) as raised:
        rig.run(1.0)
    assert raised.value.date == "today"


def test_a_site_s_cookie_of_our_name_does_not_stand_in_the_openings_way():
    memory = SiteMemory()
    memory.cookies.take(
        [("set-cookie", f"{session_cookie_name(SETTINGS)}={'a' * 60}; path=/")], "site.example", "/"
    )
    rig = Rig(memory=memory)
    rig.client.send_data([b"up"], rig.now)
    rig.run()
    assert rig.up.endswith(b"up")
    assert rig.ended == {}
