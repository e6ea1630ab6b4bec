"""A page of the site, loaded as a browser loads it, without I/O.

    visit      a connection on which a page is loaded, and nothing else yet: start here
    load       the page, what it names, what its style sheets name, the icon: its steps
    habits     how one browser loads a page, as data
    scan       what a page or style sheet names;  plan  what that is to the page;  turns  whose turn it is
    pictures   which of them are in sight, and which are none
    body       bodies as they were before Content-Encoding
    cache      what is remembered between visits, with the site's  cookies
    requests   where its requests go;  h1_pool  over HTTP/1.1's connections, each an  h1_client

Over HTTP/2 the requests are ``codec.http2``'s.
"""
