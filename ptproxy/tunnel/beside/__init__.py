"""A bridge that terminates TLS itself, beside a real web server: to strangers it is that server.

    doorway          every accepted connection: looked at, answered here or passed on
    terms            which hellos are answered here
    site_connection  the connection to the web server that stands beside each
    couple           two ends as one: bytes and farewells pass;  ends  a socket, or TLS on one
    h2_couple        the same where some of an HTTP/2 connection's streams are a client's
    site_manners     how that web server does TLS, learned by asking;  openssl  what Python's ssl cannot set
    server_transport a connection whose TLS ends here;  watch  being called when a socket is ready

Whose a connection is, once an opening may have come, is ``tunnel.gate``'s to decide.
"""
