"""A real browser as the carrier: an installed Chromium whose page joins the bridge with this process.

    browser   Chromium: starts and replaces the browser, opens carriers through it. Read it first
    run       one run of it: its door and its guests
    program   the installed browser: where, which version, its command line
    process   its process: pipes, environment, its end;  devtools  what is said over the pipes
    guest     one carrier's visit: a browser context of its own
    tab       the visit of the site's page; the page that joins (page.html, page.js)
    door      the loopback port where that page meets the client

On the wire is what the browser sends by itself. What is said between page and
client is in ``codec.join``, ``codec.join_websocket`` and ``codec.join_http``.
"""

from ptproxy.tunnel.chromium.browser import Chromium
from ptproxy.tunnel.chromium.run import BrowserVisit, Shown

__all__ = ["BrowserVisit", "Chromium", "Shown"]
