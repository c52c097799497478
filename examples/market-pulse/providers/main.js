// Three market-data providers, simulated: deterministic prices, keys with quotas, and switches for what goes wrong.

import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

const BUCKET_MS = 5000; // a price holds for one bucket
const SWITCHES = {
  outage: (value) => typeof value === 'boolean', // answers 503
  rate_limit: (value) => typeof value === 'boolean', // answers 429
  latency_ms: (value) => Number.isInteger(value) && value >= 0 && value <= 60_000,
  wrong_prices: (value) => [false, true, 'jump', 'zero', 'negative'].includes(value), // true is 'jump'
};
const OFF = { outage: false, rate_limit: false, latency_ms: 0, wrong_prices: false };
const SEED = Number(process.env.SEED ?? 1);

const iso = (ms) => new Date(ms).toISOString();

/** FNV-1a, finished by a mixer: a number in [0, 1) from a text. */
function noise(text) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32;
}

/** A function of symbol, time and seed: slow waves of different lengths, and a little noise. */
function priceAt(symbol, ms) {
  const bucket = Math.floor(ms / BUCKET_MS);
  const base = 20 + 480 * noise(`${SEED}/${symbol}`) ** 2;
  let wave = 0;
  [[7200, 0.03], [1500, 0.012], [420, 0.006], [97, 0.003]].forEach(([seconds, size], i) => {
    const phase = noise(`${SEED}/${symbol}/${i}`) * 2 * Math.PI;
    wave += size * Math.sin((2 * Math.PI * bucket * BUCKET_MS) / 1000 / seconds + phase);
  });
  const jitter = (noise(`${SEED}/${symbol}/${bucket}`) - 0.5) * 0.002;
  return Math.round(base * (1 + wave + jitter) * 100) / 100;
}

const bucketTime = (ms) => Math.floor(ms / BUCKET_MS) * BUCKET_MS;

// Each: where the key is, which symbol is asked for, and the answer in the provider's own shape.
const PROVIDERS = {
  alpha: {
    keys: 'demo-alpha-1,demo-alpha-2',
    quota: 60,
    key: (req, url) => url.searchParams.get('apikey'),
    symbol: (url) => url.pathname === '/query' && url.searchParams.get('symbol'),
    answer(symbol, price, now, url) {
      if (url.searchParams.get('function') === 'TIME_SERIES') {
        const points = Math.min(Number(url.searchParams.get('points')) || 60, 500);
        const times = Array.from({ length: points }, (_, i) => bucketTime(now - (points - i) * 60_000));
        return {
          'Meta Data': { symbol, interval: '1min', currency: 'USD' },
          'Time Series': Object.fromEntries(times.map((ms) => [iso(ms), { '4. close': priceAt(symbol, ms).toFixed(2) }])),
        };
      }
      return { 'Global Quote': {
        '01. symbol': symbol, '05. price': price.toFixed(2), '07. time': iso(bucketTime(now)), '08. currency': 'USD',
      } };
    },
  },
  beta: {
    keys: 'demo-beta-1',
    quota: 60,
    key: (req) => req.headers['x-api-key'],
    symbol: (url) => /^\/v3\/quote\/([A-Z.]+)$/.exec(url.pathname)?.[1],
    answer: (symbol, price, now) => ({ s: symbol, c: price, cur: 'USD', t: bucketTime(now) / 1000 }),
  },
  gamma: {
    keys: 'demo-gamma-1',
    quota: 120,
    key: (req) => /^Bearer (.+)$/.exec(req.headers.authorization ?? '')?.[1],
    symbol: (url) => url.pathname === '/markets/quotes' && url.searchParams.get('ticker'),
    answer: (symbol, price, now) => ({ data: [
      { ticker: symbol, ccy: 'USD', last: { amount: String(Math.round(price * 100)), scale: 2, at: iso(bucketTime(now)) } },
    ] }),
  },
};

function createProvider(name) {
  const provider = PROVIDERS[name];
  const upper = name.toUpperCase();
  const quota = Number(process.env[`${upper}_QUOTA`] ?? provider.quota); // requests a minute and key
  const keys = new Map((process.env[`${upper}_KEYS`] ?? provider.keys).split(',').map((key) => [key, { minute: 0, used: 0 }]));
  const switches = { ...OFF };
  let requests = 0;

  /** Counts the request against its key; the headers to answer with, and whether it may pass. */
  function spend(key, now) {
    const minute = Math.floor(now / 60_000);
    if (key.minute !== minute) Object.assign(key, { minute, used: 0 });
    const allowed = key.used < quota && !switches.rate_limit;
    if (allowed) key.used += 1;
    const reset = Math.ceil(((minute + 1) * 60_000 - now) / 1000);
    const headers = { 'x-ratelimit-limit': quota, 'x-ratelimit-remaining': quota - key.used, 'x-ratelimit-reset': reset };
    if (!allowed) headers['retry-after'] = switches.rate_limit ? 2 : reset;
    return { allowed, headers };
  }

  function wrong(price) {
    return { true: price * 1.5, jump: price * 1.5, zero: 0, negative: -price }[switches.wrong_prices] ?? price;
  }

  async function control(req, res) {
    if (req.method === 'POST') {
      let text = '';
      for await (const chunk of req) if ((text += chunk).length > 4096) return send(res, 413, { error: 'too large' });
      let wanted;
      try {
        wanted = Object.entries(JSON.parse(text));
      } catch {
        return send(res, 400, { error: 'not a JSON object' });
      }
      const bad = wanted.find(([key, value]) => !Object.hasOwn(SWITCHES, key) || !SWITCHES[key](value));
      if (bad) return send(res, 400, { error: `bad switch ${bad[0]}`, switches: Object.keys(SWITCHES) });
      Object.assign(switches, Object.fromEntries(wanted));
    } else if (req.method !== 'GET') return send(res, 405, { error: 'GET or POST' });
    return send(res, 200, { provider: name, ...switches, requests, keys: keys.size, quota });
  }

  const server = http.createServer({ keepAliveTimeout: 75_000 }, async (req, res) => {
    if (!URL.canParse(req.url, 'http://localhost')) return send(res, 400, { error: 'bad address' });
    const url = new URL(req.url, 'http://localhost');
    if (url.pathname === '/control') return control(req, res);
    requests += 1;
    if (switches.latency_ms) await sleep(switches.latency_ms);
    if (switches.outage) return send(res, 503, { error: 'maintenance' });
    const key = keys.get(provider.key(req, url));
    if (!key) return send(res, 401, { error: 'unknown key' });
    const now = Date.now();
    const { allowed, headers } = spend(key, now);
    if (!allowed) return send(res, 429, { error: 'quota is used up' }, headers);
    const symbol = provider.symbol(url);
    if (!symbol || !/^[A-Z.]{1,6}$/.test(symbol)) return send(res, 404, { error: 'unknown symbol' }, headers);
    return send(res, 200, provider.answer(symbol, wrong(priceAt(symbol, now)), now, url), headers);
  });
  return server;
}

function send(res, status, body, headers = {}) {
  res.writeHead(status, { 'content-type': 'application/json', ...headers });
  res.end(JSON.stringify(body));
}

/** PORTS=9101,9102,9103 (the default) or PORTS=0 for free ones. */
const wanted = (process.env.PORTS ?? '9101,9102,9103').split(',').map(Number);
const servers = Object.keys(PROVIDERS).map((name, i) => ({ name, server: createProvider(name), port: wanted[i] ?? 0 }));
const ports = {};
for (const { name, server, port } of servers) {
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, process.env.HOST ?? '127.0.0.1', resolve);
  });
  ports[name] = server.address().port;
}
console.log(JSON.stringify({ ready: true, ports }));

for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0));
