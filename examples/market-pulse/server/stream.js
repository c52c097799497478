// Live prices over WebSocket: one ticker for all sockets.

import { WebSocketServer } from 'ws';
import { isSymbol } from './symbols.js';

const TICK_MS = 1000;
const HEARTBEAT_MS = 20_000;
const CLIENTS_MAX = 5000;
const SYMBOLS_MAX = 50;
const BEHIND_MAX = 256 * 1024; // bytes a slow client may owe before it is cut off
const CLOSE_WAIT_MS = 1000; // for the client's half of the closing handshake
const GOING_AWAY = 1001;

export function createStream({ config, quotes, metrics, log }) {
  const wss = new WebSocketServer({ noServer: true, maxPayload: 4096, perMessageDeflate: false, clientTracking: false });
  const clients = new Map(); // socket -> {symbols, alive}
  const hello = JSON.stringify({ type: 'hello', release: config.release, instance: config.instance });
  let ticking = false;
  let stopping = false;

  function upgrade(req, socket, head) {
    const [path, query] = req.url.split('?', 2);
    const symbols = parseSymbols(new URLSearchParams(query).get('symbols'));
    if (path !== '/stream') return refuse(socket, 404, 'not_found');
    if (!symbols) return refuse(socket, 400, 'bad_symbols');
    if (stopping || clients.size >= CLIENTS_MAX) return refuse(socket, 503, 'unavailable');
    return wss.handleUpgrade(req, socket, head, (ws) => open(ws, symbols));
  }

  function refuse(socket, status, code) {
    const body = JSON.stringify({ error: { code, message: 'The stream cannot be opened.' } });
    socket.on('error', () => socket.destroy());
    socket.end(`HTTP/1.1 ${status} Refused\r\nConnection: close\r\nContent-Type: application/json\r\n`
      + `X-Release: ${config.release}\r\nX-Instance: ${config.instance}\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
  }

  function open(ws, symbols) {
    const client = { symbols, alive: true };
    clients.set(ws, client);
    metrics.sockets.set(clients.size);
    ws.on('pong', () => { client.alive = true; });
    ws.on('message', (data, binary) => {
      const wanted = !binary && parseSubscription(data);
      if (!wanted) return ws.close(1008, 'not a subscription');
      client.symbols = wanted;
      return greet(ws, client);
    });
    ws.on('error', (error) => log.debug('stream failed', { error }));
    ws.on('close', () => {
      clients.delete(ws);
      metrics.sockets.set(clients.size);
    });
    ws.send(hello);
    greet(ws, client);
  }

  // First prices at once rather than at the next tick.
  async function greet(ws, { symbols }) {
    if (!symbols.length) return;
    for (const quote of await quotes.get(symbols)) if (quote) send(ws, message(quote));
  }

  const message = (quote) => JSON.stringify({ type: 'quote', ...quote });

  function send(ws, text) {
    if (ws.readyState !== ws.OPEN) return;
    if (ws.bufferedAmount > BEHIND_MAX) ws.terminate();
    else ws.send(text);
  }

  async function tick() {
    const wanted = new Set();
    for (const { symbols } of clients.values()) symbols.forEach((symbol) => wanted.add(symbol));
    if (!wanted.size || ticking) return;
    ticking = true;
    try {
      const found = await quotes.get([...wanted]);
      const texts = new Map(found.filter(Boolean).map((quote) => [quote.symbol, message(quote)]));
      for (const [ws, { symbols }] of clients) {
        for (const symbol of symbols) if (texts.has(symbol)) send(ws, texts.get(symbol));
      }
    } finally {
      ticking = false;
    }
  }

  function heartbeat() {
    for (const [ws, client] of clients) {
      if (!client.alive) ws.terminate();
      else if (ws.readyState === ws.OPEN) {
        client.alive = false;
        ws.ping();
      }
    }
  }

  const timers = [setInterval(tick, TICK_MS), setInterval(heartbeat, HEARTBEAT_MS)];

  /** Closes every socket open now, each at a random moment of the spread, so that they do not return all at once. */
  async function drain(spreadMs = config.closeSpreadMs) {
    await Promise.all([...clients.keys()].map((ws) => new Promise((resolve) => {
      ws.on('close', resolve);
      setTimeout(() => {
        ws.close(GOING_AWAY, 'going away');
        setTimeout(() => ws.terminate(), CLOSE_WAIT_MS).unref();
      }, Math.random() * spreadMs);
    })));
  }

  return {
    upgrade,
    drain,
    count: () => clients.size,
    async stop() {
      stopping = true;
      await drain();
      timers.forEach(clearInterval);
    },
  };
}

function parseSymbols(text) {
  const symbols = [...new Set((text ?? '').split(',').filter(Boolean))];
  return symbols.length <= SYMBOLS_MAX && symbols.every(isSymbol) ? symbols : undefined;
}

function parseSubscription(data) {
  try {
    const { type, symbols } = JSON.parse(data);
    return type === 'subscribe' && Array.isArray(symbols) ? parseSymbols(symbols.join(',')) : undefined;
  } catch {
    return undefined;
  }
}
