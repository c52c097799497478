import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { get, post, startStack, until } from './stack.js';

let stack;
before(async () => { stack = await startStack(); });
beforeEach(() => stack.calm());
after(() => stack?.stop());

// Opens a stream; `messages` fills, `closed` resolves to {code, at}.
async function open(server, query = 'symbols=AAPL,MSFT') {
  const ws = new WebSocket(`${server.url.replace('http', 'ws')}/stream?${query}`);
  const messages = [];
  ws.on('message', (data) => messages.push(JSON.parse(data)));
  const closed = new Promise((resolve) => { ws.on('close', (code) => resolve({ code, at: Date.now() })); });
  await new Promise((resolve, reject) => { ws.on('open', resolve).on('error', reject); });
  return { ws, messages, closed };
}

const request = (server, path, agent) => new Promise((resolve, reject) => {
  http.get(server.url + path, { agent }, (res) => {
    res.resume().on('end', () => resolve({ status: res.statusCode, headers: res.headers }));
  }).on('error', reject);
});

test('several instances start at once on an empty database', async () => {
  const servers = await Promise.all(Array.from({ length: 4 }, () => stack.server()));
  assert.deepEqual(await stack.sql('SELECT version FROM schema_migrations'), [{ version: 1 }]);
  assert.deepEqual(await Promise.all(servers.map((server) => stack.end(server, 'SIGTERM'))), [0, 0, 0, 0]);
});

test('a stream says hello, sends each symbol about once a second, and follows a subscription', async () => {
  const server = await stack.server();
  const { ws, messages, closed } = await open(server);
  await until(() => messages.filter((m) => m.symbol === 'MSFT').length >= 3, 'three quotes');
  assert.deepEqual(messages[0], { type: 'hello', release: 'r-1', instance: 'web-1' });
  ws.send(JSON.stringify({ type: 'subscribe', symbols: ['KO'] }));
  await until(() => messages.some((m) => m.symbol === 'KO'), 'the new symbol');
  const metrics = await get(server, '/metrics');
  assert.match(metrics.text, /market_pulse_websocket_clients 1/);
  ws.send('x'.repeat(5000));
  assert.equal((await closed).code, 1009);
  await assert.rejects(open(server, 'symbols=NOPE'), /400/);
  await assert.rejects(open({ url: `${server.url}//` }), /404/);
  await stack.end(server, 'SIGTERM');
});

test('SIGTERM: what is in flight is answered, idle connections are not cut under a request, streams hear 1001', async () => {
  const server = await stack.server({ HOLDFAST_CLOSE_SPREAD_MS: '400', CACHE_SECONDS: '1', HOLDFAST_ENVIRONMENT: 'sigterm' });
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const streams = await Promise.all(Array.from({ length: 10 }, () => open(server, '')));
  await request(server, '/livez', agent);
  await stack.control('alpha', { latency_ms: 600 });
  const slow = request(server, '/api/quotes?symbols=WMT');
  await sleep(100);

  const begun = Date.now();
  server.kill('SIGTERM');
  await until(() => server.log.some((line) => line.message === 'stopping'), 'the stop to begin');
  const late = await request(server, '/livez', agent);
  assert.deepEqual([late.status, late.headers.connection], [200, 'close']);
  await assert.rejects(request(server, '/livez', false), /ECONNREFUSED/);
  const answer = await slow;
  assert.deepEqual([answer.status, answer.headers.connection], [200, 'close']);
  const closes = await Promise.all(streams.map((stream) => stream.closed));
  assert.ok(closes.every(({ code }) => code === 1001));
  assert.ok(new Set(closes.map(({ at }) => at)).size > 3, 'spread out');
  assert.equal(await server.exited, 0);
  assert.ok(Date.now() - begun < 2000);
  agent.destroy();
});

test('SIGUSR2: open streams move on, the server keeps serving', async () => {
  const server = await stack.server({ HOLDFAST_CLOSE_SPREAD_MS: '300' });
  const streams = await Promise.all(Array.from({ length: 5 }, () => open(server)));
  server.kill('SIGUSR2');
  const closes = await Promise.all(streams.map((stream) => stream.closed));
  assert.ok(closes.every(({ code }) => code === 1001));
  assert.equal((await get(server, '/readyz')).status, 200);
  const { messages } = await open(server);
  await until(() => messages.some((m) => m.type === 'quote'), 'a quote on a new stream');
  assert.equal(await stack.end(server, 'SIGINT'), 0);
});

test('a request that never ends cannot hold the stop', async () => {
  const server = await stack.server({ STOP_TIMEOUT_MS: '700' });
  const held = http.request(`${server.url}/api/alerts/ann`, { method: 'POST', headers: { 'content-type': 'application/json', 'content-length': 50 } });
  held.on('error', () => {});
  held.write('{');
  await sleep(100);
  assert.equal(await stack.end(server, 'SIGTERM'), 1);
});

test('Redis away: ready but degraded, quotes from memory; Redis back: used again', async () => {
  const server = await stack.server();
  const status = async () => (await get(server, '/readyz?verbose')).json.checks.redis.status;
  const ask = () => get(server, '/api/quotes?symbols=SBUX');
  const { json } = await ask();
  stack.redis.kill('SIGSTOP'); // hangs rather than refuses
  const started = Date.now();
  assert.deepEqual((await ask()).json, json);
  assert.ok(Date.now() - started < 600, 'a hanging Redis costs little');
  await until(async () => await status() === 'degraded', 'redis to be reported');
  await stack.end(stack.redis, 'SIGKILL');
  assert.deepEqual((await ask()).json, json);
  assert.equal((await get(server, '/readyz')).status, 200);
  stack.startRedis();
  await until(async () => await status() === 'ok', 'redis to be back');
  await stack.end(server, 'SIGTERM');
});

test('database away: not ready, alive, quotes still served; a server started meanwhile waits for it', async () => {
  const server = await stack.server();
  await get(server, '/api/quotes?symbols=TM');
  await stack.end(stack.postgres, 'SIGINT');
  await until(async () => (await get(server, '/readyz')).status === 503, 'not ready');
  assert.equal((await get(server, '/livez')).status, 200);
  assert.equal((await get(server, '/api/quotes?symbols=TM')).status, 200);
  assert.equal((await post(server, '/api/alerts/ann', { symbol: 'V', above: 1 })).status, 503);
  const waiting = await stack.server({}, { ready: false });
  assert.equal((await get(waiting, '/readyz')).status, 503);
  stack.startPostgres();
  for (const each of [server, waiting]) {
    await until(async () => (await get(each, '/readyz')).status === 200, 'ready again');
    assert.equal(await stack.end(each, 'SIGTERM'), 0);
  }
});
