// Runs in a document of the bridge's own origin that never was on the wire: joins what the
// browser has there (a WebSocket, fetches) with local sockets to the client. What is said on
// a local socket: ptproxy/codec/join.py, join_websocket.py, join_http.py.
// No timers: those of a hidden page are slowed down. Streams carry back pressure both ways.
"use strict";

const NOWHERE = location.pathname;    // a path of the site's that nobody knows
history.replaceState(null, "", "/");  // whatever names this document names the site's page

const REFUSED = 4001, LOST = 4002;              // codes of closing a local socket
const HEAD = 0, BODY = 1, END = 2, FAILED = 3;  // kinds of records to the client
const encoder = new TextEncoder(), decoder = new TextDecoder();

// Cookies are the whole document's, a request's cookie is its own: whoever sets them waits for
// its turn, and until the request before has left with its own.
let turn = Promise.resolve();
let last = null;  // the latest request, while it is not known to have left

function inTurn(work) {
  const mine = turn.then(async () => {
    if (last !== null) await left();
    last = null;
    return work();
  });
  turn = mine.catch(() => {});
  return mine;
}

// A request has left once it is answered, or else once another one that was made after it has
// read its cookies: one that only the cache may answer goes the same way in the same order,
// finds nothing there, and goes no further.
const left = () => fetch(NOWHERE, { cache: "only-if-cached", mode: "same-origin" }).catch(() => {});

function leaving(answer) {
  last = answer;
  answer.then(() => { if (last === answer) last = null; }, () => {});
  return { answer };
}

// The network is told of a cookie on a way of its own, and a WebSocket may overtake that (the first
// of a page does so 1 to 2 times in 100 on a busy machine). Whoever reads the cookies waits until it
// has been told. The Cookie Store's promises would say the same, but end every path with a slash.
function setCookies(cookie, path, more) {
  for (const pair of cookie.split("; ")) {
    document.cookie = `${pair}; Path=${path}; Secure; SameSite=Strict${more}`;
  }
  return document.cookie.length;
}

const dropCookies = (cookie, path) => setCookies(cookie, path, "; Max-Age=0");

async function join(url) {
  const local = new WebSocketStream(url);
  const { readable, writable } = await local.opened;
  const reader = readable.getReader();
  const { value, done } = await reader.read();
  if (done) return;
  reader.releaseLock();
  const task = JSON.parse(value);
  const carry = task.do === "websocket" ? carryWebSocket : carryHttp;
  try {
    await carry(task, local, readable, writable);
  } catch {
    close(local, LOST);
  }
}

function close(local, closeCode) {
  try {
    local.close({ closeCode });
  } catch {
    // closed already
  }
}

// ---- websocket ------------------------------------------------------------------------------

async function carryWebSocket(task, local, readable, writable) {
  const end = new AbortController(), over = () => end.abort();
  local.closed.then(over, over);  // a site that never answers keeps the turn no longer than the client waits
  let remote;
  try {
    remote = await inTurn(async () => {
      end.signal.throwIfAborted();
      setCookies(task.cookie, task.path, "");
      try {
        return await new WebSocketStream(task.url, { signal: end.signal }).opened;
      } finally {
        dropCookies(task.cookie, task.path);
      }
    });
  } catch {
    close(local, REFUSED);
    return;
  }
  const writer = writable.getWriter();
  await writer.write(Uint8Array.of(1));
  writer.releaseLock();
  await Promise.all([remote.readable.pipeTo(writable), readable.pipeTo(remote.writable)]);
}

// ---- http -----------------------------------------------------------------------------------

async function carryHttp(task, local, readable, writable) {
  const writer = writable.getWriter(), reader = readable.getReader(), end = new AbortController();
  let cookie = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const message = new Uint8Array(value.buffer ?? value, value.byteOffset ?? 0, value.byteLength);
      const view = new DataView(message.buffer, message.byteOffset);
      const body = 7 + view.getUint16(5);
      const content = view.getUint8(0) ? message.subarray(body) : null;
      cookie = decoder.decode(message.subarray(7, body));
      request(task, content, view.getUint32(1), cookie, writer, end.signal);
    }
  } finally {
    end.abort();
    if (cookie) inTurn(() => dropCookies(cookie, task.path));
  }
}

async function request(task, body, id, cookie, writer, signal) {
  const say = async (kind, content) => {
    const record = new Uint8Array(9 + content.length), view = new DataView(record.buffer);
    view.setUint32(0, content.length);
    view.setUint8(4, kind);
    view.setUint32(5, id);
    record.set(content, 9);
    await writer.ready;
    writer.write(record).catch(() => {});
  };
  const headers = { "Content-Type": "application/octet-stream" };
  const kind = body === null ? { cache: "no-store" } : { method: "POST", body, headers };
  const nothing = new Uint8Array(0);
  try {
    const { answer } = await inTurn(() => {
      setCookies(cookie, task.path, "");
      return leaving(fetch(task.url, { ...kind, redirect: "error", signal }));
    });
    const response = await answer;
    const head = encoder.encode("  " + (response.headers.get("date") ?? "").slice(0, 64));
    new DataView(head.buffer).setUint16(0, response.status);
    await say(HEAD, head);
    if (response.status !== 200) {
      await response.body?.cancel();
      return;
    }
    const reader = response.body.getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      await say(BODY, value);
    }
    await say(END, nothing);
  } catch {
    await say(FAILED, nothing).catch(() => {});
  }
}
