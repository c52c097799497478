import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { readConfig } from '../server/config.js';
import { get, post, startStack } from './stack.js';

let stack;
let server;
before(async () => {
  stack = await startStack();
  server = await stack.server();
});
after(() => stack?.stop());

test('every answer names the release and the instance', async () => {
  for (const path of ['/livez', '/readyz', '/api/version', '/api/nothing', '/stream']) {
    const { headers } = await get(server, path);
    assert.equal(headers.get('x-release'), 'r-1', path);
    assert.equal(headers.get('x-instance'), 'web-1', path);
  }
});

test('wrong configuration: every problem at once, no secret shown', () => {
  assert.throws(() => readConfig({ PORT: '99999', DATABASE_URL: 'mysql://u:hidden@h/d', PROVIDERS: 'alpha=http://x delta=http://y' }), (error) => {
    const text = error.problems.join('\n');
    for (const word of ['PORT', 'DATABASE_URL', 'REDIS_URL', 'PROVIDER_KEYS_ALPHA', 'delta']) assert.match(text, new RegExp(word));
    assert.doesNotMatch(text, /hidden/);
    return true;
  });
});

test('quotes are cached: many requests at once are one request to a provider', async () => {
  const before_ = (await stack.control('alpha')).requests;
  const answers = await Promise.all(Array.from({ length: 50 }, () => get(server, '/api/quotes?symbols=KO')));
  assert.ok(answers.every(({ status, json }) => status === 200 && json.quotes[0].price === answers[0].json.quotes[0].price));
  assert.equal((await stack.control('alpha')).requests, before_ + 1);
  const [{ count }] = await stack.sql(`SELECT count(*)::int FROM quotes WHERE symbol = 'KO'`);
  assert.equal(count, 1);
});

test('a second instance finds the quote in Redis', async () => {
  await get(server, '/api/quotes?symbols=PEP');
  const { requests } = await stack.control('alpha');
  const other = await stack.server();
  assert.equal((await get(other, '/api/quotes?symbols=PEP')).status, 200);
  assert.equal((await stack.control('alpha')).requests, requests);
  await stack.end(other, 'SIGTERM');
});

test('history is there from the first look, oldest first', async () => {
  const { json } = await get(server, '/api/quotes/IBM/history?points=30');
  assert.equal(json.points.length, 30);
  assert.deepEqual(json.points.map((p) => p.time), json.points.map((p) => p.time).sort());
});

test('an Idempotency-Key makes a POST happen once, also when sent many times at once', async () => {
  for (const [path, body, table] of [['alerts', { symbol: 'AAPL', above: 12.5 }, 'alerts'], ['watchlists', { symbol: 'AAPL' }, 'watchlist_items']]) {
    const answers = await Promise.all(Array.from({ length: 12 }, () => post(server, `/api/${path}/once`, body, { 'idempotency-key': `key-${path}` })));
    assert.deepEqual(new Set(answers.map((a) => a.status)), new Set([201]));
    assert.equal(new Set(answers.map((a) => a.text)).size, 1);
    const rows = await stack.sql(`SELECT id::int FROM ${table} WHERE user_name = 'once'`);
    assert.deepEqual(rows, [{ id: answers[0].json.id }]);
  }
  const reused = await post(server, '/api/alerts/once', { symbol: 'AAPL', above: 13 }, { 'idempotency-key': 'key-alerts' });
  assert.equal(reused.status, 422);
});

test('a repeated add after a removal stays removed', async () => {
  const add = () => post(server, '/api/watchlists/bob', { symbol: 'msft' }, { 'idempotency-key': 'bob-1' });
  const first = await add();
  assert.equal((await get(server, '/api/watchlists/bob/MSFT', { method: 'DELETE' })).status, 204);
  assert.deepEqual((await add()).json, first.json);
  assert.deepEqual((await get(server, '/api/watchlists/bob')).json.items, []);
});

test('alerts without a key are separate; a second watch of a symbol is the same one', async () => {
  const ids = [await post(server, '/api/alerts/ann', { symbol: 'V', above: 1 }), await post(server, '/api/alerts/ann', { symbol: 'V', above: 1 })].map((a) => a.json.id);
  assert.notEqual(ids[0], ids[1]);
  const [a, b] = [await post(server, '/api/watchlists/ann', { symbol: 'V' }), await post(server, '/api/watchlists/ann', { symbol: 'V' })];
  assert.deepEqual([a.status, b.status, a.json.id], [201, 200, b.json.id]);
});

test('bad requests get a JSON error with a code', async () => {
  const long = JSON.stringify({ symbol: 'A'.repeat(20_000) });
  const cases = [
    [400, 'bad_json', post(server, '/api/alerts/ann', '{"symbol":')],
    [400, 'bad_above', post(server, '/api/alerts/ann', { symbol: 'V', above: -1 })],
    [400, 'bad_symbol', post(server, '/api/alerts/ann', '[]')],
    [400, 'bad_user', post(server, '/api/alerts/a%20b', { symbol: 'V', above: 1 })],
    [400, 'bad_request', get(server, '/api/watchlists/%ff')],
    [400, 'bad_symbols', get(server, '/api/quotes')],
    [400, 'bad_points', get(server, '/api/quotes/V/history?points=1e9')],
    [400, 'bad_idempotency_key', post(server, '/api/alerts/ann', { symbol: 'V', above: 1 }, { 'idempotency-key': 'a b' })],
    [404, 'unknown_symbol', get(server, '/api/quotes?symbols=NOPE')],
    [404, 'not_found', get(server, '/api/nothing', { headers: { accept: 'text/html' } })],
    [404, 'no_alert', get(server, '/api/alerts/ann/x', { method: 'DELETE' })],
    [405, 'method_not_allowed', get(server, '/api/version', { method: 'PUT' })],
    [413, 'too_large', post(server, '/api/alerts/ann', long)],
    [415, 'not_json', get(server, '/api/alerts/ann', { method: 'POST', body: 'symbol=V' })],
  ];
  for (const [status, code, promise] of cases) {
    const answer = await promise;
    assert.deepEqual([answer.status, answer.json?.error.code], [status, code]);
  }
});

test('metrics name routes by template, never by address', async () => {
  const { text } = await get(server, '/metrics');
  assert.match(text, /http_request_duration_seconds_count\{method="POST",route="\/api\/alerts\/:user",status="201"\}/);
  assert.match(text, /market_pulse_provider_requests_total\{provider="alpha",outcome="ok"\}/);
  assert.match(text, /market_pulse_provider_quota_left\{provider="alpha",key="0"\}/);
  assert.doesNotMatch(text, /demo-alpha|\/ann/);
});
