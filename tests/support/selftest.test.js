// The tools themselves: the load generator finds nothing wrong where nothing is, and every fault where one is.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { copyMarketPulse, copyTinyApp, setInYaml } from './app.js';
import { startFaultyServer } from './faulty-server.js';
import { startHoldfast } from './holdfast.js';
import {
  assertClean,
  comparePosts,
  requestsBetween,
  sentAfter,
  startLoad,
  tinyApp,
  verifyAlerts,
  verifyLog,
} from './load.js';
import { eventually, processesOf, run, startComponent, temporaryFolder } from './processes.js';
import {
  freePort,
  startHaproxy,
  startPostgres,
  startProviders,
  startReceiver,
  startRedis,
  stopAll,
  webhookProblem,
} from './services.js';

after(stopAll);

async function startTiny(app, env = {}) {
  const port = await freePort();
  const instance = await startComponent({
    name: 'the tiny application',
    command: process.execPath,
    args: [join(app.folder, 'main.js')],
    ready: /"listening"/,
    env: { PORT: port, STATE: app.log, HOLDFAST_RELEASE: 'r1', ...env },
  });
  return { ...instance, port };
}

test('nothing is wrong with what works, and everything is counted', async (t) => {
  const app = copyTinyApp({ listen: '127.0.0.1:1' });
  const [one, two] = await Promise.all([startTiny(app), startTiny(app)]);
  const proxy = await startHaproxy({ servers: [one.port, two.port] });
  const load = await startLoad({
    port: proxy.port,
    profile: tinyApp,
    keepalive: 8,
    fresh: 4,
    sockets: 10,
    requestsMax: 10_000,
  });
  await load.advance(100);
  await load.streams();
  const asked = await load.phase('second');
  const result = await load.done;

  assertClean(result);
  assert.equal(result.requests, 10_000);
  assert.equal(result.ended, 'requests');
  assert.equal(
    Object.values(result.latency_ms).reduce((sum, { count }) => sum + count, 0),
    10_000,
  );
  assert.equal(result.releases.r1.requests, 10_000);
  assert.equal(
    result.phases.reduce((sum, { requests }) => sum + requests, 0),
    10_000,
  );
  assert.equal(requestsBetween(result, 'r1', 0, Infinity), 10_000);
  assert.ok(sentAfter(result, 'r1', asked) >= asked);
  assert.equal(sentAfter(result, 'r1', Date.now()), undefined);
  assert.deepEqual(result.sockets.closes, { 1000: 10 });
  assert.deepEqual(verifyLog(app.log, result), {
    acknowledged: result.posts.sent,
    unacknowledged: 0,
    lost: [],
    doubled: [],
    strange: [],
  });
  t.diagnostic(
    `${Math.round(result.requests_per_second)} requests/s to two node instances through HAProxy, generator ${Math.round(result.cpu_ms)} ms CPU`,
  );
});

test('the generator is fast enough not to be the bottleneck', async (t) => {
  const port = await freePort();
  await startComponent({
    name: 'a trivial server',
    command: process.execPath,
    ready: /up/,
    args: [
      '-e',
      `
    const x = JSON.stringify({ name: 'a', release: 'r1', filler: 'x'.repeat(10) });
    require('http').createServer((req, res) => { res.setHeader('x-release', 'r1'); res.setHeader('content-type', 'application/json'); res.end(x); })
      .listen(${port}, '127.0.0.1', () => console.log('up'));`,
    ],
  });
  const proxy = await startHaproxy({ servers: [port] });
  const profile = { module: new URL('selftest-profile.js', import.meta.url).href, name: 'trivial' };
  const load = await startLoad({
    port: proxy.port,
    profile,
    keepalive: 16,
    fresh: 0,
    postShare: 0,
    requestsMax: 20_000,
  });
  const result = await load.done;
  assertClean(result);
  t.diagnostic(
    `${Math.round(result.requests_per_second)} requests/s, ${Math.round((result.requests / result.cpu_ms) * 1000)} a CPU-second of the generator`,
  );
});

test('requests come at the rate asked for', async () => {
  const server = await startFaultyServer('none');
  const load = await startLoad({ port: server.port, profile: tinyApp, rate: 200, durationMs: 1000 });
  const result = await load.done;
  await server.stop();
  assertClean(result);
  assert.equal(result.ended, 'time');
  assert.ok(result.requests <= 201 + 50, `${result.requests} requests`); // and the credit of a quarter second
  assert.ok(result.requests >= 50, `${result.requests} requests`);
});

// What each fault must be called, seen directly and through HAProxy, which turns some into a status of its own.
const SEEN = {
  reset: ['reset .*before|idle close race', 'status 502|idle close race'],
  resetWithin: ['reset', 'truncated|reset'],
  closedUnanswered: ['idle close race|closed early', 'status 502|idle close race'],
  status503: ['status 503', 'status 503'],
  truncated: ['truncated', 'truncated|reset'],
  truncatedChunks: ['truncated', 'truncated|reset'],
  tooLong: ['malformed', undefined],
  twoLengths: ['malformed', 'status 502'],
  wrongBody: ['wrong answer', 'wrong answer'],
  notJson: ['wrong answer', 'wrong answer'],
  noRelease: ['wrong answer', 'wrong answer'],
  slow: ['time-out', 'time-out'],
  neverClosed: ['not closed', undefined],
  repeatedOnTheWay: ['wrong answer', 'wrong answer'],
  unansweredPost: ['reset|idle close race', 'status 502|idle close race'],
  streamCut: ['closed with 1006', 'closed with 1006'],
  streamReset: ['broken|closed with 1006', 'broken|closed with 1006'],
  streamError: ['closed with 1011', 'closed with 1011'],
  streamSilent: ['silent', 'silent'],
  streamWrong: ['wrong message', 'wrong message'],
  streamRefused: ['status 503', 'status 503'],
};

/** The load's report of a server with that fault. */
async function loadOn(fault, { proxied = false, ...options } = {}) {
  const server = await startFaultyServer(fault);
  const proxy = proxied ? await startHaproxy({ servers: [server.port], backend: 'retries 0' }) : undefined;
  const load = await startLoad({
    port: proxy?.port ?? server.port,
    profile: tinyApp,
    keepalive: 3,
    fresh: 2,
    sockets: 2,
    rate: 1000,
    timeoutMs: 2000,
    gapMs: 2000,
    reconnectMs: 20,
    postShare: 0.3,
    ...options,
  });
  await eventually(server.happened, { what: `the fault ${fault}` });
  // A stream's fault shows once it comes back; a slow answer once it is late.
  await load.advance(50);
  if (fault === 'slow' || fault === 'neverClosed' || fault === 'streamSilent')
    await eventually(async () => (await load.snapshot()).failures > 0);
  await load.streams();
  const result = await load.stop();
  await proxy?.kill();
  await server.stop();
  return { result, server };
}

describe('each fault is found, once', { concurrency: 3 }, () => {
  for (const [fault, [direct, proxied]] of Object.entries(SEEN)) {
    for (const [way, pattern] of [
      ['directly', direct],
      ['through HAProxy', proxied],
    ]) {
      if (!pattern) continue;
      test(`${fault} ${way}`, async () => {
        const { result } = await loadOn(fault, { proxied: way !== 'directly' });
        const told = JSON.stringify(result.first_failures);
        assert.equal(result.failures, 1, told);
        assert.match(`${result.first_failures[0].reason} ${result.first_failures[0].detail}`, new RegExp(pattern));
        assert.ok(
          result.first_failures[0].phase && result.first_failures[0].time && result.first_failures[0].path,
          told,
        );
        assert.throws(() => assertClean(result));
      });
    }
  }
});

test('a stream asked to move is no failure', async () => {
  const { result } = await loadOn('streamMoved');
  assertClean(result);
  assert.equal(result.sockets.closes[1001], 1);
  assert.equal(result.sockets.opened, 3);
  assert.ok(result.sockets.moved_ms_max > 0);
});

test('a refused connection is found, and the load goes on', async () => {
  const load = await startLoad({
    port: await freePort(),
    profile: tinyApp,
    keepalive: 1,
    fresh: 1,
    sockets: 1,
    reconnectMs: 10,
    durationMs: 300,
  });
  await assert.rejects(load.sees('r1'), /the load has ended: time/);
  const result = await load.done;
  assert.equal(result.failed_requests, result.requests);
  assert.deepEqual(Object.keys(result.failures_by_reason).sort(), [
    'fresh: refused',
    'keepalive: refused',
    'socket: not opened',
  ]);
});

test('POSTs lost or doubled are found, and only those', async () => {
  const clean = await loadOn('streamMoved');
  const { lost, doubled, strange } = comparePosts(clean.result, clean.server.orders);
  assert.deepEqual([lost, doubled, strange], [[], [], []]);
  const twice = await loadOn('doubledPost');
  assertClean(twice.result); // the client alone cannot see it
  assert.equal(comparePosts(twice.result, twice.server.orders).doubled.length, 1);
  const gone = await loadOn('lostPost');
  assert.equal(comparePosts(gone.result, gone.server.orders).lost.length, 1);
  const unanswered = await loadOn('unansweredPost');
  const found = comparePosts(unanswered.result, unanswered.server.orders);
  assert.deepEqual([found.unacknowledged, found.lost, found.doubled], [1, [], []]);
});

test('the legal race at the end of an idle connection is a failure, unless tolerated', async () => {
  const only = { keepalive: 1, fresh: 0, sockets: 0, postShare: 0 };
  const strict = await loadOn('closedUnanswered', only);
  assert.deepEqual([strict.result.failures, strict.result.idle_close_races, strict.result.retried], [1, 1, 0]);
  const tolerant = await loadOn('closedUnanswered', { ...only, tolerateIdleCloseRace: true });
  assert.deepEqual([tolerant.result.failures, tolerant.result.idle_close_races, tolerant.result.retried], [0, 1, 1]);
});

test('alerts in PostgreSQL are compared with what was acknowledged', async () => {
  const postgres = await startPostgres();
  const client = await postgres.connect(await postgres.createDatabase('alerts'));
  await client.query(`CREATE TABLE alerts (user_name text, symbol text, above numeric(18,4)); CREATE TABLE idempotency_keys (key text PRIMARY KEY);
    INSERT INTO alerts SELECT 'load-abc', 'AAPL', n FROM generate_series(1, 5) n; INSERT INTO idempotency_keys SELECT 'abc-' || n FROM generate_series(0, 4) n`);
  const result = { posts: { run: 'abc', sent: 6, states: Uint8Array.from([2, 2, 2, 2, 2, 1]) } };
  assert.equal((await verifyAlerts(client, result)).acknowledged, 5);
  for (const [change, what] of [
    ['DELETE FROM alerts WHERE above = 3', /lost 1 \(2\)/],
    ["INSERT INTO alerts VALUES ('load-abc', 'AAPL', 4)", /doubled 1 \(3\)/],
    ["INSERT INTO alerts VALUES ('load-abc', 'AAPL', 40)", /never sent 1 \(39\)/],
    ["DELETE FROM idempotency_keys WHERE key = 'abc-0'", /idempotency_keys: lost 1 \(0\)/],
  ]) {
    await client.query('BEGIN');
    await client.query(change);
    await assert.rejects(verifyAlerts(client, result), what);
    await client.query('ROLLBACK');
  }
  await postgres.stop();
});

test('the tiny application moves its streams, finishes what it began, and exits 0', async () => {
  const app = copyTinyApp({ listen: '127.0.0.1:1' });
  const instance = await startTiny(app);
  const load = await startLoad({
    port: instance.port,
    profile: tinyApp,
    sockets: 5,
    keepalive: 2,
    fresh: 2,
    rate: 300,
  });
  await load.streams();
  process.kill(instance.pid, 'SIGUSR2');
  await eventually(async () => (await load.snapshot()).sockets.closes[1001] === 5);
  await load.streams();
  const result = await load.stop();
  assertClean(result);
  verifyLog(app.log, result);
  const slow = fetch(`http://127.0.0.1:${instance.port}/slow?ms=300`);
  const livez = await fetch(`http://127.0.0.1:${instance.port}/livez`); // by now the slow one is there too
  assert.equal(livez.status, 200);
  process.kill(instance.pid, 'SIGTERM');
  assert.equal((await (await slow).json()).slow, true);
  assert.deepEqual(await instance.exited, { code: 0, signal: null });
});

test('a switch done right by hand loses nothing, and the report shows when it was', async () => {
  const app = copyTinyApp({ listen: '127.0.0.1:1' });
  const [old, young] = await Promise.all([startTiny(app), startTiny(app, { HOLDFAST_RELEASE: 'r2' })]);
  const proxy = await startHaproxy({ servers: [old.port, { port: young.port, options: 'disabled' }] });
  const load = await startLoad({
    port: proxy.port,
    profile: tinyApp,
    keepalive: 6,
    fresh: 3,
    sockets: 6,
    rate: 1500,
  });
  await load.streams();
  await load.phase('switch');
  await proxy.command('set server app/s1 state ready');
  await proxy.command('set server app/s0 state drain');
  await load.sees('r2');
  process.kill(old.pid, 'SIGUSR2');
  await eventually(async () => (await proxy.inFlight('s0')) === 0);
  const drained = Date.now();
  process.kill(old.pid, 'SIGTERM');
  assert.equal((await old.exited).code, 0);
  await load.advance(500);
  await load.streams();
  const result = await load.stop();
  assertClean(result);
  verifyLog(app.log, result);
  assert.equal(sentAfter(result, 'r1', drained), undefined);
  assert.ok(requestsBetween(result, 'r2', drained, Infinity) >= 500);
  assert.deepEqual(result.sockets.releases, { r2: 6 });
  assert.equal(result.sockets.closes[1001], 6);
});

test('a reload moves the traffic too', async () => {
  const app = copyTinyApp({ listen: '127.0.0.1:1' });
  const [old, young] = await Promise.all([startTiny(app), startTiny(app, { HOLDFAST_RELEASE: 'r2' })]);
  const proxy = await startHaproxy({ servers: [old.port] });
  const load = await startLoad({ port: proxy.port, profile: tinyApp, rate: 500, tolerateIdleCloseRace: true });
  await load.sees('r1');
  await proxy.reload({ servers: [young.port] });
  await load.sees('r2'); // that a reload loses nothing is not promised
  const result = await load.stop();
  assert.ok(result.releases.r1.first < result.releases.r2.first);
});

test('orders are placed once across instances and restarts', async () => {
  const app = copyTinyApp({ listen: '127.0.0.1:1' });
  const place = async ({ port }, key, n) => {
    const answer = await fetch(`http://127.0.0.1:${port}/orders`, {
      method: 'POST',
      headers: { 'idempotency-key': key },
      body: JSON.stringify({ n }),
    });
    return { ...(await answer.json()), status: answer.status, repeated: answer.headers.get('idempotency-replayed') };
  };
  const instances = await Promise.all([startTiny(app), startTiny(app)]);
  const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => place(instances[i % 2], 'run-7', 7)));
  assert.equal(answers.filter(({ repeated }) => !repeated).length, 1);
  assert.equal(new Set(answers.map(({ id }) => id)).size, 1);
  const later = await startTiny(app);
  assert.deepEqual(await place(later, 'run-7', 7), { ...answers[0], repeated: 'true' });
  assert.equal((await place(later, 'run-8', 8)).repeated, null);
});

test('an application can be broken and mended', async () => {
  const app = copyTinyApp({ listen: '127.0.0.1:1' });
  const whole = app.read('main.js');
  app.breakIt('crashAtStart', { message: 'no licence' });
  await assert.rejects(startTiny(app), /exited with 3.*no licence/s);
  app.breakIt('neverReady');
  const unready = await startTiny(app);
  const status = async ({ port }, path, headers) =>
    (await fetch(`http://127.0.0.1:${port}${path}`, { headers })).status;
  assert.deepEqual([await status(unready, '/readyz'), await status(unready, '/items/a')], [503, 200]);
  app.breakIt('failSmoke');
  const failing = await startTiny(app);
  assert.deepEqual([await status(failing, '/readyz'), await status(failing, '/items/a')], [200, 500]);
  app.breakIt('crashAfterTraffic', { ms: 10 });
  const crashing = await startTiny(app);
  await status(crashing, '/items/a');
  await status(crashing, '/items/a', { 'user-agent': 'holdfast-load' });
  assert.equal((await crashing.exited).code, 4);
  app.breakIt('failSome', { share: 1 });
  const sick = await startTiny(app);
  assert.deepEqual(
    [await status(sick, '/items/a'), await status(sick, '/items/a', { 'user-agent': 'holdfast-load' })],
    [200, 500],
  );
  app.breakIt('neverListens');
  const port = await freePort();
  const deaf = { name: 'deaf', command: process.execPath, args: [join(app.folder, 'main.js')], env: { PORT: port } };
  await startComponent({ ...deaf, ready: /waiting for something/ });
  await assert.rejects(fetch(`http://127.0.0.1:${port}/`));
  app.breakIt('ignoreTerm');
  const stubborn = await startTiny(app);
  await assert.rejects(stubborn.stop('SIGTERM', 200), /did not stop within 200 ms/);
  app.breakIt('slow', { ms: 50 });
  assert.equal(await status(await startTiny(app), '/items/a'), 200);
  app.mend();
  assert.equal(app.read('main.js'), whole);
  app.setVersion('2.0.0');
  assert.equal((await (await fetch(`http://127.0.0.1:${(await startTiny(app)).port}/`)).json()).version, '2.0.0');
});

test('settings are changed where they are, and nowhere else', () => {
  const text = 'a: 1\nb:\n  # about c\n  c: 2   # two\n  d:\n    - x\n    - y\n\n  e: 3\nf: {g: 1}\n';
  assert.equal(setInYaml(text, ['b', 'c'], '5'), text.replace('c: 2   # two', 'c: 5'));
  assert.equal(setInYaml(text, ['b', 'd'], '[]'), text.replace('d:\n    - x\n    - y', 'd: []'));
  assert.equal(setInYaml(text, ['b', 'new'], '6'), text.replace('b:\n', 'b:\n  new: 6\n'));
  assert.equal(setInYaml(text, ['h', 'i'], '7'), `${text}h:\n  i: 7\n`);
  assert.throws(() => setInYaml(text, ['f', 'g'], '2'), /on one line/);
  const app = copyMarketPulse({ listen: { production: '127.0.0.1:4321' }, variables: { LOG_LEVEL: 'warn' } });
  app.setVersion('9.9.9');
  assert.match(app.read('holdfast.yml'), /production:\n    listen: "127.0.0.1:4321"\n(.*\n)*      LOG_LEVEL: "warn"/);
  assert.equal(JSON.parse(app.read('package.json')).version, '9.9.9');
  assert.throws(() => app.edit('package.json', 'no such text', ''), /0 times/);
});

test('the services around an application answer', async () => {
  const [redis, providers] = await Promise.all([startRedis(), startProviders()]);
  assert.equal((await run('redis-cli', ['-u', redis.url, 'ping'])).stdout, 'PONG\n');
  assert.equal((await providers.control('beta', { outage: true })).outage, true);
  await assert.rejects(providers.control('beta', { nonsense: true }), /refused/);
  const receiver = await startReceiver();
  receiver.answer(204);
  // The example of the Standard Webhooks reference implementations.
  const headers = {
    'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
    'webhook-timestamp': '1614265330',
    'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  };
  const next = receiver.next(({ path }) => path === '/hook');
  assert.equal(
    (await fetch(`${receiver.url}hook`, { method: 'POST', headers, body: '{"test": 2432232314}' })).status,
    204,
  );
  const request = await next;
  const [secret, now] = ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 1614265330_000];
  assert.equal(webhookProblem(request, secret, now), undefined);
  assert.match(webhookProblem({ ...request, body: `${request.body} ` }, secret, now), /no signature/);
  assert.match(webhookProblem(request, secret, now + 3600_000), /timestamp/);
  await Promise.all([redis.stop(), providers.stop(), receiver.stop()]);
});

test('a component that fails says why', async () => {
  const broken = { name: 'broken', command: 'sh', args: ['-c', 'echo out of luck; exit 7'], ready: /never/ };
  await assert.rejects(startComponent(broken), /broken exited with 7.*out of luck/s);
  const mute = { name: 'mute', command: 'sleep', args: ['100'], ready: /never/, readyMs: 50 };
  await assert.rejects(startComponent(mute), /mute was not ready within 50 ms/);
  await assert.rejects(
    startComponent({ name: 'nothing', command: '/no/such/thing', ready: /never/ }),
    /exited with 127.*no\/such\/thing/s,
  );
});

test('nothing outlives a test process, even one that is killed', async () => {
  const folder = temporaryFolder('victim');
  const script = join(folder, 'victim.mjs');
  writeFileSync(
    script,
    `import { startComponent } from ${JSON.stringify(new URL('processes.js', import.meta.url).href)};
    await startComponent({ name: 'child', command: 'sleep', args: ['1000'], cwd: ${JSON.stringify(folder)} });
    console.log('up');
    setInterval(() => {}, 1000);`,
  );
  for (const signal of ['SIGKILL', 'SIGTERM']) {
    const victim = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((resolve) => {
      victim.stdout.once('data', resolve);
    });
    await eventually(() => processesOf(folder).some(({ argv }) => argv[0] === 'sleep'));
    victim.kill(signal);
    await eventually(() => processesOf(folder).length === 0, {
      what: `the end of what was started, after ${signal}`,
    });
  }
});

test('a daemon is started, killed, started again, and what it leaves behind is found', async () => {
  const binary = join(temporaryFolder('fake'), 'fake');
  writeFileSync(
    binary,
    `#!${process.execPath}
    const { spawn } = require('child_process');
    const { mkdirSync, openSync } = require('fs');
    const [command, ...args] = process.argv.slice(2);
    if (command === 'events') console.log('{"step":1}\\n{"step":2}');
    if (command !== 'serve') process.exit(command === 'events' ? 0 : 2);
    const [data, listen] = [args[1], args[3]];
    mkdirSync(data, { recursive: true });
    if (process.env.LEAK) spawn('sleep', ['1000'], { cwd: '/', detached: true, stdio: ['ignore', openSync(data + '/out', 'w'), 'ignore'] });
    process.on('SIGTERM', () => process.exit(0));
    require('http').createServer((req, res) => res.end('ready')).listen(Number(listen.split(':')[1]), '127.0.0.1');`,
    { mode: 0o755 },
  );
  const good = await startHoldfast({ binary });
  const first = good.pid;
  await good.kill();
  assert.deepEqual(await good.exited, { code: null, signal: 'SIGKILL' });
  await good.start();
  assert.notEqual(good.pid, first);
  const heard = [];
  assert.deepEqual((await good.run(['events', '--json'], { onEvent: (event) => heard.push(event) })).events, [
    { step: 1 },
    { step: 2 },
  ]);
  assert.deepEqual(heard, [{ step: 1 }, { step: 2 }]);
  await assert.rejects(good.must(['wrong']), /ended with 2/);
  await good.restart();
  assert.ok(good.memory() > 0);
  await good.close();

  const leaky = await startHoldfast({ binary, env: { LEAK: '1' } });
  assert.equal(leaky.instances().length, 1);
  await assert.rejects(leaky.close({ ms: 200 }), /left over: \d+ sleep 1000/);
  assert.deepEqual(leaky.processes(), []);
});
