"""Static files as a common web server answers for them, without I/O after the start.

Headers, their order, and error pages are those of nginx 1.22 with
``server_tokens off``, which is what a stranger would compare with. Of ranges
only single ones are served; several are answered with the whole file, as
RFC 9110 section 14.2 allows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Final

from ptproxy.proxy.web_request import Request

SERVER: Final = "nginx"

TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".txt": "text/plain",
    ".ico": "image/x-icon",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".js": "application/javascript",
    ".xml": "text/xml",
}

REASONS: Final = {
    200: "OK",
    206: "Partial Content",
    301: "Moved Permanently",
    304: "Not Modified",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Not Allowed",
    412: "Precondition Failed",
    413: "Request Entity Too Large",
    414: "Request-URI Too Large",
    416: "Requested Range Not Satisfiable",
    501: "Not Implemented",
    502: "Bad Gateway",
    505: "HTTP Version Not Supported",
}

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_RANGE = re.compile(r"bytes=\s*(\d*)\s*-\s*(\d*)\s*")


@dataclass(frozen=True, slots=True)
class File:
    """One file of the site."""

    body: bytes
    media_type: str
    modified: str
    """As ``Last-Modified`` says it."""
    etag: str


class Pages:
    """A folder of static files, read once."""

    def __init__(self, folder: Path) -> None:
        """Read everything under ``folder``; raises ``OSError``."""
        self._files: dict[str, File] = {}
        self._folders = {"/"}
        for path in sorted(folder.rglob("*")):
            name = "/" + path.relative_to(folder).as_posix()
            if path.is_dir():
                self._folders.add(name + "/")
            elif path.suffix in TYPES:
                body, modified = path.read_bytes(), int(path.stat().st_mtime)
                self._files[name] = File(
                    body,
                    TYPES[path.suffix],
                    formatdate(modified, usegmt=True),
                    f'"{modified:x}-{len(body):x}"',
                )

    def answer(self, request: Request, *, scheme: str, local_port: int, date: str) -> bytes:
        """The whole answer to ``request``; ``date`` is the value of its Date header."""
        if request.refusal:
            return error_page(request.refusal, request, date)
        path = normal_path(request.uri)
        if path is None:
            return error_page(400, request, date, keep_alive=False)
        if request.method not in ("GET", "HEAD", "POST"):
            return error_page(405, request, date)
        if path.endswith("/"):
            if path not in self._folders:
                return error_page(404, request, date)
            path += "index.html"
            if path not in self._files:
                return error_page(403, request, date)
        elif path + "/" in self._folders:
            return _moved(request, path, scheme, local_port, date)
        file = self._files.get(path)
        if file is None:
            return error_page(404, request, date)
        if request.method == "POST":
            return error_page(405, request, date)
        return _file(request, file, date)


def normal_path(uri: str) -> str | None:
    """The path of ``uri``: decoded, slashes merged, dots resolved; None where that is impossible."""
    raw = uri.partition("#")[0].partition("?")[0].encode("latin-1") or b"/"
    wrong = False

    def decode(match: re.Match[bytes]) -> bytes:
        nonlocal wrong
        wrong = wrong or match[1] is None or match[1] == b"00"
        return bytes.fromhex(match[1].decode()) if match[1] else b""

    decoded = _ESCAPE.sub(decode, raw)
    if wrong:
        return None
    parts = decoded.decode("latin-1").split("/")
    kept: list[str] = []
    for part in parts[1:]:
        if part == "..":
            if not kept:
                return None
            kept.pop()
        elif part not in ("", "."):
            kept.append(part)
    ends_open = parts[-1] in ("", ".", "..") and kept
    return "/" + "/".join(kept) + ("/" if ends_open else "")


def error_page(
    status: int,
    request: Request,
    date: str,
    *,
    keep_alive: bool | None = None,
    extra: Mapping[str, str] | None = None,
) -> bytes:
    """The short page for ``status``; 494 is nginx's own name for a 400 about too much header."""
    title = heading = f"{status} {REASONS.get(status, 'Error')}"
    detail = ""
    if status == 494:
        status, heading = 400, "400 Bad Request"
        title = "400 Request Header Or Cookie Too Large"
        detail = "<center>Request Header Or Cookie Too Large</center>\r\n"
    body = _short_page(title, heading, detail)
    headers = {"Content-Type": "text/html", "Content-Length": str(len(body)), "Connection": ""}
    return _serialize(status, request, date, {**headers, **(extra or {})}, body, keep_alive=keep_alive)


def _short_page(title: str, heading: str = "", detail: str = "") -> bytes:
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{heading or title}</h1></center>\r\n"
        f"{detail}<hr><center>{SERVER}</center>\r\n</body>\r\n</html>\r\n"
    ).encode("ascii")


def _moved(request: Request, path: str, scheme: str, local_port: int, date: str) -> bytes:
    """The redirect to a folder's own name."""
    host = request.host
    port = "" if local_port == (443 if scheme == "https" else 80) else f":{local_port}"
    query = "?" + request.uri.partition("?")[2] if "?" in request.uri else ""
    location = f"{scheme}://{host}{port}{_escape(path)}/{query}" if host else f"{_escape(path)}/{query}"
    body = _short_page("301 Moved Permanently")
    headers = {
        "Content-Type": "text/html", "Content-Length": str(len(body)), "Location": location, "Connection": "",
    }  # fmt: skip
    return _serialize(301, request, date, headers, body)


def _file(request: Request, file: File, date: str) -> bytes:
    """A file, a part of it, or that it has not changed."""
    asked = request.headers
    if "if-match" in asked and not _names(asked["if-match"], file.etag, weak=False):
        return error_page(412, request, date)
    if "if-unmodified-since" in asked and _time(asked["if-unmodified-since"]) < _time(file.modified):
        return error_page(412, request, date)
    if "if-none-match" in asked:
        unchanged = _names(asked["if-none-match"], file.etag, weak=True)
    else:
        unchanged = asked.get("if-modified-since") == file.modified
    if unchanged:
        headers = {"Last-Modified": file.modified, "Connection": "", "ETag": file.etag}
        return _serialize(304, request, date, headers, b"")
    status, body = 200, file.body
    span = None
    if "range" in asked and asked.get("if-range", file.etag) in (file.etag, file.modified):
        span = _span(asked["range"], len(body))
    if span is not None and span[0] >= span[1]:
        return error_page(416, request, date, extra={"Content-Range": f"bytes */{len(body)}"})
    headers = {
        "Content-Type": file.media_type,
        "Content-Length": str(len(body)),
        "Last-Modified": file.modified,
        "Connection": "",
        "ETag": file.etag,
        "Accept-Ranges": "bytes",
    }
    if span is not None:
        status, size = 206, len(body)
        body = body[span[0] : span[1]]
        headers["Content-Length"] = str(len(body))
        del headers["Accept-Ranges"]
        headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{size}"
    return _serialize(status, request, date, headers, body)


def _span(text: str, size: int) -> tuple[int, int] | None:
    """A single range as start and end, empty where it cannot be had; None: all of it."""
    match = _RANGE.fullmatch(text.lower()) if len(text) < 64 else None
    if match is None:
        return (0, 0) if re.match(r"bytes=[^,]+$", text.lower()) else None
    first, last = match[1], match[2]
    if not first:
        count = min(int(last or "0"), size)
        return size - count, size
    end = min(int(last) + 1, size) if last else size
    return int(first), end


def _time(text: str) -> float:
    """An HTTP date in seconds, 0 where it is none."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _names(value: str, etag: str, *, weak: bool) -> bool:
    """Whether a list of entity tags holds ``etag``."""
    tags = [tag.strip() for tag in value.split(",")]
    return tags == ["*"] or etag in tags or (weak and f"W/{etag}" in tags)


def _escape(path: str) -> str:
    """Percent-encode what must not stand in a header."""
    return re.sub(r"[^!$&-;=?-Z_a-z~@]", lambda match: f"%{ord(match[0]):02X}", path)


def _serialize(
    status: int,
    request: Request,
    date: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    keep_alive: bool | None = None,
) -> bytes:
    """The answer's bytes; an empty Connection header in ``headers`` marks its place."""
    if request.minor < 0:
        return body
    keep = request.keep_alive if keep_alive is None else keep_alive
    lines = [f"HTTP/1.1 {status} {REASONS[status]}", f"Server: {SERVER}", f"Date: {date}"]
    for name, value in headers.items():
        lines.append(f"{name}: {value or ('keep-alive' if keep else 'close')}")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head if request.method == "HEAD" else head + body
