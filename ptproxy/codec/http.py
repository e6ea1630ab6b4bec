"""The ``http`` codec: a carrier as complete requests and responses that pass any reverse proxy.

One carrier is a series of numbered POSTs up and of numbered GETs down, over
several keep-alive connections (over HTTP/1.1, six at most, as a browser's):

- **Opening.** A GET of the secret path with message 1 in a session cookie. Its
  answer is download 0, complete in itself: the bridge's first payload.
- **Names.** Every later request names its carrier by a token in that cookie,
  derived from the handshake's key, its kind and its number; it is good for that
  one request. A web server may mix the requests of several carriers on one
  connection. A request that names nobody is answered 404, or is the web site's.
- **Up.** POST n carries the payload after that of POST n-1, small ones padded,
  several in flight. The bridge passes it on in order, answers each with an
  empty 200, a duplicate too. One that fails is sent once more on a fresh
  connection; failing again ends the carrier.
- **Down.** The answer to GET n is a series of records, chunked (or ended by
  closing for an HTTP/1.0 request), ``X-Accel-Buffering: no``. HELLO comes
  first, so that the client sees whether the front passes on what it gets. After
  half a quota of bytes, or at an age, NEXT asks for GET n+1; once that is
  there and the quota full, END is written and the payload goes on in it:
  nothing waits. A download that ends without END or CLOSE ends the carrier.
- **Long poll**, where HELLO does not come within max(1 s, 3 round trips): GETs
  of the other kind, answered whole with a Content-Length once there is payload
  or after 6 to 8 s; two to four in flight.
- **With a shape**, long polls from the start, answered whole in drawn sizes; POSTs
  gather payload and are padded as it says.
- **Close.** The client's last POST has a flag; the bridge's last record is CLOSE.

``PROTOCOL.md`` section http has it byte by byte. Modules: ``http_records``
(records, upload bodies, tokens), ``http_body`` (what delimits a body),
``http_request`` (a browser's request heads), ``http_client`` and ``http_bridge``
(the carriers, no word of HTTP/1.1 in them), ``http_client_link`` and
``http_bridge_link`` (HTTP/1.1 on one connection), ``http_exchange`` and ``http_posts``
(what a client has under way), ``http_uploads``, ``http_downloads`` and
``http_tokens`` (what a bridge has).

Option ``download``: ``stream``, ``poll`` or ``auto`` (default: try streaming first).
:attr:`ClientHttp.download` says what it came to, for the next carrier over the same front.
"""

from __future__ import annotations

from random import Random

from ptproxy.codec.http_bridge_link import HttpReception
from ptproxy.codec.http_client import ClientHttp
from ptproxy.codec.interface import CodecSettings, Greeting


class HttpCodec:
    """The entry of the codec table."""

    name = "http"
    greeting: Greeting = "page"
    """It goes on where a page was loaded."""

    def client(self, settings: CodecSettings, opening: bytes, rng: Random) -> ClientHttp:
        """One carrier's client end: over HTTP/2 where its first connection speaks that."""
        look = settings.appearance
        if look is not None and look.http2 is not None:
            from ptproxy.codec.http_h2_client import ClientHttp2  # noqa: PLC0415  (needs hpack)

            return ClientHttp2(settings, opening, rng, look)
        return ClientHttp(settings, opening, rng)

    def reception(self, settings: CodecSettings, rng: Random) -> HttpReception:
        """A bridge's end."""
        return HttpReception(settings, rng)


HTTP = HttpCodec()
