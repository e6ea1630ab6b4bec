"""asyncio below the stream: carriers over TLS 1.3, sessions, dialers.

    stream       what everything above sees: Dialer, Exit, Incoming, Site; streams as asyncio transports
    association  UDP associations;  incoming  streams that a client opened, before an exit takes them
    relay        two transports coupled: what one receives, the other writes
    dial         TunnelDialer: keeps carriers open, places streams on them;  direct  a dialer without a tunnel
    shaped_dial  the dialer that follows a shape: carriers by class of traffic, opened ahead, left when old
    asking       a stream asked for at the bridge;  lingering  sessions and streams that only go on
    placement    which carrier a stream goes to, which are to be there;  recognise  which class a stream is,
                 traffic  a stream that knows
    balance      who rides together where no shape says it: bulk apart;  parting  has it done
                 load  what carriers carry;  growth  one carrier more, or one fewer
    client       the client's session;  client_carrier  a carrier of it: the opening, its connections
    beginning    what a carrier begins on: a page's connection, or one beside it;  standby  one that is ready
    approach     a bridge's fronts, and what became of the carriers there;  racing  tries side by side,
                 underway  begun anew in another network
    connect      the way to a bridge: addresses, TCP, TLS, the certificate checked
    rest         pauses after dials that failed;  redial  after connections that were cut at once
    surroundings the network that this machine is in, and when that changes
    client_tls   as whom a client greets: Python, or a browser;  appearance  which one, from recorded data
    visit        the site's page before anything else;  waiting  visits that wait for a carrier
    boring       a browser's TLS, through the BoringSSL of curl_cffi;  chromium  a browser as the carrier
    beside       a bridge's own TLS beside a web server: whoever does not authenticate is that server's
    bridge       the bridge's sessions;  bridge_tunnel  one of them: continuous verification
    handover     a bridge that goes on in another process: handover_record (as bytes), handover_channel
    elsewhere    a bridge in several processes: whose is this connection;  neighbours  hand it over,
                 passage  its bytes;  shared_tables  what each knows of the others
    gate         whose is this connection: a client's or the web site's;  arrival  a connection before that
    tickets      carriers opened over another one, whose connection then shows a ticket
    doorway      the way in beside a web server's TLS port: terms (what is answered here), site_connection,
                 couple and h2_couple (a stranger's connection and the server's as one), ends (what
                 each end says of how it ends), server_transport, openssl, site_manners (TLS as it does it)
    tunnel       one session driven by the loop: events out, frames in, timers
    carrier      one carrier over its connections: codec, sealing, back pressure
    tls          contexts, pins, binding;   tcp  transports;   listen  connections accepted
    connecting   a TCP connect that is not waited for where it is decided at once
    polling      the loop as aiofastnet is to see it;   runtime  event loops;   memory  free memory goes back,
                 pressure  and is told of when it grows short

It composes the protocol packages (``session``, ``auth``, ``codec``) and parses
no protocol byte itself. It knows nothing of SOCKS, chat or the DHT.
"""
