"""The page as HTML: complete without a script, which only keeps it up to date."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from ptproxy.proxy.page.steering import MAX_BRIDGE, Steering
from ptproxy.proxy.page.texts import Texts, all_texts
from ptproxy.proxy.page.view import AccountSeen, BridgeSeen, View

MAX_LINK_SHOWN: Final = 65_536
"""Characters that the field for a link takes."""
GOOD: Final = frozenset({"said_taken", "said_later", "said_chosen", "said_again"})
"""What is said when something was done; all else is why it was not."""


def document(view: View, texts: Texts, token: str, steering: Steering, said: str = "") -> str:
    """The page. ``token`` goes into its forms; ``said`` is the key of how the last one went."""
    form = _Forms(texts, token)
    body = "".join(
        (
            _header(texts),
            "<main>",
            f'<p id="lost" class="said wrong" role="alert" hidden>{_say(texts, "lost")}</p>',
            _said(said, texts),
            _status(view, texts, form),
            _address(view, texts),
            _accounts(view.accounts, view.condition, texts),
            _bridges(view.bridges, texts, form),
            _add(view, texts, form, steering) if steering.takes_links else "",
            _technical(view, texts),
            _refresh(texts),
            "</main>",
        )
    )
    title = f"{_say(texts, f'state_{view.condition}')} – ptproxy"
    return _whole(title, texts, '<script src="page.js" defer></script>', body)


def door_document(place: str, texts: Texts) -> str:
    """What the door shows: it goes on to the page, as a request of the page's own site."""
    there = f"/{place}/"
    text = escape(texts.say("door"))
    return (
        f'<!doctype html><html lang="{texts.language}" dir="{texts.direction}"><head><meta charset="utf-8">'
        f'<meta http-equiv="refresh" content="0;url={there}"><title>ptproxy</title></head>'
        f'<body><p><a href="{there}">{text}</a></p></body></html>\n'
    )


def closed_document(texts: Texts, key: str = "closed") -> str:
    """What whoever has no business here sees: nothing of the client."""
    return (
        f'<!doctype html><html lang="{texts.language}" dir="{texts.direction}"><head><meta charset="utf-8">'
        f"<title>ptproxy</title></head><body><p>{escape(texts.say(key))}</p></body></html>\n"
    )


def opening_file(url: str) -> str:
    """The file that a browser opens to get to the door: its address is in no command line."""
    there = escape(url)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="referrer" content="no-referrer">'
        f'<meta http-equiv="refresh" content="0;url={there}"><title>ptproxy</title></head>'
        f'<body><p><a href="{there}" rel="noreferrer">ptproxy</a></p></body></html>\n'
    )


class _Forms:
    """Begins forms, each with the page's token and language."""

    def __init__(self, texts: Texts, token: str) -> None:
        self._hidden = f'<input type="hidden" name="token" value="{escape(token)}">'
        self._query = f"?lang={texts.language}"

    def begin(self, path: str) -> str:
        return (
            f'<form method="post" enctype="multipart/form-data" action="{path}{self._query}">{self._hidden}'
        )


def _whole(title: str, texts: Texts, script: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="{texts.language}" dir="{texts.direction}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title}</title><link rel="stylesheet" href="style.css">{script}</head>'
        f"<body>{body}</body></html>\n"
    )


def _say(texts: Texts, key: str, **values: str) -> str:
    return escape(texts.say(key, **values))


def _ltr(text: str) -> str:
    """An address or name, which reads from left to right in every language."""
    return f'<bdi dir="ltr">{escape(text)}</bdi>'


def _header(texts: Texts) -> str:
    current = ' aria-current="true"'
    links = "".join(
        f'<li><a href="?lang={code}" lang="{code}" dir="{each.direction}" hreflang="{code}"'
        f"{current if code == texts.language else ''}>{escape(each.say('name'))}</a></li>"
        for code, each in all_texts().items()
    )
    return (
        f"<header><h1>{_say(texts, 'title')}</h1>"
        f'<nav aria-label="{_say(texts, "languages")}"><ul>{links}</ul></nav></header>'
    )


def _refresh(texts: Texts) -> str:
    link = f'<a class="button" href="?lang={texts.language}">{_say(texts, "refresh")}</a>'
    return f"<noscript><p>{link}</p></noscript>"


def _said(key: str, texts: Texts) -> str:
    if not key:
        return ""
    kind, role = ("good", "status") if key in GOOD else ("wrong", "alert")
    return f'<p id="said" class="said {kind}" role="{role}">{_say(texts, key)}</p>'


def _status(view: View, texts: Texts, form: _Forms) -> str:
    parts = [
        f'<section id="status" class="{view.condition}" role="status" aria-live="polite" aria-atomic="true">',
        f"<h2>{_say(texts, f'state_{view.condition}')}</h2><p>{_say(texts, f'help_{view.condition}')}</p>",
    ]
    if view.met:
        parts.append(f"<p><strong>{_say(texts, 'noticed')}</strong> {_say(texts, view.met)}</p>")
    if view.condition == "ended":
        parts.append(f'{form.begin("again")}<button type="submit">{_say(texts, "again")}</button></form>')
    parts.append("</section>")
    return "".join(parts)


def _address(view: View, texts: Texts) -> str:
    if not view.socks:
        return '<section id="address" hidden></section>'
    return (
        f'<section id="address"><h2><label for="socks">{_say(texts, "address")}</label></h2><div class="row">'
        f'<input id="socks" dir="ltr" readonly value="{escape(view.socks)}" size="22"'
        ' aria-describedby="socks-help">'
        f'<button type="button" id="copy" hidden data-done="{_say(texts, "copied")}">{_say(texts, "copy")}'
        f'</button></div><p id="socks-help">{_say(texts, "address_help")}</p></section>'
    )


def _accounts(accounts: list[AccountSeen], condition: str, texts: Texts) -> str:
    if not accounts and condition != "connected":
        return '<section id="account" hidden></section>'
    parts = [f'<section id="account"><h2>{_say(texts, "account")}</h2>']
    for each in accounts:
        if len(accounts) > 1:
            parts.append(f"<h3>{_ltr(each.bridge)}</h3>")
        if each.used is not None:
            parts.append(f'<meter min="0" max="1" value="{1 - each.used:.3f}" aria-hidden="true"></meter>')
        parts += [f"<p>{escape(line)}</p>" for line in each.lines]
    if not accounts:
        parts.append(f"<p>{_say(texts, 'account_unknown')}</p>")
    parts.append("</section>")
    return "".join(parts)


def _bridges(bridges: list[BridgeSeen], texts: Texts, form: _Forms) -> str:
    if not bridges:
        return '<section id="bridges" hidden></section>'
    return (
        f'<section id="bridges"><h2>{_say(texts, "bridges")}</h2><ul class="bridges">'
        f"{''.join(_bridge_rows(bridges, texts, form))}</ul></section>"
    )


def _bridge_rows(bridges: list[BridgeSeen], texts: Texts, form: _Forms) -> Iterator[str]:
    for number, each in enumerate(bridges):
        row = f'<li><span>{_ltr(each.name)} <span class="standing">{_say(texts, each.standing)}</span></span>'
        if each.may_choose and len(each.name) <= MAX_BRIDGE:
            label = _say(texts, "choose_named", bridge=each.name)
            row += (
                f'{form.begin("bridge")}<input type="hidden" name="bridge" value="{escape(each.name)}">'
                f'<button type="submit" id="choose{number}" aria-label="{label}">'
                f"{_say(texts, 'choose')}</button>"
                "</form>"
            )
        yield row + "</li>"


def _add(view: View, texts: Texts, form: _Forms, steering: Steering) -> str:
    is_first = view.condition in ("empty", "ended")
    picture = f"<p>{_say(texts, 'picture_missing')}</p>"
    if steering.reads_pictures:
        picture = (
            f'<label for="picture">{_say(texts, "picture")}</label>'
            '<input id="picture" name="picture" type="file" accept="image/png,image/jpeg">'
        )
    return (
        f'<details id="add"{" open" if is_first else ""}><summary>{_say(texts, "add")}</summary>'
        f'{form.begin("link")}<label for="link">{_say(texts, "link")}</label>'
        f'<textarea id="link" name="link" rows="4" dir="ltr" maxlength="{MAX_LINK_SHOWN}" spellcheck="false"'
        ' autocomplete="off" autocapitalize="off" aria-describedby="secret"></textarea>'
        f'{picture}<p id="secret">{_say(texts, "secret")}</p>'
        f'<button type="submit">{_say(texts, "send")}</button></form></details>'
    )


def _technical(view: View, texts: Texts) -> str:
    if not view.technical:
        return '<details id="technical" hidden></details>'
    return (
        f'<details id="technical"><summary>{_say(texts, "technical")}</summary>'
        f'<pre dir="ltr" lang="en">{escape(view.technical)}</pre></details>'
    )
