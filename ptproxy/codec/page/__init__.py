"""A page of the site, loaded as a browser loads it, without I/O.

    visit      a connection on which a page is loaded, and nothing else yet: start here
    load       the page, what it names, what its style sheets name, the icon;  delays  between its steps
    scan       what a page or style sheet names;  plan  how urgent a browser finds each thing, and when
    body       bodies as they were before Content-Encoding;  cache  what is remembered between visits
    h1_client  the requests over HTTP/1.1

Over HTTP/2 the requests are ``codec.http2``'s.
"""
