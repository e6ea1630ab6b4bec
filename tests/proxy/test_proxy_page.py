"""The client's page without a socket: who is admitted, what is read, and what is shown."""

from __future__ import annotations

import asyncio
import contextlib
import re
from html.parser import HTMLParser
from string import Formatter

import pytest
from client_page_rig import (
    AUTHORITY,
    BOUNDARY,
    KEYS,
    StoodIn,
    client_state,
    form_body,
    post,
    read,
    request_head,
)
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.front.http_head import RequestHead
from ptproxy.proxy.page.answers import GUARDS, Answers, refusal
from ptproxy.proxy.page.document import document
from ptproxy.proxy.page.form import read_form
from ptproxy.proxy.page.guard import MAX_FORM, MAX_PICTURE, Guard, Keys
from ptproxy.proxy.page.request import MAX_HEAD, Refused, RequestReader
from ptproxy.proxy.page.steering import Phase, RunningClient, Snapshot
from ptproxy.proxy.page.texts import all_texts, language_for
from ptproxy.proxy.page.view import size, view_of
from ptproxy.ways import Degree

LANGUAGES = ("en", "fa", "zh", "ru")
EN = all_texts()["en"]


def status_of(data: bytes) -> int:
    with pytest.raises(Refused) as caught:
        read(data)
    return caught.value.status


def answered(data: bytes, steering=None):
    request = read(data)
    assert request is not None
    return asyncio.run(Answers(Guard(AUTHORITY, KEYS), steering or StoodIn(client_state())).answer(request))


# ---- who is admitted ------------------------------------------------------------------------------


def test_its_own_requests_are_admitted() -> None:
    assert read(request_head()) is not None
    assert read(request_head(sec_fetch_site=None)) is not None  # an older browser
    assert read(request_head(sec_fetch_site="none")) is not None  # typed by a person
    assert read(post("bridge", {"bridge": b"x"})) is not None
    assert read(request_head("HEAD")) is not None


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request_head(host="attacker.example:8080"), 421),  # a name that was rebound to this machine
        (request_head(host="localhost:8080"), 421),
        (request_head(host="127.0.0.1"), 421),
        (request_head(host="127.0.0.1:8081"), 421),
        (request_head(host=None), 421),
        (request_head().replace(b"\r\n\r\n", b"\r\nHost: 127.0.0.1:8080\r\n\r\n"), 421),
        (request_head(cookie="ptproxy=" + "A" * 43), 403),
        (request_head(cookie="other=1"), 403),
        (request_head(cookie=f"ptproxy={KEYS.cookie}; ptproxy={KEYS.cookie}"), 403),
        (request_head(cookie=f"ptproxy={KEYS.door}"), 403),
        (request_head(cookie="ptproxy=\xe9".encode("latin-1").decode("latin-1")), 403),
        (request_head().replace(KEYS.place.encode(), b"A" * 43), 403),
        (request_head().replace(KEYS.place.encode(), KEYS.door.encode()), 403),
        (request_head().replace(KEYS.place.encode(), b"index.html"), 404),
        (request_head(path="../x"), 404),
        (request_head(sec_fetch_site="cross-site"), 403),
        (request_head(sec_fetch_site="same-site"), 403),  # another port of this machine
        (request_head(origin="http://127.0.0.1:9999"), 403),
        (post("link", {}, origin="http://attacker.example"), 403),
        (post("link", {}, origin="http://127.0.0.1:9999"), 403),
        (post("link", {}, origin="null"), 403),
        (post("link", {}, origin=None), 403),
        (request_head("PUT"), 405),
        (request_head("OPTIONS"), 405),  # no other origin is permitted anything
        (request_head(transfer_encoding="chunked"), 411),
        (request_head("POST", "link", content_length=str(MAX_PICTURE + 1)), 413),
        (request_head("POST", "bridge", content_length=str(MAX_FORM + 1)), 413),
        (request_head(content_length="1"), 413),
        (request_head(content_length="9" * 30), 400),
        (request_head(x="y" * MAX_HEAD), 431),
        (b"GET " + b"/" * (MAX_HEAD + 1), 431),
        (b"\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
    ],
)
def test_hostile_requests_are_refused_by_their_head(data: bytes, status: int) -> None:
    assert status_of(data) == status


def test_the_door_is_open_to_who_has_its_address_alone() -> None:
    head = f"GET /{KEYS.door} HTTP/1.1\r\nHost: {AUTHORITY}\r\nSec-Fetch-Site: cross-site\r\n\r\n".encode()
    answer = answered(head)
    assert answer.status == 200
    ((name, cookie),) = answer.fields
    assert name == "Set-Cookie"
    assert cookie == f"ptproxy={KEYS.cookie}; Path=/{KEYS.place}/; HttpOnly; SameSite=Strict"
    assert f"/{KEYS.place}/".encode() in answer.body
    assert status_of(head.replace(b"GET", b"POST")) == 403
    assert status_of(head.replace(AUTHORITY.encode(), b"attacker.example:8080")) == 421


def test_each_start_has_other_secrets_that_no_text_of_theirs_shows() -> None:
    one, other = Keys(), Keys()
    secrets = [getattr(keys, name) for keys in (one, other) for name in Keys.__slots__]
    assert len(set(secrets)) == 8
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", secret) for secret in secrets)
    assert not any(secret in repr(one) for secret in secrets)


def test_a_form_needs_the_page_s_token() -> None:
    for token in ("", "A" * 43, KEYS.cookie, "é"):
        request = read(post("bridge", {"bridge": b"x"}, token=token))
        assert request is not None
        with pytest.raises(Refused, match="not a form"):
            asyncio.run(Answers(Guard(AUTHORITY, KEYS), StoodIn()).answer(request))


# ---- requests and forms ---------------------------------------------------------------------------


@given(st.lists(st.integers(min_value=0, max_value=2000)))
def test_a_request_is_the_same_however_it_is_split(cuts: list[int]) -> None:
    data = post("link", {"link": b"x" * 600, "picture": bytes(range(256))})
    reader, got, last = RequestReader(Guard(AUTHORITY, KEYS).body_of), [], 0
    for cut in [*sorted(cut for cut in cuts if cut < len(data)), len(data)]:
        got.append(reader.receive_data(data[last:cut]))
        last = cut
    whole = read(data)
    assert whole is not None
    found = [request for request in got if request is not None]
    assert found
    assert found[0].body == whole.body
    assert all(request is None for request in got[:-1] if request not in found)


@given(st.binary(max_size=400))
def test_garbage_is_refused_or_waited_for(data: bytes) -> None:
    status = 400
    try:
        assert read(data) is None
    except Refused as error:
        status = error.status
    assert refusal(Refused(status, "")).serialize().startswith(b"HTTP/1.1 4")


@given(st.binary(max_size=300))
def test_garbage_in_a_form_is_refused(body: bytes) -> None:
    head = RequestHead.parse(request_head("POST"))
    for data in (body, form_body({"a": body}), form_body({"a": b"x"})[: len(body)]):
        with contextlib.suppress(Refused):
            assert isinstance(read_form(head, data), dict)


def test_a_form_is_read_as_browsers_send_it() -> None:
    head = RequestHead.parse(request_head("POST"))
    body = form_body({"token": b"t", "link": b"one\r\ntwo"}).replace(
        f"--{BOUNDARY}--".encode(),
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="picture"; filename="\xe9 \\"x\\".png"\r\n'
        f"Content-Type: image/png\r\n\r\n\x89PNG\r\n--x\r\n--{BOUNDARY}--".encode("latin-1"),
    )
    assert read_form(head, body) == {"token": b"t", "link": b"one\r\ntwo", "picture": b"\x89PNG\r\n--x"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        form_body({"a": b"x"})[:-6],  # the end has not come
        b"before" + form_body({"a": b"x"}),
        form_body({"a": b"x"}) + b"behind",
        form_body({"a": b"x"}).replace(b"form-data", b"attachment"),
        form_body({"a": b"x"}).replace(b'"a"', b'"../a"'),
        form_body({"a": b"x"}) .replace(b"Content-Disposition", b"X"),
        form_body({"a": b"x"}).replace(b"\r\n\r\nx", b"\r\n" + b"y" * 3000 + b": \r\n\r\nx"),
        form_body(dict.fromkeys("abcdefghi", b"x")),
        form_body({"a": b"x"})[: -len(BOUNDARY) - 6] + form_body({"a": b"y"}),  # twice
    ],
)  # fmt: skip
def test_a_damaged_form_is_refused(body: bytes) -> None:
    with pytest.raises(Refused):
        read_form(RequestHead.parse(request_head("POST")), body)


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "multipart/form-data", ""])
def test_only_the_page_s_kind_of_form_is_read(kind: str) -> None:
    """A page of another site can send text/plain without asking."""
    with pytest.raises(Refused) as caught:
        read_form(RequestHead.parse(request_head("POST", content_type=kind)), form_body({"a": b"x"}))
    assert caught.value.status == 415


# ---- answers --------------------------------------------------------------------------------------


def test_every_answer_is_guarded() -> None:
    answers = [
        answered(request_head()), answered(request_head(path="style.css")), refusal(Refused(403, "no")),
        answered(post("bridge", {"bridge": b"x"})),
    ]  # fmt: skip
    for answer in answers:
        head = answer.serialize().partition(b"\r\n\r\n")[0].decode()
        for name, value in GUARDS:
            assert f"\r\n{name}: {value}" in head
        assert "Access-Control" not in head
    assert "default-src 'none'" in dict(GUARDS)["Content-Security-Policy"]
    assert "unsafe" not in dict(GUARDS)["Content-Security-Policy"]


def test_what_is_refused_tells_nothing_of_the_client() -> None:
    body = refusal(Refused(403, "no"), RequestHead.parse(request_head(accept_language="ru"))).body.decode()
    assert all_texts()["ru"].say("closed") in body
    assert not any(secret in body for secret in (KEYS.door, KEYS.place, KEYS.cookie, KEYS.form, "1080"))


def test_forms_do_what_they_say_and_lead_back_to_the_page() -> None:
    client = StoodIn(client_state())
    for data, said in (
        (post("link?lang=fa", {"link": b" ptproxy://x \r\n", "picture": b""}), "said_taken"),
        (post("link?lang=fa", {"link": b"", "picture": b"\x89PNG"}), "said_taken"),
        (post("link?lang=fa", {"link": b"  "}), "said_nothing"),
        (post("bridge?lang=fa", {"bridge": b"bridge.example:443"}), "said_chosen"),
        (post("bridge?lang=fa", {"bridge": b"x" * 301}), "said_not_chosen"),
        (post("again?lang=fa", {}), "said_again"),
    ):
        answer = answered(data, client)
        assert answer.status == 303
        assert answer.fields == (("Location", f"/{KEYS.place}/?lang=fa&said={said}"),)
    assert client.taken == [b"ptproxy://x", b"\x89PNG"]
    assert client.chosen == ["bridge.example:443"]
    assert client.started == 1
    client.takes_links = False
    for path in ("link", "other", ""):
        with pytest.raises(Refused):
            answered(post(path, {"link": b"x"}), client)
    with pytest.raises(Refused):
        answered(request_head(path="link"), client)


def test_what_was_said_is_one_of_the_page_s_own_texts() -> None:
    assert EN.say("said_over").encode() in answered(request_head(path="?said=said_over")).body
    for unknown in ("said_x", "closed", "%3Cscript%3E"):
        assert b'id="said"' not in answered(request_head(path=f"?said={unknown}")).body


def test_a_running_client_takes_no_links_and_is_steered() -> None:
    chosen: list[str] = []
    client = RunningClient(client_state, chosen.append)
    page = answered(request_head(), client).body.decode()
    assert 'id="status" class="connected"' in page
    assert 'id="add"' not in page
    assert asyncio.run(client.choose("bridge.example:443")) == "said_chosen"
    assert chosen == ["bridge.example:443"]
    assert asyncio.run(client.take(b"x")) == "said_by_hand"


# ---- texts ----------------------------------------------------------------------------------------


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_every_language_has_every_text_and_placeholder() -> None:
    texts = all_texts()
    assert tuple(texts) == LANGUAGES
    for code, each in texts.items():
        assert each.of.keys() == EN.of.keys(), code
        for key, text in each.of.items():
            assert text.strip() == text != ""
            assert placeholders(text) == placeholders(EN.of[key]), (code, key)
            if code != "en" and key != "name" and not key.startswith("unit_"):
                assert text != EN.of[key], (code, key)
    assert {code: each.direction for code, each in texts.items()} == {
        "en": "ltr", "fa": "rtl", "zh": "ltr", "ru": "ltr"
    }  # fmt: skip


def test_every_degree_and_condition_has_words() -> None:
    assert all(f"met_{degree.name.lower()}" in EN.of for degree in Degree)
    for condition in (
        "empty", "starting", "trying", "connected", "refused", "blocked", "stopping", "ended"
    ):  # fmt: skip
        assert {f"state_{condition}", f"help_{condition}"} <= EN.of.keys()


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("fa", "fa"),
        ("zh-Hans-CN, en;q=0.5", "zh"),
        ("de-DE, ru;q=0.7, en;q=0.8", "en"),
        ("de-DE, ru;q=0.9, en;q=0.8", "ru"),
        ("ru;q=0", "en"),
        ("", "en"),
        (",,;q=1, *", "en"),
        ("x" * 5000, "en"),
        (",".join(["de"] * 20 + ["fa"]), "en"),  # only so many are looked at
    ],
)
def test_the_browser_says_which_language(accepted: str, language: str) -> None:
    assert language_for(accepted) == language


def test_the_person_may_choose_another_one() -> None:
    assert b'lang="fa" dir="rtl"' in answered(request_head(path="?lang=fa", accept_language="ru")).body
    assert b'<html lang="ru"' in answered(request_head(path="?lang=xx", accept_language="ru")).body


# ---- what is shown --------------------------------------------------------------------------------


class Structure(HTMLParser):
    """Elements as they are nested; labels, and what they are for."""

    VOID = frozenset({"meta", "link", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.labels: set[str] = set()
        self.fields: set[str] = set()
        self.inline: list[str] = []

    def handle_starttag(self, tag, attrs):
        about = dict(attrs)
        self.inline += [name for name in about if name.startswith("on") or name == "style"]
        if tag not in self.VOID:
            self.open.append(tag)
        if "id" in about:
            self.ids.append(about["id"])
        if tag == "label":
            self.labels.add(about["for"])
        if tag in ("textarea", "input") and about.get("type") != "hidden":
            self.fields.add(about["id"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def shown(snapshot: Snapshot, language="en", steering=None, said="") -> str:
    texts = all_texts()[language]
    return document(view_of(snapshot, texts), texts, KEYS.form, steering or StoodIn(), said)


ACCOUNT = {
    "name": "anna", "state": "in force", "expires_at": 1_800_000_000, "quota": 50 << 30, "used": 20 << 30,
    "left": 30 << 30, "resets_at": 1_790_000_000, "rate": None,
}  # fmt: skip
CHOICE = [
    {"bridge": "one.example:443", "in_use": True, "taken": True, "degree": "open", "rests": 0.0},
    {"bridge": "two.example:443", "in_use": False, "taken": False, "degree": "TCP silent", "rests": 9.0},
]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "snapshot",
    [
        Snapshot(Phase.EMPTY),
        Snapshot(Phase.STARTING),
        Snapshot(Phase.ENDED, why="ptproxy: the bridge did not let us in"),
        Snapshot(Phase.RUNNING, client_state(choice=CHOICE)),
        Snapshot(Phase.RUNNING, client_state(condition="stopping", listening=[])),
    ],
    ids=["empty", "starting", "ended", "running", "stopping"],
)
def test_the_page_is_whole_and_labelled(snapshot: Snapshot, language: str) -> None:
    page = shown(snapshot, language, said="said_over")
    structure = Structure()
    structure.feed(page)
    assert not structure.open
    assert not structure.inline  # the policy would not run it
    assert len(structure.ids) == len(set(structure.ids))
    assert structure.fields <= structure.labels
    assert 'aria-live="polite"' in page
    assert "<script" not in page.replace('<script src="page.js" defer></script>', "")


def test_what_stands_in_the_way_is_said_in_plain_words() -> None:
    block = {"degree": "TLS reset at ClientHello"}
    view = view_of(Snapshot(Phase.RUNNING, client_state(condition="blocked", last_block=block)), EN)
    assert (view.condition, view.met) == ("blocked", "met_hello_reset")
    view = view_of(Snapshot(Phase.RUNNING, client_state(last_block=block)), EN)
    assert (view.condition, view.met) == ("connected", "")
    newer = client_state(condition="trying", last_block={"degree": "something new"})
    assert view_of(Snapshot(Phase.RUNNING, newer), EN).met == "met_failed"
    nobody = [each | {"in_use": False, "taken": False, "rests": 5.0} for each in CHOICE]
    view = view_of(Snapshot(Phase.RUNNING, client_state(condition="trying", bridges=[], choice=nobody)), EN)
    assert (view.condition, view.met) == ("blocked", "met_silent")


def test_bridges_and_address_are_shown() -> None:
    view = view_of(Snapshot(Phase.RUNNING, client_state(choice=CHOICE)), EN)
    assert [(each.standing, each.may_choose) for each in view.bridges] == [
        ("bridge_in_use", False), ("bridge_blocked", True)
    ]  # fmt: skip
    assert view.socks == "127.0.0.1:1080"
    alone = view_of(Snapshot(Phase.RUNNING, client_state()), EN)
    assert [(each.name, each.may_choose) for each in alone.bridges] == [("bridge.example:443", False)]


def test_what_is_left_of_the_account_is_shown() -> None:
    def of(**changes):
        bridges = [client_state()["bridges"][0] | {"account": ACCOUNT | changes}]
        view = view_of(Snapshot(Phase.RUNNING, client_state(bridges=bridges)), EN)
        return view.accounts[0]

    assert of().lines == (
        "30.0 GB of 50.0 GB left this month", "New month: 2026-09-21", "Valid until 2027-01-15"
    )  # fmt: skip
    assert of().used == pytest.approx(0.4)
    assert of(state="quota", left=0, used=60 << 30).lines[0] == "This month's volume is used up."
    assert of(state="quota", left=0, used=60 << 30).used == 1.0
    assert of(state="something new").lines[0] == EN.say("account_other")
    assert of(quota=None, left=None, expires_at=None).lines == ("No limit on the volume",)
    assert of(expires_at=1 << 62).lines[-1] == "Valid until 9999-12-31"
    assert size(0, EN) == "0 MB"
    assert size(300 << 30, all_texts()["ru"]) == "300 ГБ"


def test_nothing_that_comes_from_elsewhere_is_html() -> None:
    evil = '"><script>alert(1)</script>'
    state = client_state(
        why=evil, listening=["[::1]:1080"], fingerprint=evil,
        choice=[each | {"bridge": evil} for each in CHOICE],
        bridges=[client_state()["bridges"][0] | {"bridge": evil, "account": ACCOUNT | {"name": evil}}] * 2,
    )  # fmt: skip
    page = shown(Snapshot(Phase.RUNNING, state))
    assert "<script>alert" not in page
    assert 'value="[::1]:1080"' in page


def test_where_no_picture_can_be_read_it_says_so() -> None:
    client = StoodIn()
    client.reads_pictures = False
    page = shown(Snapshot(Phase.EMPTY), steering=client)
    assert EN.say("picture_missing") in page
    assert 'type="file"' not in page


def test_who_is_connected_and_kept_out_is_not_told_that_all_is_well() -> None:
    def condition(*accounts, choice=()):
        bridges = [
            client_state()["bridges"][0] | {"bridge": f"b{number}:1", "account": account}
            for number, account in enumerate(accounts)
        ]
        return view_of(
            Snapshot(Phase.RUNNING, client_state(bridges=bridges, choice=list(choice))), EN
        ).condition

    out, fine = ACCOUNT | {"state": "quota"}, ACCOUNT
    assert condition(fine) == condition(None) == condition(out, fine) == "connected"
    assert condition(out) == condition(out, out) == "refused"
    taken = [CHOICE[0] | {"bridge": f"b{number}:1", "taken": number == 0} for number in range(2)]
    assert condition(out, fine, choice=taken) == "refused"
    assert condition(fine, out, choice=taken) == "connected"
    page = shown(
        Snapshot(Phase.RUNNING, client_state(bridges=[client_state()["bridges"][0] | {"account": out}]))
    )
    assert 'class="refused"' in page
    assert EN.say("help_connected") not in page
