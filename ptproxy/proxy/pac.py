"""A proxy auto-configuration file for browsers, served on a port of this machine.

``http://127.0.0.1:1081/proxy.pac`` sends everything through the local proxy but
what belongs to this machine. There is no way around the proxy in it: where the
proxy does not answer, the browser reaches nothing. It names the HTTP proxy, to
which browsers give names as they are; with SOCKS5, Firefox before 128 (ESR 115
among them) looks them up itself unless it is told otherwise.

Programs of this machine alone are answered (:mod:`ptproxy.proxy.this_machine`): it is JavaScript, which a
page could run as a script of another site and ask for the proxy.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ptproxy.config.quantities import Endpoint
from ptproxy.proxy.this_machine import Page, ThisMachinePort

PATH: Final = "/proxy.pac"
KIND: Final = b"application/x-ns-proxy-autoconfig"


def pac_text(proxy: Endpoint) -> str:
    """The file for a local proxy: JavaScript as browsers want it."""
    here = str(proxy)
    return f"""function FindProxyForURL(url, host) {{
  if (host === "localhost" || host.endsWith(".localhost") || host === "[::1]" || host === "::1" ||
      /^127\\.\\d+\\.\\d+\\.\\d+$/.test(host)) {{
    return "DIRECT";
  }}
  return "PROXY {here}";
}}
"""


class PacServer(ThisMachinePort):
    """Serves the file of one local proxy."""

    def __init__(self, loop: asyncio.AbstractEventLoop, proxy: Endpoint) -> None:
        page = Page(KIND, pac_text(proxy).encode())
        super().__init__(loop, lambda path: page if path == PATH else None)
