"""The client's page: a small local web site for people without a terminal.

==============  =======================================================================================
``request``     a request as bytes arrive: head, then a bounded body; without I/O
``guard``       who may ask: the address, the secrets, where a request comes from; without I/O
``form``        the fields of ``multipart/form-data``; without I/O
``texts``       what the page says in each language (``texts.json``)
``view``        a client's status in the words of a person
``document``    the page as HTML
``answers``     which request gets which page, and what it does
``port``        the sockets
``steering``    what the page may ask of a client, and a running client that is asked
==============  =======================================================================================

**The address.** The page listens on loopback only. ``http://127.0.0.1:PORT/DOOR`` is how a person comes in.
It stands in a file of mode 0600 that a browser opens, because command lines are seen by others. The door's
answer sets a cookie and goes on to ``/PLACE/``. DOOR, PLACE, the cookie and the token in each form are 256
random bits each, drawn at every start, and compared in constant time.

**Other pages of the same browser.** Cookies know no ports: what listens on another port of 127.0.0.1 would be
sent ours. Its path is PLACE, which no other server knows. ``SameSite=Strict`` keeps other sites' requests
without it; Host must be the address that is listened on (no name can be rebound to it); Origin and
``Sec-Fetch-Site`` must be the page's own where something is changed; each form has a token. Nothing is
cached, framed, sniffed, or loaded from anywhere else.

Who is the same user, or root, or reads the browser's memory is not kept out. Another user of the machine sees
that something listens, and nothing else.
"""
