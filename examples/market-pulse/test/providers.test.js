import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { get, startStack, until } from './stack.js';

let stack;
before(async () => { stack = await startStack(); });
beforeEach(() => stack.calm());
after(() => stack?.stop());

// A server of its own, so that no test meets another's open circuits.
async function withServer(work, env = {}) {
  const server = await stack.server({ CACHE_SECONDS: '1', HOLDFAST_ENVIRONMENT: `t${Math.random()}`, ...env });
  try {
    await work(server);
  } finally {
    await stack.end(server, 'SIGTERM');
  }
}

async function quote(server, symbol) {
  const { status, json } = await get(server, `/api/quotes?symbols=${symbol}`);
  return { status, ...json.quotes?.[0] };
}

for (const [name, switches] of [['an outage', { outage: true }], ['a rate limit', { rate_limit: true }], ['a slow answer', { latency_ms: 5000 }],
  ['a zero price', { wrong_prices: 'zero' }], ['a negative price', { wrong_prices: 'negative' }]]) {
  test(`${name}: the next provider is asked`, () => withServer(async (server) => {
    await stack.control('alpha', switches);
    const started = Date.now();
    assert.equal((await quote(server, 'AAPL')).source, 'beta');
    assert.ok(Date.now() - started < 2000);
    await stack.control('beta', switches);
    assert.equal((await quote(server, 'MSFT')).source, 'gamma');
  }));
}

test('a jump is believed only when a second provider says the same', () => withServer(async (server) => {
  const { price } = await quote(server, 'TSLA');
  await stack.control('alpha', { wrong_prices: 'jump' });
  await until(async () => (await quote(server, 'TSLA')).source === 'beta', 'the cached quote to expire');
  const kept = await quote(server, 'TSLA');
  assert.ok(Math.abs(kept.price / price - 1) < 0.2);
  await stack.control('beta', { wrong_prices: 'jump' });
  const jumped = await until(async () => {
    const now = await quote(server, 'TSLA');
    return now.price > price * 1.3 && now;
  }, 'the confirmed jump');
  assert.equal(jumped.source, 'beta');
}));

test('a used-up key rests, the other one is used', () => withServer(async (server) => {
  await stack.control('alpha', { rate_limit: true });
  await quote(server, 'KO');
  const { requests } = await stack.control('alpha');
  await quote(server, 'PEP');
  assert.equal((await stack.control('alpha')).requests, requests, 'a resting key is not sent');
  const { json } = await get(server, '/readyz?verbose');
  assert.equal(json.checks.database.status, 'ok');
}));

test('a refused key is put aside', () => withServer(async (server) => {
  assert.equal((await quote(server, 'GE')).source, 'alpha');
  assert.equal((await quote(server, 'GS')).source, 'alpha');
  assert.equal(server.log.filter((line) => line.message.includes('refuses a key')).length, 1);
  assert.ok(!JSON.stringify(server.log).includes('wrong-key'));
}, { PROVIDER_KEYS_ALPHA: 'wrong-key,demo-alpha-1' }));

test('a provider that keeps failing is left out, then tried again', () => withServer(async (server) => {
  await stack.control('alpha', { outage: true });
  for (const symbol of ['AMD', 'BA', 'BAC', 'CRM', 'CVX']) await quote(server, symbol);
  const { requests } = await stack.control('alpha');
  await quote(server, 'DIS');
  assert.equal((await stack.control('alpha')).requests, requests);
  await until(async () => (await get(server, '/readyz?verbose')).json.status === 'degraded', 'the health report');
  await stack.calm();
  await until(async () => (await quote(server, 'AMD')).source === 'alpha', 'alpha to come back', 15_000);
}));

test('all away: the last quote, marked stale; 503 where none is known', () => withServer(async (server) => {
  const known = await quote(server, 'NKE');
  for (const name of ['alpha', 'beta', 'gamma']) await stack.control(name, { outage: true });
  const stale = await until(async () => {
    const now = await quote(server, 'NKE');
    return now.stale && now;
  }, 'a stale quote');
  assert.deepEqual([stale.status, stale.price], [200, known.price]);
  assert.equal((await quote(server, 'UNH')).status, 503);
  assert.equal((await get(server, '/readyz')).status, 200);
}));
