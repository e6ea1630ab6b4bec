"""The transport of a connection whose TLS ends here, until it turns out to be a stranger's."""

from __future__ import annotations

from typing import cast

from ptproxy.tunnel.beside.ends import TlsEnd
from ptproxy.tunnel.boring.transport import BrowserTransport


class ServerTransport(BrowserTransport):
    """As towards a browser's TLS, with OpenSSL below; its connection can be taken from it."""

    def detach(self) -> TlsEnd:
        """Whoever asks owns the connection; no callback follows. Nothing must have been written yet."""
        self._gone = self._closing = True
        self._unwatch_reads()
        self._unwatch_writes()
        return cast("TlsEnd", self._tls)

    def _input_over(self) -> None:
        """An end of input closes a client's connection, but for an undecided one the web server decides."""
        end_of_input = getattr(self._protocol, "input_over", None)
        if end_of_input is None or not end_of_input():
            super()._input_over()
