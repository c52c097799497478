// What is killed: the daemon at every step, an instance, its supervisor, HAProxy. Users notice none of it, except those
// whose connection was in a proxy that was killed.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { tinySite } from '../support/deployment.js';
import { startHoldfast } from '../support/holdfast.js';
import { assertClean } from '../support/load.js';
import { eventually, stopAll } from '../support/processes.js';

const retried = { module: new URL('../support/retried-profile.js', import.meta.url).href, name: 'tinyAppRetried' };
const DEPLOY = ['lock', 'build', 'validate', 'start', 'ready', 'smoke', 'canary', 'switch', 'watch', 'drain', 'finish'];
const ROLLBACK = ['lock', 'validate', 'start', 'ready', 'switch', 'drain', 'finish'];
const HOOKED = ['build', 'start', 'ready', 'smoke', 'canary', 'switch', 'drain', 'finish'];

let holdfast;
before(async () => {
  holdfast = await startHoldfast();
});
after(stopAll);

/**
 * Begins an operation, kills the daemon when `test` accepts an event, starts it again, and follows the operation to its
 * end by the command line that was there all the time.
 */
async function killedAt(site, command, args, test, what) {
  const operation = site.start(command, args);
  await operation.event(test, what);
  await holdfast.kill();
  await holdfast.start();
  return operation.end;
}

/** The outcome that was told is the one that holds. */
async function assertTrueOutcome(site, result, { from, to }) {
  assert.ok(result.operation, `the command line ended without an outcome: ${result.stderr}${result.text}`);
  const { state } = result.operation;
  assert.equal(result.status, { succeeded: 0, failed: 1 }[state], `${state} and status ${result.status}`);
  await site.settled(state === 'succeeded' ? to : from);
  return state;
}

const started = (step) => (event) => event.event === 'started' && event.step === step;

test('kill -9 of the daemon when a step of a deploy begins', { timeout: 180_000 }, async (t) => {
  const site = await tinySite(holdfast, {
    service: { instances: 2 },
    deploy: { watch: '200ms', canary: { weight: '20%', time: '200ms' } },
  });
  await site.deployed();
  let current = 1;
  let last = 1;
  const load = await site.load({ rate: 200 });
  for (const step of DEPLOY) {
    await t.test(step, async () => {
      load.phase(step);
      site.app.setVersion(`at ${step}`);
      const result = await killedAt(site, 'deploy', [], started(step), `of the beginning of ${step}`);
      const to = result.release || last + 1;
      const state = await assertTrueOutcome(site, result, { from: current, to });
      if (result.release) last = result.release;
      assert.equal(state, 'succeeded', `it was not resumed: ${result.reason}`);
      current = to;
      assert.equal((await site.get('/')).json.version, `at ${step}`);
    });
  }
  await load.advance(50);
  site.unharmed(await load.stop());
  assert.equal((await site.releases()).length, DEPLOY.length + 1, 'one release for each deploy');
});

for (const side of ['before', 'after']) {
  test(`kill -9 of the daemon in a hook ${side} a phase of a deploy`, { timeout: 180_000 }, async (t) => {
    const hooks = HOOKED.map((phase) => ({ [side]: phase, run: `echo in-${phase}; sleep 0.15` }));
    const site = await tinySite(holdfast, { deploy: { watch: '100ms', hooks } });
    await site.deployed();
    let current = 1;
    const load = await site.load({ rate: 200 });
    for (const phase of HOOKED) {
      await t.test(phase, async () => {
        load.phase(phase);
        site.app.setVersion(`${side} ${phase}`);
        const seen = (event) => event.event === 'output' && event.message === `in-${phase}`;
        const result = await killedAt(site, 'deploy', [], seen, `of the hook ${side} ${phase}`);
        const state = await assertTrueOutcome(site, result, { from: current, to: result.release });
        assert.equal(state, 'succeeded', `it was not resumed: ${result.reason}`);
        current = result.release;
        assert.equal((await site.get('/')).json.version, `${side} ${phase}`);
      });
    }
    await load.advance(50);
    site.unharmed(await load.stop());
  });
}

test('kill -9 of the daemon when a step of a rollback begins', { timeout: 180_000 }, async (t) => {
  const site = await tinySite(holdfast);
  await site.deployed();
  site.app.setVersion('2');
  await site.deployed();
  let current = 2;
  const load = await site.load({ rate: 200 });
  for (const step of ROLLBACK) {
    await t.test(step, async () => {
      load.phase(step);
      const to = current === 2 ? 1 : 2;
      const result = await killedAt(site, 'rollback', ['--to', `${to}`], started(step), `of the beginning of ${step}`);
      const state = await assertTrueOutcome(site, result, { from: current, to });
      assert.equal(state, 'succeeded', `it was not resumed: ${result.reason}`);
      current = to;
    });
  }
  await load.advance(50);
  site.unharmed(await load.stop());
});

test('kill -9 of the daemon while a failed deploy is being reverted', async () => {
  const site = await tinySite(holdfast, { service: { ready_timeout: '500ms', stop_timeout: '1500ms' } });
  await site.deployed();
  site.app.edit(
    'main.js',
    "process.on('SIGTERM', stop);",
    "process.on('SIGTERM', () => console.log('not yet'));",
  );
  site.app.edit('main.js', "if (folder === 'readyz') return send(res, stopping ? 503 : 200", "if (folder === 'readyz') return send(res, 503");
  const load = await site.load();
  const operation = site.start('deploy');
  await operation.event(started('ready'));
  const stopping = async () => (await site.status()).instances.some(({ desired }) => desired === 'stopped');
  await eventually(stopping, { what: 'the revert' });
  await holdfast.kill();
  await holdfast.start();
  const result = await operation.end;
  await load.advance(50);
  site.unharmed(await load.stop());
  assert.equal(result.status, 1);
  assert.equal(result.operation.state, 'failed');
  assert.equal(result.failedStep, 'ready');
  assert.match(result.reason, /was not ready within 500\s?ms/);
  assert.equal((await site.release(2)).state, 'failed');
  await site.settled(1);
});

test('a daemon that is stopped in the middle of a deploy leaves it to the next one', async () => {
  const site = await tinySite(holdfast, { deploy: { hooks: [{ before: 'switch', run: 'echo in-hook; sleep 0.3' }] } });
  await site.deployed();
  site.app.setVersion('2');
  const load = await site.load();
  const operation = site.start('deploy');
  await operation.event(({ event, message }) => event === 'output' && message === 'in-hook');
  await holdfast.restart();
  const result = await operation.end;
  await load.advance(50);
  site.unharmed(await load.stop());
  assert.equal(result.operation.state, 'succeeded', result.reason);
  await site.settled(2);
});

test('while no daemon runs, and when it comes back, what it started serves on', async () => {
  const site = await tinySite(holdfast, { service: { instances: 2 } });
  await site.deployed();
  const before_ = (await site.status()).instances.map(({ id, pid, started: since }) => ({ id, pid, since }));
  const load = await site.load();
  for (let i = 0; i < 3; i += 1) {
    await holdfast.kill();
    await load.advance(100);
    await holdfast.start();
    await load.advance(100);
  }
  site.unharmed(await load.stop());
  const after_ = (await site.status()).instances.map(({ id, pid, started: since }) => ({ id, pid, since }));
  assert.deepEqual(after_, before_);
});

test('kill -9 of one instance of two: GETs and POSTs with an Idempotency-Key do not fail, and it comes back', async () => {
  const site = await tinySite(holdfast, { service: { instances: 2 } });
  await site.deployed();
  const load = await site.load({ profile: retried, sockets: 0 });
  for (let i = 0; i < 4; i += 1) {
    const [victim] = (await site.status()).instances.filter(({ id }) => id.endsWith(`.${i % 2}`));
    process.kill(victim.pid, 'SIGKILL');
    await eventually(
      async () => {
        const { instances } = await site.status();
        const now = instances.find(({ id }) => id === victim.id);
        return now.pid !== victim.pid && now.state === 'running' && instances.every(({ up }) => up);
      },
      { what: `the return of ${victim.id}` },
    );
    await load.advance(50);
  }
  const result = await load.stop();
  assertClean(result);
  const keys = new Set(
    readFileSync(site.app.log, 'utf8')
      .split('\n')
      .map((line) => line.split('\t')[0]),
  );
  for (let n = 0; n < result.posts.sent; n += 1) {
    if (result.posts.states[n] === 2) assert.ok(keys.has(`${result.posts.run}-${n}`), `POST ${n} is lost`);
  }
  await site.settled(1);
});

test('kill -9 of an instance that is the only one: it is started again', async () => {
  const site = await tinySite(holdfast);
  await site.deployed();
  const [{ pid }] = (await site.status()).instances;
  process.kill(pid, 'SIGKILL');
  await eventually(async () => (await site.get('/')).status === 200 && (await site.status()).instances[0].pid !== pid);
  const [{ restarts, state }] = (await site.status()).instances;
  assert.deepEqual([restarts, state], [1, 'running']);
});

test('kill -9 of a shim: its instance does not stay unsupervised, and another takes its place', async () => {
  const site = await tinySite(holdfast, { service: { instances: 2 } });
  await site.deployed();
  const load = await site.load({ profile: retried, sockets: 0 });
  const [victim, other] = (await site.status()).instances;
  process.kill(victim.shim_pid, 'SIGKILL');
  await eventually(
    async () => {
      const { instances } = await site.status();
      const now = instances.find(({ id }) => id === victim.id);
      return now.shim_pid !== victim.shim_pid && now.state === 'running' && now.up;
    },
    { ms: 20_000, what: `the return of ${victim.id}` },
  );
  await load.advance(50);
  assertClean(await load.stop());
  const now = (await site.status()).instances;
  assert.equal(now.find(({ id }) => id === other.id).pid, other.pid, 'the other is as it was');
  await site.settled(1);
});

test('kill -9 of HAProxy, its worker or its master: it is back within seconds, and routes as before', async (t) => {
  const site = await tinySite(holdfast, { service: { instances: 2 } });
  await site.deployed();
  site.app.setVersion('2');
  await site.deployed();
  const parent = (pid) => Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);
  const family = () => {
    const pids = holdfast.proxies().map(({ pid }) => pid);
    const master = pids.find((pid) => !pids.includes(parent(pid)));
    return { master, workers: pids.filter((pid) => pid !== master) };
  };
  for (const victim of ['worker', 'master']) {
    await t.test(victim, async () => {
      const { master, workers } = family();
      process.kill(victim === 'master' ? master : workers[0], 'SIGKILL');
      await eventually(async () => (await site.get('/')).headers['x-release'] === '2', {
        ms: 10_000,
        what: `service after the death of the ${victim}`,
      });
      await eventually(async () => (await site.status()).instances.every(({ up, in_force: so }) => up && so), {
        ms: 20_000,
        what: 'all instances being up and steered',
      });
      for (let i = 0; i < 20; i += 1) assert.equal(await site.serving(), 2);
      const now = await site.status();
      const traffic = now.instances.map(({ release, traffic: kind }) => `${release} ${kind}`).sort();
      assert.deepEqual(traffic.slice(-2), ['2 active', '2 active']);
      assert.equal(family().workers.length, 1, 'no second worker stays');
      // and it can still be steered
      const load = await site.load();
      await site.rolledBack(['--to', '1']);
      await site.rolledBack(['--to', '2']);
      await load.advance(50);
      site.unharmed(await load.stop());
    });
  }
});

test('HAProxy restarted by a reload under load: nothing is lost, not on connections that were open', async () => {
  const site = await tinySite(holdfast, { service: { instances: 2 } });
  await site.deployed();
  site.app.setVersion('2');
  await site.deployed();
  const parent = (pid) => Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);
  const load = await site.load();
  for (let i = 0; i < 3; i += 1) {
    const pids = holdfast.proxies().map(({ pid }) => pid);
    const master = pids.find((pid) => !pids.includes(parent(pid)));
    process.kill(master, 'SIGUSR2');
    await eventually(() => holdfast.proxies().some(({ pid }) => !pids.includes(pid)), { what: 'the new worker' });
    await load.advance(200);
  }
  await load.sees('2');
  const result = site.unharmed(await load.stop());
  assert.deepEqual(Object.keys(result.releases), ['2']);
  await eventually(async () => (await site.status()).instances.every(({ up }) => up));
  await site.settled(2);
});
