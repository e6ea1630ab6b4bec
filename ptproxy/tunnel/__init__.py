"""asyncio below the stream: carriers over TLS 1.3, sessions, dialers.

    stream     what everything above sees: streams are asyncio transports; Dialer, Exit, Site
    dial       DirectDialer, TunnelDialer (keeps carriers open, places streams on them)
    client     the client's session and the opening of its carriers
    bridge     the bridge's sessions, continuous verification
    gate       whose is this connection: a client's or the web site's
    tunnel     one session driven by the loop: events out, frames in, timers
    carrier    one carrier over its connections: codec, sealing, back pressure
    tls        contexts, pins, binding;   tcp  transports;   runtime  event loops

It composes the protocol packages (``session``, ``auth``, ``codec``) and parses
no protocol byte itself. It knows nothing of SOCKS, chat or the DHT.
"""
