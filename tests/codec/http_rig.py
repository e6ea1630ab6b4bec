"""Both ends of an http carrier joined in memory, with fronts between them to choose from."""

from __future__ import annotations

import random

import h11

from ptproxy.codec.http import HTTP
from ptproxy.codec.http_records import POST, token_text
from ptproxy.codec.interface import (
    CarrierEnded,
    CarrierWritable,
    CodecSettings,
    NotMine,
    OpeningReceived,
    PayloadReceived,
)

KEY = bytes(range(32))
OPENING = bytes(range(200))
SETTINGS = CodecSettings("example.org", "/secret/path")


class Direct:
    """No front: bytes pass as they are."""

    def __init__(self, rig, client):
        self.rig = rig
        self.client = client
        self.bridge = rig.new_bridge_link(self)
        self.up_open = True  # False: requests stay on the way
        self.down_open = True
        self.dead = False
        self.up = bytearray()
        self.down = bytearray()
        self.sent_up = bytearray()
        self.sent_down = bytearray()

    def move(self):
        if self.dead:
            return False
        rig = self.rig
        moved = False
        for chunk in self.client.data_to_send():
            self.up += chunk
            self.sent_up += chunk
        for chunk in self.bridge.data_to_send():
            self.down += chunk
            self.sent_down += chunk
        self.hold()
        if self.up and self.up_open:
            data, self.up = bytes(self.up), bytearray()
            rig.happened(self.bridge.receive_data(memoryview(data), rig.now), self.bridge)
            moved = True
        if self.down and self.down_open:
            data, self.down = bytes(self.down), bytearray()
            rig.happened(self.client.receive_data(memoryview(data), rig.now), None)
            moved = True
        if self.client.closing or (self.bridge.closing and not self.down):
            self.cut()
            moved = True
        return moved

    def hold(self):
        """Decide what stays on the way."""

    def cut(self, *, bridge_knows=True):
        """The connection is gone, with what was on the way."""
        self.dead = True
        self.rig.happened(self.client.receive_eof(self.rig.now), None)
        if bridge_knows:
            self.rig.happened(self.bridge.receive_eof(self.rig.now), self.bridge)


class Rig:
    """A client's carrier, a bridge's reception, and a clock."""

    def __init__(self, options=None, front=Direct, seed=0, shape=None):
        settings = CodecSettings(SETTINGS.host, SETTINGS.path, options or {}, shape=shape)
        self.shape = shape
        self.now = 100.0
        self.front = front
        self.client = HTTP.client(settings, OPENING, random.Random(seed))
        self.reception = HTTP.reception(settings, random.Random(seed + 1))
        self.bridge = None
        self.pipes = []
        self.up = bytearray()
        self.down = bytearray()
        self.ended = {}
        self.strangers = 0
        self.writable = 0

    def new_bridge_link(self, pipe):
        return self.reception.open_link()

    def happened(self, events, link):
        for event in events:
            kind = type(event)
            if kind is PayloadReceived:
                if event.carrier is self.client:
                    self.down += event.data
                else:
                    self.up += event.data
            elif kind is CarrierEnded:
                side = "client" if event.carrier is self.client else "bridge"
                assert side not in self.ended
                self.ended[side] = event.reason
            elif kind is OpeningReceived:
                assert event.opening == OPENING
                self.bridge = event.accept(KEY, self.now)
                self.bridge.send_data([b"message 2"], self.now)
                self.happened(link.receive_data(b"", self.now), link)
                self.bridge.links_to_flush()
                if self.shape is not None:
                    self.bridge.follow(self.shape)
            elif kind is NotMine:
                self.strangers += 1
            elif kind is CarrierWritable:
                assert event.carrier.room() > 0
                self.writable += 1

    @property
    def live(self):
        return [pipe for pipe in self.pipes if not pipe.dead]

    def run(self):
        for _ in range(10_000):
            while self.client.links_wanted > len(self.live):
                self.pipes.append(self.front(self, self.client.open_link()))
            self.client.links_to_flush()
            if self.bridge is not None:
                self.bridge.links_to_flush()
            moved = [pipe.move() for pipe in self.pipes]
            if not any(moved):
                return
        raise AssertionError("does not come to rest")

    def wait(self, seconds):
        """Let time pass, deadline by deadline."""
        end = self.now + seconds
        while True:
            self.run()
            ends = [codec for codec in (self.client, self.bridge) if codec and codec.deadline() is not None]
            due = min((codec.deadline() for codec in ends), default=end)
            if due >= end:
                self.now = end
                return
            self.now = max(self.now, due)
            for codec in ends:
                if codec.deadline() is not None and codec.deadline() <= self.now:
                    self.happened(codec.on_deadline(self.now), None)

    def open(self):
        self.run()
        assert self.down == b"message 2"
        self.down.clear()
        self.client.authenticated(KEY)
        self.wait(0.001)
        return self

    def send_up(self, data):
        self.client.send_data([data], self.now)
        self.run()

    def send_down(self, data):
        self.bridge.send_data([data], self.now)
        self.run()

    def busy(self, method):
        """Pipes whose client waits for the answer to such a request."""
        kind = {"POST": "Upload", "GET": "Download"}[method]
        return [pipe for pipe in self.live if type(pipe.client.exchange).__name__ == kind]


class H11Front:
    """A reverse proxy made of h11: every head and body is parsed by it and written anew, both ways."""

    def __init__(self, rig, client):
        self.rig = rig
        self.client = client
        self.bridge = rig.new_bridge_link(self)
        self.dead = False
        self.facing_client = h11.Connection(h11.SERVER)
        self.facing_bridge = h11.Connection(h11.CLIENT)
        self.requests = []
        self.answers = []

    def move(self):
        if self.dead:
            return False
        moved = False
        for chunk in self.client.data_to_send():
            self.facing_client.receive_data(bytes(chunk))
            moved = True
        while type(event := self.facing_client.next_event()) is not type(h11.NEED_DATA):
            if event is h11.PAUSED:
                break
            moved = True
            self.request(event)
        for chunk in self.bridge.data_to_send():
            self.facing_bridge.receive_data(bytes(chunk))
            moved = True
        if self.facing_bridge.our_state is not h11.IDLE:
            while type(event := self.facing_bridge.next_event()) is not type(h11.NEED_DATA):
                if event is h11.PAUSED:
                    break
                moved = True
                self.answer(event)
        if self.client.closing or self.bridge.closing:
            self.dead = moved = True
            self.rig.happened(self.client.receive_eof(self.rig.now), None)
            self.rig.happened(self.bridge.receive_eof(self.rig.now), self.bridge)
        return moved

    def request(self, event):
        if type(event) is h11.Request:
            self.requests.append(event)
        data = self.facing_bridge.send(event)
        if data:
            self.rig.happened(self.bridge.receive_data(data, self.rig.now), self.bridge)

    def answer(self, event):
        if type(event) is h11.Response:
            self.answers.append(event)
        data = self.facing_client.send(event)
        if data:
            self.rig.happened(self.client.receive_data(data, self.rig.now), None)
        if type(event) is h11.EndOfMessage and self.facing_client.our_state is h11.DONE:
            self.facing_client.start_next_cycle()
            self.facing_bridge.start_next_cycle()


class Buffering(Direct):
    """A front that lets a response out only when it is complete."""

    def hold(self):
        head, _, body = self.down.partition(b"\r\n\r\n")
        self.down_open = b"chunked" not in head or body.endswith(b"0\r\n\r\n")


class Slow(Direct):
    """A path on which nothing comes back for now."""

    back = True

    def hold(self):
        self.down_open = self.back or type(self.client.exchange).__name__ in self.passed

    passed = ()


class Cutting(Direct):
    """Hands over a few bytes at a time."""

    sizes = (1,)

    def move(self):
        ends = self.client, self.bridge
        moved = super().move()
        assert ends == (self.client, self.bridge)
        return moved

    def __init__(self, rig, client):
        super().__init__(rig, Pieces(client, self.sizes))
        self.bridge = Pieces(self.bridge, self.sizes)


class Pieces:
    """A link that is fed its bytes in pieces."""

    def __init__(self, link, sizes):
        self._link = link
        self._sizes = sizes

    def __getattr__(self, name):
        return getattr(self._link, name)

    def receive_data(self, data, now):
        events = []
        at = turn = 0
        while at < len(data):
            size = self._sizes[turn % len(self._sizes)]
            piece = bytearray(data[at : at + size])
            for event in self._link.receive_data(piece, now):
                if type(event) is PayloadReceived:
                    event.data = bytes(event.data)
                events.append(event)
            piece[:] = bytes(len(piece))
            at += size
            turn += 1
        return events if at or data else self._link.receive_data(data, now)


# ---- requests by hand ----------------------------------------------------------------------


def noise(size, seed=0):
    return random.Random(seed).randbytes(size)


def post(number, payload, *, flags=0, pad=0, version="1.1", extra="", kind=POST):
    """A POST as a client would send it."""
    cookie = cookie_of(kind, number)
    body = bytes([flags]) + len(payload).to_bytes(3, "big") + payload + bytes(pad)
    head = (
        f"POST /secret/path HTTP/{version}\r\nHost: x\r\nContent-Length: {len(body)}\r\n{cookie}{extra}\r\n"
    )
    return head.encode() + body


def get(kind, number, *, version="1.1", extra=""):
    head = f"GET /secret/path HTTP/{version}\r\nHost: x\r\n{cookie_of(kind, number)}{extra}\r\n"
    return head.encode()


def cookie_of(kind, number):
    name = HTTP.reception(SETTINGS, random.Random(0)).cookie
    return f"Cookie: {name}={token_text(KEY, kind, number).decode()}\r\n"


class Bridge:
    """A bridge's carrier, and bare links to it."""

    def __init__(self):
        self.rig = Rig()
        self.rig.run()
        self.now = self.rig.now
        self.carrier = self.rig.bridge

    def link(self):
        return self.rig.reception.open_link()

    def feed(self, link, data):
        """Feeds it, keeps the payload, returns what is answered."""
        self.rig.happened(link.receive_data(data, self.now), link)
        return b"".join(map(bytes, link.data_to_send()))

    @property
    def up(self):
        return bytes(self.rig.up)
