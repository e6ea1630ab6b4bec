"""A browser's TLS: the BoringSSL that curl_cffi carries, set up as a browser does and driven by the loop.

    browser_tls  what all connections of a process share: start here;  check  that it works, at the start
    hello        objects that say a browser's ClientHello: curl makes them
    tickets      of sessions, kept and spent as Chrome does
    boringssl    the library's functions;  symbols  where they lie in it
    connection   one TLS connection;  transport  it as an asyncio transport
    curl_tls     the fall-back: curl's raw stream, by its public interface

Which browser, and for which use, is ``tunnel.client_tls``'s to say.
"""
