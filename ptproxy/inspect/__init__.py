"""See a bridge and a client as a censor does: probes, hellos, captures. For ``ptproxy inspect`` alone.

What an active censor sees, two servers side by side::

    battery          every question, in one list: hello_variants (odd ClientHellos), http_probes (HTTP/1,
                     HTTP/2, WebSocket), and what is no TLS at all; probe is what one consists of, data only
    side_by_side     asks both servers at once, what differs twice, and judges
    visit, wire      carry a probe out: TLS by OpenSSL between two buffers, one TCP connection
    observation      what was seen of one server, and in what two differ
    answer, server_flight   a server's bytes as text that is equal where they are: HTTP, TLS records

What a watching censor sees of a client before anything is encrypted::

    ja4              a ClientHello's name;  recorded  hellos of real browsers (browsers.yaml), likeness
    greeting         a TLS server on loopback that keeps the hellos it gets
    own_hello        greets it as the client does

What a watching censor makes of whole connections::

    look             everything that is said of a capture file
    pcap, segments, flows   packets, TCP segments, connections as TLS records (pcap, segments: without I/O)
    encrypted_rule   the Great Firewall's rule for fully encrypted traffic (Wu et al. 2023)
    nested           scores for a handshake inside TLS, against the operator's own cover
    programs         what nDPI and tshark call it, where they are installed
    recorder         a relay that writes captures, for who may not look at the network

It composes :mod:`ptproxy.codec` (ClientHello, HTTP/2 frames) and :mod:`ptproxy.tunnel` (the client's own
TLS); nothing but :mod:`ptproxy.cli` imports it, and no connection of a user's ever passes here.
"""
