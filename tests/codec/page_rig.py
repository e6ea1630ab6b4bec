"""A page load against the ``h2`` package serving a small site, with time that is only counted."""

from __future__ import annotations

import random

import h2.config
import h2.connection
import h2.events
from test_codec_h2_golden import browser

from ptproxy.codec.http2.client import H2Client
from ptproxy.codec.page.cache import SiteMemory
from ptproxy.codec.page.load import PageLoad

HOST = "site.example"
CLOCK = 1_800_000_000.0
CHROMIUM = browser("chromium").with_values(system="X11; Linux x86_64")


class Rig:
    """One visit: ``site`` maps paths to (status, header fields, body)."""

    def __init__(self, site, path="/", memory=None, clock=CLOCK, seed=0, rtt=0.02, look=CHROMIUM):
        self.site, self.rtt, self.now = site, rtt, 100.0
        self.random = random.Random(seed)
        self.memory = SiteMemory() if memory is None else memory
        self.client = H2Client(look.http2, self.now)
        self.load = PageLoad(self.client, look, HOST, path, self.memory, self.random, self.now, clock)
        self.server = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="latin-1")
        )
        self.server.initiate_connection()
        self.requests, self.priorities, self.resets = [], [], []
        self.moved = []
        """Streams and weights of PRIORITY frames."""
        self.latency, self.trickle = {}, 0.0
        """Seconds until an answer, where it is not ``rtt``; and from a body's first piece to the rest."""

    @property
    def paths(self):
        return [dict(fields)[":path"] for _, fields in self.requests]

    def fields(self, path):
        return next(dict(fields) for _, fields in self.requests if dict(fields)[":path"] == path)

    def run(self):
        """Until the load has finished; returns this rig."""
        answers = []
        for _ in range(2000):
            for write in self.client.data_to_send():
                events = self.server.receive_data(bytes(write))
                for event in events:
                    self.asked(event, answers)
                    if isinstance(event, h2.events.PriorityUpdated) and len(events) == 1:
                        self.moved.append((event.stream_id, event.weight))
            if self.load.finished:
                return self
            times = [when for when, _, _ in answers]
            due = self.load.deadline()
            self.now = max(self.now, min(times + ([due] if due is not None else [])))
            for answer in [one for one in answers if one[0] <= self.now]:
                answers.remove(answer)
                rest = self.answer(*answer[1:])
                if rest:
                    answers.append((self.now + self.trickle, answer[1], rest))
            if due is not None and due <= self.now:
                self.load.on_deadline(self.now)
        raise AssertionError("the load does not end")

    def asked(self, event, answers):
        if isinstance(event, h2.events.RequestReceived):
            self.requests.append((self.now, event.headers))
            request = dict(event.headers)
            delay = self.latency.get(request[":path"], self.rtt)
            answers.append((self.now + delay, event.stream_id, request))
        elif isinstance(event, h2.events.PriorityUpdated) and event.stream_id:
            self.priorities.append((self.now, event.stream_id, event.weight))
        elif isinstance(event, h2.events.StreamReset):
            self.resets.append(self.paths[event.stream_id // 2])

    def answer(self, stream, request):
        """Answer a request, or go on with a body; what of it is to follow."""
        try:
            if isinstance(request, dict):
                status, fields, body = self.site.get(request[":path"], (404, [], b"nothing here"))
                if dict(fields).get("etag") and request.get("if-none-match") == dict(fields)["etag"]:
                    status, body = 304, b""
                self.server.send_headers(stream, [(":status", str(status)), *fields], end_stream=not body)
            else:
                body = request
            piece, rest = (body[:3000], body[3000:]) if self.trickle else (body, b"")
            for at in range(0, len(piece), 3000):
                last = not rest and at + 3000 >= len(piece)
                self.server.send_data(stream, piece[at : at + 3000], end_stream=last)
        except h2.exceptions.StreamClosedError:
            return b""
        data = self.server.data_to_send()
        while data:
            size = self.random.randint(1, 4000)
            for event in self.client.receive_data(data[:size], self.now):
                assert self.load.receive_event(event, self.now)
            data = data[size:]
        return rest
