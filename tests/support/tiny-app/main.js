// The smallest application that behaves: it boots in a moment and stops without losing a request. Node alone.
//
//   GET  /items/NAME?size=N   JSON; NAME "chunked" comes in pieces
//   GET  /slow?ms=N           answers after N ms
//   POST /orders {n}          201; once a key (Idempotency-Key), however many instances and releases there are
//   WS   /stream              a message at once and every 200 ms
//   GET  /livez /readyz
//
// STATE names the log of orders, shared by all instances. Each POST appends one line, `key <tab> n`, in one write; the
// first line of a key is the order, a later one is a repetition. The file's order of appends decides, so no lock is needed.

import { createHash } from 'node:crypto';
import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const TICK_MS = 200;
const LINGER_MS = 100; // after the listener closed, for requests already on their way over idle connections
const STOP_MAX_MS = 10_000;
const BODY_MAX = 4096;
const PIECE = 4096;
const ACCEPT_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'; // RFC 6455, 1.3
const GOING_AWAY = 1001;

const {
  HOLDFAST_RELEASE: release = 'dev',
  HOLDFAST_INSTANCE: instance = 'dev',
  STATE,
  HOST = '127.0.0.1',
} = process.env;
const port = Number(process.env.PORT ?? 3000);
const spreadMs = Number(process.env.HOLDFAST_CLOSE_SPREAD_MS ?? 200);
const version = readFileSync(new URL('version.txt', import.meta.url), 'utf8').trim();

const say = (message, fields = {}) => console.log(JSON.stringify({ message, release, instance, ...fields }));
process.stdout.on('error', () => {}); // whoever reads the log may go away; the application stays

const orders = openOrders(STATE);
const sockets = new Set();
const unanswered = new Set();
let stopping = false;

const server = http.createServer({ keepAliveTimeout: 600_000 }, async (req, res) => {
  unanswered.add(res);
  res.on('close', () => unanswered.delete(res));
  if (stopping) res.setHeader('connection', 'close');
  res.setHeader('x-release', release);
  res.setHeader('x-instance', instance);
  try {
    await answer(req, res, new URL(req.url, 'http://localhost'));
  } catch (error) {
    say('request failed', { error: error.message });
    if (res.headersSent) res.destroy();
    else send(res, 500, { error: error.message });
  }
});

async function answer(req, res, url) {
  const [, folder, name] = url.pathname.split('/');
  if (folder === 'orders' && req.method === 'POST') return order(req, res);
  if (req.method !== 'GET') return send(res, 405, { error: 'GET' });
  if (folder === 'livez') return send(res, 200, { alive: true });
  if (folder === 'readyz') return send(res, stopping ? 503 : 200, { ready: !stopping });
  if (folder === 'items' && name)
    return item(res, name, Math.min(Number(url.searchParams.get('size')) || 0, 1_000_000));
  if (folder === 'slow') {
    await sleep(Math.min(Number(url.searchParams.get('ms')) || 0, 60_000));
    return send(res, 200, { slow: true, release, version });
  }
  if (folder === '') return send(res, 200, { app: 'tiny', release, instance, version });
  return send(res, 404, { error: 'not found' });
}

function send(res, status, value) {
  const body = JSON.stringify(value);
  res.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
  res.end(body);
}

function item(res, name, size) {
  const value = { name, release, version, filler: 'x'.repeat(size) };
  if (name !== 'chunked') return send(res, 200, value);
  const body = JSON.stringify(value);
  res.writeHead(200, { 'content-type': 'application/json' });
  for (let at = 0; at < body.length; at += PIECE) res.write(body.slice(at, at + PIECE));
  return res.end();
}

async function order(req, res) {
  const key = req.headers['idempotency-key'];
  let text = '';
  for await (const chunk of req.setEncoding('utf8'))
    if ((text += chunk).length > BODY_MAX) return send(res, 413, { error: 'too large' });
  const { n } = JSON.parse(text);
  if (!/^[\w-]{1,100}$/.test(key ?? '') || !Number.isInteger(n))
    return send(res, 400, { error: 'Idempotency-Key and n, please' });
  const { id, repeated } = orders.place(key, n);
  if (repeated) res.setHeader('idempotency-replayed', 'true');
  return send(res, 201, { id, n });
}

/** place(key, n) → {id, repeated}; an order's id is where its line begins in the file. */
function openOrders(file) {
  if (!file)
    return {
      place: () => {
        throw new Error('STATE is not set; orders have nowhere to go');
      },
      close() {},
    };
  const fd = openSync(file, 'a+');
  const mine = `${process.pid}.${Date.now().toString(36)}`;
  const first = new Map(); // key -> {id, by}
  const block = Buffer.alloc(64 * 1024);
  let read = 0; // up to here, lines are in `first`
  let lines = 0;

  function catchUp() {
    for (;;) {
      const size = readSync(fd, block, 0, block.length, read);
      const end = block.subarray(0, size).lastIndexOf(10) + 1;
      if (end === 0) return;
      let at = 0;
      for (const line of block.latin1Slice(0, end).split('\n').slice(0, -1)) {
        const [key, , by] = line.split('\t');
        if (!first.has(key)) first.set(key, { id: read + at, by });
        at += line.length + 1;
      }
      read += end;
    }
  }

  catchUp();
  return {
    place(key, n) {
      lines += 1;
      const by = `${mine}.${lines}`;
      writeSync(fd, `${key}\t${n}\t${by}\n`);
      catchUp();
      const { id, by: whose } = first.get(key);
      return { id, repeated: whose !== by };
    },
    close: () => closeSync(fd),
  };
}

// WebSockets, RFC 6455: this side sends short text frames, and reads only to notice a close.

server.on('upgrade', (req, socket, head) => {
  socket.on('error', () => socket.destroy());
  const key = req.headers['sec-websocket-key'];
  if (stopping || !key || !req.url.startsWith('/stream')) {
    socket.end(
      `HTTP/1.1 ${stopping ? 503 : 404} Refused\r\nconnection: close\r\nx-release: ${release}\r\ncontent-length: 0\r\n\r\n`,
    );
    return;
  }
  const accept = createHash('sha1')
    .update(key + ACCEPT_GUID)
    .digest('base64');
  socket.write(
    'HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n' +
      `x-release: ${release}\r\nsec-websocket-accept: ${accept}\r\n\r\n`,
  );
  const stream = {
    socket,
    ended: new Promise((resolve) => {
      socket.on('close', resolve);
    }),
    closing: false,
  };
  sockets.add(stream);
  socket.setNoDelay(true);
  socket.on('close', () => sockets.delete(stream));
  socket.on('end', () => socket.end());
  let bytes = head;
  const take = (chunk) => {
    bytes = Buffer.concat([bytes, chunk]);
    if (bytes.length > 64 * 1024) return socket.destroy();
    for (let frame = readFrame(bytes); frame; frame = readFrame(bytes)) {
      bytes = bytes.subarray(frame.size);
      if (frame.opcode === 8) {
        if (!stream.closing) socket.write(frameOf(8, frame.payload));
        socket.end();
      } else if (frame.opcode === 9) socket.write(frameOf(10, frame.payload));
    }
    return undefined;
  };
  socket.on('data', take);
  take(Buffer.alloc(0));
  tell(stream);
});

function frameOf(opcode, payload) {
  const head =
    payload.length < 126
      ? Buffer.from([0x80 | opcode, payload.length])
      : Buffer.from([0x80 | opcode, 126, payload.length >> 8, payload.length & 255]);
  return Buffer.concat([head, payload]);
}

/** A client's frame at the start of `bytes`, if it is all there. Lengths from 64 KiB are beyond the buffer anyway. */
function readFrame(bytes) {
  if (bytes.length < 2) return undefined;
  let size = bytes[1] & 127;
  let at = 2;
  if (size === 126) {
    if (bytes.length < 4) return undefined;
    size = bytes.readUInt16BE(2);
    at = 4;
  } else if (size === 127) return undefined;
  const mask = bytes.subarray(at, at + 4);
  at += 4;
  if (bytes.length < at + size) return undefined;
  const payload = Buffer.from(bytes.subarray(at, at + size));
  for (let i = 0; i < size; i += 1) payload[i] ^= mask[i % 4];
  return { opcode: bytes[0] & 15, payload, size: at + size };
}

function tell(stream) {
  if (!stream.closing)
    stream.socket.write(frameOf(1, Buffer.from(JSON.stringify({ type: 'tick', release, time: Date.now() }))));
}
const ticking = setInterval(() => sockets.forEach(tell), TICK_MS);

/** Closes every stream open now, each at a random moment, and waits for the clients' half. */
async function drain() {
  await Promise.all(
    [...sockets].map(async (stream) => {
      await sleep(Math.random() * spreadMs);
      if (stream.closing || stream.socket.destroyed) return stream.ended;
      stream.closing = true;
      stream.socket.write(frameOf(8, Buffer.from([GOING_AWAY >> 8, GOING_AWAY & 255])));
      const late = setTimeout(() => stream.socket.destroy(), 1000);
      await stream.ended;
      return clearTimeout(late);
    }),
  );
}

async function stop(signal) {
  if (stopping) return;
  stopping = true;
  say('stopping', { signal, unanswered: unanswered.size, streams: sockets.size });
  setTimeout(() => {
    say('stop took too long, exiting');
    process.exit(1);
  }, STOP_MAX_MS).unref();
  const closed = new Promise((resolve) => {
    server.once('close', resolve);
  });
  // Only the listener: http's own close() would cut idle connections on which a request may be arriving.
  net.Server.prototype.close.call(server);
  for (const res of unanswered) if (!res.headersSent) res.setHeader('connection', 'close');
  await Promise.all([drain(), sleep(LINGER_MS)]);
  server.closeIdleConnections();
  await closed;
  clearInterval(ticking);
  orders.close();
  say('stopped');
  process.exit(0);
}

process.on('SIGTERM', stop);
process.on('SIGINT', stop);
process.on('SIGUSR2', drain);

server.on('error', (error) => {
  say('cannot listen', { error: error.message });
  process.exit(1);
});
server.listen(port, HOST, 1024, () =>
  say('listening', { port: server.address().port, version, boot_ms: Math.round(performance.now()) }),
);
