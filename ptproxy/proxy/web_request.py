"""HTTP/1 requests as a common web server reads them, without I/O.

RFC 9112 with the habits of nginx 1.22 where the RFC leaves a choice, because a
stranger compares: a request line is judged as its bytes arrive, bare line feeds
are accepted, header lines with odd names are ignored, and every refusal has the
status, and comes at the moment, that one would see there.

``RequestReader.receive_data`` feeds bytes, ``next_request`` takes requests out
one by one; the body of a request is thrown away before the next one. A
reader does no more than its ``allowance`` of lines and chunks in one go, since
a stranger may send as many of the smallest ones as it likes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from ptproxy.buffer import Buffer

MAX_LINE: Final = 8192
"""Bytes of a request line or header line (nginx: large_client_header_buffers 4 8k)."""
MAX_HEAD: Final = 4 * 8192
"""Bytes of a whole request head."""
MAX_BODY: Final = 1 << 20
"""Bytes that a request may announce (nginx: client_max_body_size 1m)."""
MAX_CHUNK_LINE: Final = 4096
"""Bytes of a chunk's size line with its extensions, and of the trailer section."""
BOUNDLESS: Final = 1 << 62
"""An allowance that nobody uses up."""

_LINE = re.compile(
    rb"(?P<method>[A-Z_-]+) +"
    rb"(?:(?P<path>/[^\x00-\x20\x7f]*)"
    rb"|[A-Za-z][A-Za-z0-9+.-]*://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::\d*)?"
    rb"(?P<rest>(?:[/?][^\x00-\x20\x7f]*)?))"
    rb"(?: +(?:HTTP/(?P<major>[1-9]\d{0,2})\.(?P<minor>\d{1,3}))? *)?\r?\n"
)
_LINE_SO_FAR = re.compile(rb"[A-Z_-]*(?: +(?:(?:/|[A-Za-z])[^\x00-\x1f\x7f]*\r?)?)?")
"""What a request line can begin with: anything else is refused before its end has come."""
_HEADER = re.compile(rb"(?P<name>[^\x00-\x20\x7f:]+)(?:: *(?P<value>[^\x00\r\n]*?))? *\r?\n")
_USUAL_NAME = re.compile(rb"[A-Za-z0-9-]+")
_HOST = re.compile(r"(?P<name>\[[^\x00-\x20\x7f/\]]*\]?|[^\x00-\x20\x7f/:]+)[^\x00-\x20\x7f/]*")
_CHUNK_LINE = re.compile(rb"(?P<size>[0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00\n]*)?\r?\n")
_CHUNK_END = re.compile(rb"\r?\n")
_TRAILER = re.compile(rb"[^\r\n]*\r?\n")


@dataclass(slots=True)
class Request:
    """A request, or (``refusal`` not 0) the status that refuses it."""

    method: str = ""
    uri: str = ""
    """Path and query, percent-encoded as they came."""
    minor: int = 1
    """HTTP/1.``minor``; -1: HTTP/0.9, which is answered by a bare body."""
    headers: dict[str, str] = field(default_factory=dict)
    """Values by lower-case name; of several lines of one name, the first."""
    host: str = ""
    """The name asked for, in lower case, without port."""
    keep_alive: bool = False
    expects_continue: bool = False
    refusal: int = 0


class RequestReader:
    """Reads the requests of one connection."""

    __slots__ = (
        "_body", "_buffer", "_chunk_ends", "_chunked", "_head_size", "_held", "_request", "_seen",
        "_trailers", "allowance", "body_read", "failed", "interrupted",
    )  # fmt: skip

    def __init__(self) -> None:
        self.failed = False
        """After a refusal that ends the connection nothing more is read."""
        self.body_read = True
        """Whether all of the last request's body had come when it was handed out."""
        self.allowance = BOUNDLESS
        """Lines and chunks that may still be read; whoever takes requests gives more."""
        self.interrupted = False
        """Whether ``next_request`` ended for want of allowance: call it again, no bytes are missing."""
        self._buffer = bytearray()
        self._request: Request | None = None  # its line has been read, its headers have not
        self._held: Request | None = None  # its head has been read, not all that has come of its body
        self._seen: dict[str, list[str]] = {}
        self._head_size = 0
        self._body = 0  # bytes of a body, or of a chunk, still to be thrown away
        self._chunked = False
        self._chunk_ends = False  # a chunk's line end comes next
        self._trailers = -1  # bytes of the lines behind the last chunk so far; -1: they have not begun

    @property
    def idle(self) -> bool:
        """Whether nothing of a next request has arrived."""
        return not (self._buffer or self._body or self._chunked or self._request or self._held)

    def receive_data(self, data: Buffer) -> None:
        """Bytes arrived; callers stop reading while they hold requests back."""
        if not self.failed:
            self._buffer += data

    def next_request(self) -> Request | None:
        """The next complete request, or a refusal; None: more bytes, or more allowance, are needed."""
        self.interrupted = False
        if self.failed:
            return None
        request = self._held or self._next_head()
        if request is None:
            return None
        if not request.refusal:
            whole = self._discard_body()
            self._held = request if self.interrupted else None
            if self.interrupted:
                return None
            self.body_read = whole or self.failed
            request.keep_alive = request.keep_alive and not self.failed
        if not request.keep_alive:
            self.failed = True
            self._buffer.clear()
        return request

    def _next_head(self) -> Request | None:
        """The next request whose head is complete, or a refusal, once the body before it is gone."""
        if not self._discard_body():
            return None
        self.body_read = True
        request = self._request or self._read_line()
        if request is not None and not request.refusal and request.minor >= 0:
            self._request = request
            request = self._read_headers(request)
        if request is not None:
            self._request = None
            self._seen = {}
            self._head_size = 0
        return request

    def _may_go_on(self) -> bool:
        """Take one line or chunk off the allowance; False once it is used up."""
        self.allowance -= 1
        self.interrupted = self.allowance < 0
        return not self.interrupted

    # ---- request line and headers ------------------------------------------------------------

    def _read_line(self) -> Request | None:
        buffer = self._buffer
        del buffer[: len(buffer) - len(buffer.lstrip(b"\r\n"))]
        end = buffer.find(b"\n", 0, MAX_LINE)
        if end < 0:
            if buffer and not _LINE_SO_FAR.fullmatch(buffer, 0, MAX_LINE):
                return Request(refusal=400)
            return Request(refusal=414) if len(buffer) >= MAX_LINE else None
        line = bytes(buffer[: end + 1])
        del buffer[: end + 1]
        self._head_size = len(line)
        return _request_line(line)

    def _read_headers(self, request: Request) -> Request | None:
        buffer = self._buffer
        at = 0
        try:
            while (end := buffer.find(b"\n", at)) >= 0:
                if not self._may_go_on():
                    return None
                line = bytes(buffer[at : end + 1])
                at = end + 1
                if line in (b"\n", b"\r\n"):
                    request.headers = {name: values[0] for name, values in self._seen.items()}
                    request.refusal = self._judge(request)
                    return request
                if len(line) > MAX_LINE or self._head_size + at > MAX_HEAD:
                    return _refused(request, 494)
                match = _HEADER.fullmatch(line)
                if match is None:
                    return _refused(request, 400)
                if _USUAL_NAME.fullmatch(match["name"]):
                    value = (match["value"] or b"").decode("latin-1")
                    self._seen.setdefault(match["name"].decode("ascii").lower(), []).append(value)
        finally:
            del buffer[:at]
            self._head_size += at
        too_long = len(buffer) > MAX_LINE or self._head_size + len(buffer) > MAX_HEAD
        return _refused(request, 494) if too_long else None

    def _judge(self, request: Request) -> int:
        """Fill in what the headers mean; the status that refuses them, or 0."""
        seen = self._seen
        hosts, lengths = seen.get("host", []), seen.get("content-length", [])
        codings = seen.get("transfer-encoding", [])
        if max(len(hosts), len(lengths), len(codings)) > 1 or (request.minor >= 1 and not hosts):
            return 400
        host = _HOST.fullmatch(hosts[0]) if hosts else None
        if hosts and (host is None or ".." in hosts[0]):
            return 400
        if host is not None and not request.host:
            request.host = host["name"].lower().removesuffix(".")
        if codings:
            self.body_read = not lengths
            if lengths or request.minor < 1:
                return 400
            if codings[0].lower() != "chunked":
                return 501
        if lengths and not (lengths[0].isascii() and lengths[0].isdigit() and len(lengths[0]) < 19):
            return 400
        if request.method == "TRACE":
            return 405
        length = int(lengths[0]) if lengths else 0
        self.body_read = length <= MAX_BODY
        if length > MAX_BODY:
            return 413
        self._body, self._chunked = length, bool(codings)
        connection = request.headers.get("connection", "").lower()
        request.keep_alive = (request.minor >= 1 or "keep-alive" in connection) and "close" not in connection
        request.expects_continue = (
            request.minor >= 1 and request.headers.get("expect", "").lower() == "100-continue"
        )
        return 0

    # ---- bodies, which nobody reads ---------------------------------------------------------------

    def _discard_body(self) -> bool:
        """Throw away what has come of a body; whether all of it has."""
        buffer = self._buffer
        while True:
            gone = min(self._body, len(buffer))
            del buffer[:gone]
            self._body -= gone
            if self._body:
                return False
            if not self._chunked:
                return True
            if not self._may_go_on():
                return False
            pattern = _CHUNK_END if self._chunk_ends else _TRAILER if self._trailers >= 0 else _CHUNK_LINE
            match = pattern.match(buffer)
            if match is None:
                self.failed = b"\n" in buffer or len(buffer) > MAX_CHUNK_LINE
                return False
            if self._chunk_ends:
                self._chunk_ends = False
            elif self._trailers >= 0:
                self._trailers += match.end()
                if match[0] in (b"\n", b"\r\n"):
                    self._chunked, self._trailers = False, -1
                elif self._trailers > MAX_CHUNK_LINE:
                    self.failed = True
                    return False
            elif int(match["size"], 16):
                self._body, self._chunk_ends = int(match["size"], 16), True
            else:  # the last chunk: what follows up to an empty line is trailers
                self._trailers = 0
            del buffer[: match.end()]


def _refused(request: Request, status: int) -> Request:
    """The refusal of a request whose line is known."""
    return Request(request.method, request.uri, request.minor, refusal=status)


def _request_line(line: bytes) -> Request:
    """A request line as a request without headers, or its refusal."""
    match = _LINE.fullmatch(line)
    if match is None:
        return Request(refusal=400)
    major, method = match["major"], match["method"].decode("ascii")
    if major is not None and int(major) > 1:
        return Request(refusal=505)
    if major is None:
        return Request(method, _uri(match), -1, refusal=0 if method == "GET" else 400)
    host = (match["host"] or b"").decode("ascii").lower().removesuffix(".")
    return Request(method, _uri(match), int(match["minor"]), host=host)


def _uri(match: re.Match[bytes]) -> str:
    """Path and query of a request line, whichever form it has (RFC 9112 section 3.2)."""
    uri = (match["path"] or match["rest"]).decode("latin-1")
    return uri if uri.startswith("/") else "/" + uri
