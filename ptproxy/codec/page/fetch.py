"""One request of a page under way, and what is read of its answer."""

from __future__ import annotations

from dataclasses import dataclass, field

from ptproxy.buffer import Buffer
from ptproxy.codec.http2.hpack import Field
from ptproxy.codec.page.body import BodyText
from ptproxy.codec.page.pictures import PictureHead
from ptproxy.codec.page.plan import Asset
from ptproxy.codec.page.scan import MAX_CSS, MAX_HTML, Hint, style_hints


@dataclass(slots=True, eq=False)
class Fetch:
    """A page's or a style sheet's text is read, of a picture its beginning, of all else nothing."""

    asset: Asset
    status: int = 0
    """0 before there is a head."""
    fields: list[Field] = field(default_factory=list)
    picture: PictureHead | None = None
    _text: BodyText | None = None
    _css: bytearray = field(default_factory=bytearray)

    def value(self, name: str) -> str:
        """The answer's first field of that name, "" without one."""
        return next((value for known, value in self.fields if known == name), "")

    def begin(self, status: int, fields: list[Field]) -> None:
        """The answer's head is there."""
        self.status, self.fields = status, fields
        encoding, what = self.value("content-encoding"), self.asset.what
        if status == 200 and what in ("page", "style"):
            self._text = BodyText(encoding, MAX_HTML if what == "page" else MAX_CSS)
        elif what in ("image", "background", "poster") and encoding.lower() in ("", "identity"):
            self.picture = PictureHead(self.value("content-type"))

    def feed(self, data: Buffer) -> bytes:
        """More of the body; what that adds to a page's text."""
        if self.picture is not None:
            self.picture.feed(data)
        text = b"" if self._text is None else self._text.feed(data)
        if self.asset.what != "style":
            return text
        self._css += text
        return b""

    @property
    def is_broken_picture(self) -> bool:
        """It should be a picture and is none."""
        return self.picture is not None and self.picture.broken

    @property
    def size(self) -> int:
        """Bytes of a style sheet so far."""
        return len(self._css)

    def style_hints(self) -> list[Hint]:
        """What a style sheet names, once it is whole."""
        return style_hints(bytes(self._css))
