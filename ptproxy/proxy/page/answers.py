"""Which request gets which page, and what it does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.resources import files
from typing import Final

from ptproxy.front.http_head import RequestHead
from ptproxy.proxy.page.document import closed_document, document, door_document
from ptproxy.proxy.page.form import read_form
from ptproxy.proxy.page.guard import COOKIE, Asked, Guard
from ptproxy.proxy.page.request import Refused, Request
from ptproxy.proxy.page.steering import MAX_BRIDGE, Steering
from ptproxy.proxy.page.texts import FALLBACK, Texts, all_texts, language_for
from ptproxy.proxy.page.view import view_of

HTML: Final = "text/html; charset=utf-8"
FILES: Final = {"style.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8"}
"""What the page loads, and its types."""

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
GUARDS: Final = (
    ("Content-Security-Policy", POLICY),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),  # no-referrer would take the Origin out of our own forms
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Connection", "close"),
)
"""Fields of every answer."""
_PARAMETER = re.compile(r"(?:^|&)(lang|said)=([a-z_]{1,40})(?=&|$)")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of HTTP."""

    status: int
    kind: str = HTML
    body: bytes = b""
    fields: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def serialize(self, *, with_body: bool = True) -> bytes:
        """Its bytes; the connection ends behind them."""
        about = (("Content-Type", self.kind), ("Content-Length", str(len(self.body))))
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in (*about, *GUARDS, *self.fields)]
        head = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
        return head + (self.body if with_body else b"")


class Answers:
    """Answers requests about one client."""

    def __init__(self, guard: Guard, steering: Steering) -> None:
        self.guard = guard
        self._steering = steering

    async def answer(self, request: Request) -> Answer:
        """The answer to a request whose head was admitted; raises :class:`Refused`."""
        asked = self.guard.admit(request.head)
        parameters = dict(_PARAMETER.findall(asked.query))
        texts = texts_for(request.head, parameters)
        if asked.is_door:
            return self._door(texts)
        if asked.method == "POST":
            said = await self._do(asked, read_form(request.head, request.body))
            return _elsewhere(f"/{self.guard.keys.place}/?lang={texts.language}&said={said}")
        if asked.path in FILES:
            return Answer(200, FILES[asked.path], _file(asked.path))
        if asked.path:
            raise Refused(404, "nothing is there")
        said = parameters.get("said", "")
        if said not in texts.of or not said.startswith("said_"):
            said = ""
        view = view_of(await self._steering.look(), texts)
        page = document(view, texts, self.guard.keys.form, self._steering, said)
        return Answer(200, body=page.encode())

    def _door(self, texts: Texts) -> Answer:
        keys = self.guard.keys
        cookie = f"{COOKIE}={keys.cookie}; Path=/{keys.place}/; HttpOnly; SameSite=Strict"
        page = door_document(keys.place, texts).encode()
        return Answer(200, body=page, fields=(("Set-Cookie", cookie),))

    async def _do(self, asked: Asked, form: Mapping[str, bytes]) -> str:
        """What a form wants; the key of how it went."""
        if not self.guard.may_post(form.get("token", b"").decode("utf-8", "replace")):
            raise Refused(403, "not a form of this page")
        if asked.path == "link" and self._steering.takes_links:
            given = form.get("link", b"").strip() or form.get("picture", b"")
            return await self._steering.take(given) if given else "said_nothing"
        if asked.path == "bridge":
            name = form.get("bridge", b"").decode("utf-8", "replace")
            return await self._steering.choose(name) if len(name) <= MAX_BRIDGE else "said_not_chosen"
        if asked.path == "again":
            return await self._steering.again()
        raise Refused(404, "nothing is there")


def texts_for(head: RequestHead, parameters: Mapping[str, str]) -> Texts:
    """In which language: the one that was chosen, else the browser's."""
    known = all_texts()
    chosen = parameters.get("lang", "")
    if chosen not in known:
        accepted = head.fields.values_of(b"accept-language")
        chosen = language_for(accepted[0].decode("latin-1")) if accepted else FALLBACK
    return known[chosen]


def refusal(error: Refused, head: RequestHead | None = None) -> Answer:
    """What a request gets that is refused: it tells nothing of the client."""
    texts = all_texts()[FALLBACK] if head is None else texts_for(head, {})
    fields = (("Allow", "GET, HEAD, POST"),) if error.status == 405 else ()
    key = "too_big" if error.status == 413 else "closed"
    return Answer(error.status, body=closed_document(texts, key).encode(), fields=fields)


def _elsewhere(place: str) -> Answer:
    return Answer(303, fields=(("Location", place),))


def _file(name: str) -> bytes:
    return files("ptproxy.proxy.page").joinpath(name).read_bytes()
