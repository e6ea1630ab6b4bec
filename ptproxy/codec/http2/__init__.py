"""HTTP/2 (RFC 9113) without I/O, as a browser has it and as a bridge reads along.

    frames    bytes to frames and back;  blocks  header blocks from HEADERS and CONTINUATION
    hpack     header compression (RFC 7541) with a browser's choices;  plain  the same without state
    habits    what tells one browser's connections from another's, as data
    priority  stream dependencies as Chromium keeps them
    stream    one request, the events of its answer, flow-control credit
    sender    what a client writes, in which order;  client  a client's connection
    bridge    a stranger's connection to the web server, some of whose streams are ours;  own  one of those

What a browser's requests say is ``codec.browser``'s.
"""
