"""What people and their accounts bring: the page's requests, the control socket, what is stored of them."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from fuzz_target import Reach, Table, Tape, cut, uncut

from ptproxy.auth.access import Access, AccessList
from ptproxy.auth.access_record import KINDS, Identity, Invite
from ptproxy.auth.account import Account, Standing
from ptproxy.auth.credentials import Token
from ptproxy.cli.given import find_given
from ptproxy.errors import AuthenticationError, RemoteProtocolError, StartError
from ptproxy.front.http_head import RequestHead
from ptproxy.proxy.account_policy import AccountTargets
from ptproxy.proxy.account_service import FrameReader, Told
from ptproxy.proxy.account_store import DATABASE, SqliteStore
from ptproxy.proxy.control_lines import ControlError, Reply, Request
from ptproxy.proxy.page.answers import Answers, refusal
from ptproxy.proxy.page.document import document
from ptproxy.proxy.page.form import read_form
from ptproxy.proxy.page.guard import Guard, Keys
from ptproxy.proxy.page.request import Refused, RequestReader
from ptproxy.proxy.page.steering import Phase, Snapshot
from ptproxy.proxy.page.texts import all_texts
from ptproxy.proxy.page.view import View, account_seen
from ptproxy.proxy.policy import RuleError
from ptproxy.tunnel.neighbours import Handed

TABLE = Table("people")
NOW = 1_800_000_000
KEYS = Keys("D" * 43, "P" * 43, "C" * 43, "F" * 43)
HOST = b"127.0.0.1:8080"
BOUNDARY = b"----WebKitFormBoundaryAbCdEf0123456789"
KIND = b"multipart/form-data; boundary=" + BOUNDARY


class Client:
    """A client that is not there: what the page asks of it is done."""

    takes_links = True
    reads_pictures = True

    async def look(self) -> Snapshot:
        return Snapshot(Phase.ENDED, None, "it said <so>")

    async def take(self, given: bytes) -> str:
        find_given(given.decode("utf-8", "replace"), ("ptproxy://", "ptproxy-invite:"))
        return "said_taken"

    async def choose(self, bridge: str) -> str:
        return "said_chosen" if bridge else "said_not_chosen"

    async def again(self) -> str:
        return "said_again"


def form(**fields: bytes) -> bytes:
    """A form's body as browsers write it."""
    parts = b"".join(
        b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (BOUNDARY, name.encode(), value)
        for name, value in fields.items()
    )
    return parts + b"--%s--\r\n" % BOUNDARY


def request(method: bytes, path: bytes, body: bytes = b"") -> bytes:
    """A request as a browser sends it to the page."""
    about = b"Origin: http://%s\r\nContent-Type: %s\r\n" % (HOST, KIND) if method == b"POST" else b""
    return (
        b"%s %s HTTP/1.1\r\nHost: %s\r\nAccept-Language: fa,en;q=0.9\r\nSec-Fetch-Site: same-origin\r\n"
        b"Cookie: ptproxy=%s\r\nContent-Length: %d\r\n%s\r\n%s"
    ) % (method, path, HOST, KEYS.cookie.encode(), len(body), about, body)


def requests() -> list[bytes]:
    """One of each kind."""
    place, token = b"/" + KEYS.place.encode() + b"/", KEYS.form.encode()
    return uncut(
        request(b"GET", b"/" + KEYS.door.encode()),
        request(b"GET", place + b"?lang=zh&said=said_taken"),
        request(b"HEAD", place + b"page.js"),
        request(b"POST", place + b"link", form(token=token, link=b"ptproxy://x", picture=b"")),
        request(b"POST", place + b"bridge", form(token=token, bridge=b"bridge.example:443")),
        request(b"POST", place + b"again?lang=ru", form(token=token)),
    )


def done(coroutine: Any) -> Any:
    """What a coroutine that waits for nothing returns."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("it waits")


@TABLE.target("page", Reach.LOCAL, "client", seeds=requests, longest=8192)
def page(data: bytes) -> None:
    """A request to the client's page, from its first byte to the answer; who has no key learns nothing."""
    guard = Guard(HOST.decode(), KEYS)
    reader = RequestReader(guard.body_of)
    try:
        for part in cut(data):
            if (found := reader.receive_data(part)) is not None:
                break
        else:
            return
        answer = done(Answers(guard, Client()).answer(found))
    except Refused as error:
        answer = refusal(error, reader.head)
        assert not any(key.encode() in answer.serialize() for key in (KEYS.place, KEYS.cookie, KEYS.form))
    head, _, body = answer.serialize().partition(b"\r\n\r\n")
    assert head.count(b"\r\nContent-Length: ") == 1
    assert len(head.split(b"\r\n")) == 11 + len(answer.fields), "nothing of a request is a field of its own"
    assert len(body) == len(answer.body)


HEAD = RequestHead.parse(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: " + KIND + b"\r\n\r\n")


@TABLE.target(
    "form",
    Reach.LOCAL,
    "client",
    Refused,
    seeds=lambda: [
        form(token=KEYS.form.encode(), link=b"ptproxy://x", bridge=b"a:1"),
        form(picture=b"\x89PNG\r\n--x").replace(
            b'"picture"', b'"picture"; filename="a.png"\r\nContent-Type: a/b'
        ),
        form(a=b"", b=b"--" + BOUNDARY[:-1]),
    ],
)
def forms(data: bytes) -> None:
    """A form's body; what is read is written so that it is read the same."""
    found = read_form(HEAD, data)
    assert read_form(HEAD, form(**found)) == found


class Elements(HTMLParser):
    """Counts the elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.count = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self.count += 1


SHOWN = ("state", "quota", "used", "resets_at", "expires_at")
STANDING = Standing("anna", None, NOW, 1 << 40, 5 << 30, NOW + 86_400, 1 << 20)


@TABLE.target(
    "told",
    Reach.AFTER,
    "client",
    RemoteProtocolError,
    seeds=lambda: uncut(
        Told.of(STANDING, "").serialize() + Told.of(STANDING, "revoked").serialize(),
        Told("<b>", "expired", None, None, 0, None, None).serialize(),
        Told("x", "quota", (1 << 63) - 1, 0, (1 << 63) - 1, 0, 0).serialize(),
    ),
)
def told(data: bytes) -> None:
    """What a bridge says of an account, up to the page: it never adds an element of its own."""
    reader = FrameReader()
    texts = all_texts()["en"]
    for part in cut(data):
        for each in reader.receive_data(part):
            assert Told.parse(each.serialize()[2:]) == each
            assert 0 <= each.share <= 5
            state = {
                name: getattr(each, name) for name in ("state", "quota", "used", "resets_at", "expires_at")
            }
            state["left"] = None if each.quota is None else max(0, each.quota - each.used)
            seen = account_seen("bridge.example:443", state, texts)
            shown = document(View("connected", accounts=[seen], technical=each.name), texts, "F", Client())
            plain = document(View("connected", accounts=[seen], technical="x"), texts, "F", Client())
            assert not each.name.strip() or Elements(shown).count == Elements(plain).count


@TABLE.target(
    "control",
    Reach.LOCAL,
    "bridge, client",
    ControlError,
    seeds=lambda: [
        b"\0" + Request("prefer", "bridge.example:443").serialize()[:-1],
        b"\0" + Request("state").serialize()[:-1],
        b"\1" + Reply({"role": "client", "bridges": []}).serialize()[:-1],
        b"\1" + Reply.refusal(["a.yaml:3: no", "b"] * 40).serialize()[:-1],
    ],
)
def control(data: bytes) -> None:
    """A line of the control socket: what is asked, and (1) what is answered."""
    kind: type[Request] | type[Reply] = Reply if data[:1] == b"\1" else Request
    found = kind.parse(data[1:])
    assert kind.parse(found.serialize()[:-1]) == found


PERSON = Identity(bytes(range(32)), "anna", NOW, NOW + 9, False, "", (22,))
INVITE = Invite(Token(bytes(16)).id, "anna", 3, NOW + 9, 86_400, (8080,), "anna")
ACCOUNT = Account(
    "anna", NOW, True, NOW + 9, 2, 1 << 40, 28, 1 << 20, "a note", ("*:443", "example.org"),
    ("mailbox",), (8080,),
)  # fmt: skip


@TABLE.target(
    "entries",
    Reach.DISK,
    "bridge",
    ValueError,
    RuleError,
    seeds=lambda: [
        bytes((number,)) + json.dumps(one.serialize()).encode()
        for number, one in enumerate((PERSON, INVITE, ACCOUNT))
    ],
)
def entries(data: bytes) -> None:
    """One entry of the accounts' database; what is read is written the same, and its rules are read."""
    kind = list(KINDS.values())[Tape(data).byte() % len(KINDS)][0]
    try:
        found = json.loads(data[1:])
    except (ValueError, RecursionError):
        return
    entry = kind.parse(found)
    assert kind.parse(json.loads(json.dumps(entry.serialize()))) == entry
    if isinstance(entry, Account):
        AccountTargets(entry.targets).allows_name("www.example.org", 443)


FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
WHOLE: list[bytes] = []


def _folder() -> Path:
    """A folder of this process's own, in memory where the system has such a place."""
    if not FOLDERS:
        memory = Path("/dev/shm")
        FOLDERS.append(tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None))
    return Path(FOLDERS[0].name)


def _fill(known: AccessList) -> None:
    for kind, entry in (("identities", PERSON), ("invites", INVITE), ("accounts", ACCOUNT)):
        known.take_in(kind, getattr(entry, KINDS[kind][1]), entry)
        known.touched.add((kind, getattr(entry, KINDS[kind][1])))


def _whole() -> bytes:
    """A sound database, written once."""
    if not WHOLE:
        path = _folder() / DATABASE
        path.unlink(missing_ok=True)
        store = SqliteStore(_folder(), Access.ENROLLED)
        store.update(_fill)
        store.add_moved({"anna": (5, 7)}, {"anna": 28}, NOW)
        store.close()
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        WHOLE.append(path.read_bytes())
    return WHOLE[0]


@TABLE.target(
    "database",
    Reach.DISK,
    "bridge",
    StartError,
    AuthenticationError,  # what was damaged is no longer on the list
    seeds=lambda: [b"", b"\0\x12\1\xff", b"\x20\0\4abcd\0\x64\2\0\0"],
    longest=256,
)
def database(data: bytes) -> None:
    """The accounts' database, damaged in places: refused in words, or read and written."""
    tape, damaged = Tape(data), bytearray(_whole())
    while tape:
        at, patch = tape.number() << 2, tape.piece()
        damaged[at : at + len(patch)] = patch
    path = _folder() / DATABASE
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    path.write_bytes(damaged)
    store = SqliteStore(_folder(), Access.ENROLLED)
    try:
        store.follow()
        store.list.decide(PERSON.public, bytes(16), NOW)
        store.update(_fill)
        store.add_moved({"anna": (1, 1)}, {"anna": 28}, NOW)
    finally:
        store.close()


@TABLE.target(
    "neighbours",
    Reach.LOCAL,
    "bridge",
    ValueError,
    seeds=lambda: [
        Handed(b"said", bytes(32), ("192.0.2.1", 4000)).serialize(),
        Handed(b"", b"", ("2001:db8::1", 1)).serialize(),
        Handed(b"x").serialize(),
    ],
)
def neighbours(data: bytes) -> None:
    """A connection that another worker hands over."""
    found = Handed.parse(data)
    assert Handed.parse(found.serialize()).said == found.said
