"""A TLS 1.3 web server on loopback that writes down what a browser sends, TLS record by TLS record.

Records are fed to OpenSSL one at a time, so the plaintext each of them held is
known: a *recording* is one connection's list of ``[ms, "C" or "S", hex]``, one
entry a TLS record from the client, one entry a write of the server. The ``h2``
package answers HTTP/2; a connection that negotiated http/1.1 gets its
WebSocket upgrade accepted. What is served is :mod:`capture_site`.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.settings
from capture_site import answer

SETTINGS = {3: 128, 4: 65536, 5: 16777215}
"""What nginx 1.22 says (concurrent streams, stream window, frame size): the usual."""
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass
class Recording:
    """One connection."""

    alpn: str
    resumed: bool
    entries: list[list[object]] = field(default_factory=list)


class CaptureServer:
    """Accepts connections in threads of its own until :meth:`close`."""

    def __init__(self, chain: Path, key: Path, delay: float, bulk: int) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.load_cert_chain(chain, key)
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        self.delay = delay
        self.bulk = bulk
        self.recordings: list[Recording] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def take(self) -> list[Recording]:
        """The recordings since last asked."""
        taken, self.recordings = self.recordings, []
        return taken

    def close(self) -> None:
        """Accept no more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            Conversation(self, connection).run()
        except (OSError, ssl.SSLError, h2.exceptions.ProtocolError) as error:
            print("connection ended:", type(error).__name__, error)
        finally:
            connection.close()


class Conversation:
    """One connection: TLS by memory buffers, then HTTP/2 or a WebSocket upgrade."""

    def __init__(self, server: CaptureServer, connection: socket.socket) -> None:
        self.server = server
        self.socket = connection
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = server.context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.raw = bytearray()
        self.recording: Recording | None = None
        self.since = 0.0
        self.due: list[tuple[float, int, int, str, dict[str, str]]] = []
        self.bodies: dict[int, memoryview] = {}
        self.requests: dict[int, dict[str, str]] = {}
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="latin-1")
        )

    def run(self) -> None:
        """Serve until the peer ends."""
        while True:
            wait = max(self.due[0][0] - time.monotonic(), 0.0) if self.due else 60.0
            self.socket.settimeout(wait or 0.001)
            try:
                data = self.socket.recv(1 << 16)
                if not data:
                    return
                self.raw += data
                self._records()
            except TimeoutError:
                if not self.due:
                    return
            while self.due and self.due[0][0] <= time.monotonic():
                _, _, stream, path, headers = heapq.heappop(self.due)
                self._answer(stream, path, headers)

    def _records(self) -> None:
        """Feed whole TLS records, one at a time (RFC 8446 section 5.1)."""
        while len(self.raw) >= 5 and len(self.raw) >= (size := 5 + int.from_bytes(self.raw[3:5], "big")):
            self.incoming.write(self.raw[:size])
            del self.raw[:size]
            if self.recording is None:
                try:
                    self.tls.do_handshake()
                    self._start()
                except ssl.SSLWantReadError:
                    pass
                self._flush()
                continue
            plain = bytearray()
            try:
                while data := self.tls.read(1 << 16):
                    plain += data
            except ssl.SSLWantReadError:
                pass
            if plain:
                self._log("C", bytes(plain))
                self._received(bytes(plain))

    def _log(self, side: str, data: bytes) -> None:
        assert self.recording is not None
        self.recording.entries.append([round((time.monotonic() - self.since) * 1000, 2), side, data.hex()])

    def _flush(self) -> None:
        if data := self.outgoing.read():
            self.socket.settimeout(10)
            self.socket.sendall(data)

    def _send(self, data: bytes) -> None:
        if data:
            self._log("S", data)
            self.tls.write(data)
            self._flush()

    def _start(self) -> None:
        self.since = time.monotonic()
        alpn = self.tls.selected_alpn_protocol() or ""
        self.recording = Recording(alpn, bool(self.tls.session_reused))
        self.server.recordings.append(self.recording)
        if alpn == "h2":
            self.h2.local_settings = h2.settings.Settings(client=False, initial_values=SETTINGS)
            self.h2.initiate_connection()
            self.h2.data_to_send()  # h2 would name the defaults as well
            body = b"".join(struct.pack(">HI", *setting) for setting in SETTINGS.items())
            self.h2.increment_flow_control_window(2147418112)
            self._send(struct.pack(">IBI", len(body) << 8 | 4, 0, 0) + body + self.h2.data_to_send())

    def _received(self, data: bytes) -> None:
        if self.recording is not None and self.recording.alpn != "h2":
            self._upgrade(data)
            return
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.requests[event.stream_id] = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                headers = self.requests[event.stream_id]
                item = (time.monotonic() + self.server.delay, event.stream_id, event.stream_id)
                heapq.heappush(self.due, (*item, headers[":path"], headers))
            elif isinstance(event, h2.events.StreamReset):
                self.bodies.pop(event.stream_id, None)
        self._pump()
        self._send(self.h2.data_to_send())

    def _answer(self, stream: int, path: str, request: dict[str, str]) -> None:
        status, headers, body = answer(path, request, self.server.bulk)
        try:
            self.h2.send_headers(stream, [(":status", str(status)), *headers], end_stream=not body)
        except h2.exceptions.ProtocolError:
            return  # reset by the browser meanwhile
        if body:
            self.bodies[stream] = memoryview(body)
        self._pump()
        self._send(self.h2.data_to_send())

    def _pump(self) -> None:
        for stream in list(self.bodies):
            while (body := self.bodies[stream]) and (
                room := min(self.h2.local_flow_control_window(stream), 16384)
            ) > 0:
                self.h2.send_data(stream, bytes(body[:room]), end_stream=room >= len(body))
                self.bodies[stream] = body[room:]
            if not self.bodies[stream]:
                del self.bodies[stream]

    def _upgrade(self, data: bytes) -> None:
        head = data.decode("latin-1")
        for line in head.split("\r\n"):
            name, _, value = line.partition(":")
            if name.lower() == "sec-websocket-key":
                accept = base64.b64encode(hashlib.sha1(value.strip().encode() + WEBSOCKET_GUID).digest())
                self._send(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                    b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
                )
