// A server for the tiny application's profile that does one thing wrong, once: what the load generator is tested with.

import http from 'node:http';
import { WebSocketServer } from 'ws';

const AT = 40; // the request of the fitting kind that the fault befalls
const TICK_MS = 50;
const HELD_MS = 4000; // longer than the time-out of the tests

const json = (value) => JSON.stringify(value);
const head = (length, extra = '') =>
  `HTTP/1.1 200 OK\r\nx-release: r1\r\ncontent-type: application/json\r\n${length}\r\n${extra}\r\n`;

/** Each has the request it befalls, or the socket, and what it does instead of the right thing. */
export const FAULTS = {
  none: {},
  reset: { on: 'GET', act: ({ req }) => req.socket.resetAndDestroy() },
  resetWithin: {
    on: 'GET',
    act({ req, res, body }) {
      res.writeHead(200, { 'content-length': body.length });
      res.write(body.slice(0, 5));
      setTimeout(() => req.socket.resetAndDestroy(), TICK_MS); // after these bytes went out
    },
  },
  closedUnanswered: { on: 'GET', act: ({ req }) => req.socket.end() },
  status503: { on: 'GET', act: ({ res }) => res.writeHead(503, { 'content-length': 0 }).end() },
  truncated: {
    on: 'GET',
    act: ({ req, body }) => req.socket.end(head(`content-length: ${body.length}`) + body.slice(0, -1)),
  },
  truncatedChunks: {
    on: 'GET',
    act: ({ req, body }) =>
      req.socket.end(`${head('transfer-encoding: chunked')}${body.length.toString(16)}\r\n${body}\r\n`),
  },
  tooLong: {
    on: 'GET',
    act: ({ req, body }) => req.socket.write(`${head(`content-length: ${body.length}`)}${body}!`),
  },
  twoLengths: {
    on: 'GET',
    act: ({ req, body }) =>
      req.socket.end(head(`content-length: ${body.length}`, `content-length: ${body.length - 1}\r\n`) + body),
  },
  wrongBody: { on: 'GET', act: ({ res, body }) => res.end(body.replace(/"name":"\w/, '"name":"z')) },
  notJson: { on: 'GET', act: ({ res }) => res.end('<html>') },
  noRelease: {
    on: 'GET',
    act({ res, body }) {
      res.removeHeader('x-release');
      res.end(body);
    },
  },
  slow: { on: 'GET', act: ({ res, body }) => setTimeout(() => res.end(body), HELD_MS) },
  neverClosed: {
    on: 'FRESH',
    act: ({ req, body }) => req.socket.write(head(`content-length: ${body.length}`, 'connection: close\r\n') + body),
  },
  repeatedOnTheWay: {
    on: 'POST',
    act({ res, body }) {
      res.setHeader('idempotency-replayed', 'true');
      res.end(body);
    },
  },
  doubledPost: {
    on: 'POST',
    act({ res, body, store }) {
      store();
      res.end(body);
    },
  },
  lostPost: {
    on: 'POST',
    act({ res, body, unstore }) {
      unstore();
      res.end(body);
    },
  },
  unansweredPost: { on: 'POST', act: ({ req }) => req.socket.resetAndDestroy() },
  streamCut: { on: 'STREAM', act: ({ socket }) => socket.end() },
  streamReset: { on: 'STREAM', act: ({ socket }) => socket.resetAndDestroy() },
  streamError: { on: 'STREAM', act: ({ ws }) => ws.close(1011) },
  streamMoved: { on: 'STREAM', act: ({ ws }) => ws.close(1001) }, // is right
  streamSilent: {
    on: 'STREAM',
    act({ stream }) {
      stream.silent = true;
    },
  },
  streamWrong: { on: 'STREAM', act: ({ ws }) => ws.send('{"type":"tock"}') },
  streamRefused: {
    on: 'STREAM',
    act({ ws, server }) {
      server.refuse = true;
      ws.close(1001);
    },
  },
};

/** {port, orders (a Map from n to how often), happened(), stop()} */
export async function startFaultyServer(name) {
  const { on, act } = FAULTS[name];
  const orders = new Map();
  const state = { refuse: false };
  let seen = 0;
  let happened = 0;
  const strikes = (kind) => {
    if (kind !== on || happened) return false;
    seen += 1;
    if (seen < AT) return false;
    happened += 1;
    return true;
  };

  const server = http.createServer({ keepAliveTimeout: 60_000 }, async (req, res) => {
    res.setHeader('x-release', 'r1');
    res.setHeader('content-type', 'application/json');
    if (req.method === 'POST') return post(req, res);
    const url = new URL(req.url, 'http://localhost');
    const size = Number(url.searchParams.get('size'));
    const body = json({ name: url.pathname.split('/')[2], release: 'r1', filler: 'x'.repeat(size) });
    const fresh = on === 'FRESH' && req.headers.connection === 'close';
    if (strikes(fresh ? 'FRESH' : 'GET')) return act({ req, res, body });
    return res.end(body);
  });

  async function post(req, res) {
    let text = '';
    for await (const chunk of req.setEncoding('utf8')) text += chunk;
    const { n } = JSON.parse(text);
    const store = () => orders.set(n, (orders.get(n) ?? 0) + 1);
    store();
    const body = json({ id: n, n });
    res.statusCode = 201;
    return strikes('POST') ? act({ req, res, body, store, unstore: () => orders.delete(n) }) : res.end(body);
  }

  server.on('connection', (socket) => socket.on('error', () => {}));
  const wss = new WebSocketServer({ noServer: true });
  server.on('upgrade', (req, socket, bytes) => {
    if (state.refuse) {
      state.refuse = false;
      socket.end('HTTP/1.1 503 Refused\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
      return;
    }
    wss.handleUpgrade(req, socket, bytes, (ws) => {
      const stream = { silent: false };
      const tick = () => {
        if (ws.readyState !== ws.OPEN || stream.silent) return;
        if (!strikes('STREAM')) ws.send(json({ type: 'tick', release: 'r1' }));
        else act({ ws, socket, stream, server: state });
      };
      const timer = setInterval(tick, TICK_MS / 5);
      ws.on('close', () => clearInterval(timer));
      ws.on('error', () => {});
    });
  });
  await new Promise((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return {
    port: server.address().port,
    orders,
    happened: () => happened,
    stop: () =>
      new Promise((resolve) => {
        server.close(resolve);
        for (const ws of wss.clients) ws.terminate();
        server.closeAllConnections();
      }),
  };
}
