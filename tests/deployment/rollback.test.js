// The way back: what served before serves again, with its artifact, configuration and secrets.

import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { tinySite } from '../support/deployment.js';
import { startHoldfast } from '../support/holdfast.js';
import { eventually, stopAll, temporaryFolder } from '../support/processes.js';

let holdfast;
before(async () => {
  holdfast = await startHoldfast();
});
after(stopAll);

test('a warm rollback under load starts nothing, loses nothing and takes less than a second', async () => {
  const site = await tinySite(holdfast, { service: { instances: 2 } });
  await site.deployed();
  const pids = (await site.status()).instances.map(({ pid }) => pid).sort();
  site.app.setVersion('2');
  await site.deployed();
  const load = await site.load();
  await load.streams();
  const began = performance.now();
  const back = await site.rolledBack();
  const took = performance.now() - began;
  await load.sees('1');
  await load.streams();
  const result = site.unharmed(await load.stop());
  assert.deepEqual([back.release, back.operation.result.previous], [1, 2]);
  assert.ok(!back.steps.includes('build') && !back.steps.includes('smoke'), back.steps.join());
  assert.ok(took < 5000, `${took} ms`);
  assert.ok(back.operation.result.switched_ms <= 1000, `switched after ${back.operation.result.switched_ms} ms`);
  assert.equal(result.sockets.closes[1001], 3, JSON.stringify(result.sockets.closes));
  const { instances } = await site.settled(1);
  const now = instances.filter(({ release }) => release === 1).map(({ pid }) => pid);
  assert.deepEqual(now.sort(), pids, 'the instances that were kept warm serve again');
  assert.equal((await site.release(2)).state, 'warm');
  assert.match((await site.release(2)).note, /rolled back to release 1 by /);
});

test('a rollback of what is no longer warm brings back artifact, configuration and secrets', async () => {
  const site = await tinySite(holdfast, {
    deploy: { keep_warm: '200ms' },
    variables: { COLOR: 'red' },
    secrets: ['PASSWORD'],
  });
  const given = async () => {
    const { instances, current } = await site.status();
    const { pid } = instances.find(({ release }) => release === current.release);
    const environment = Object.fromEntries(
      readFileSync(`/proc/${pid}/environ`, 'utf8')
        .split('\0')
        .map((entry) => [entry.split('=')[0], entry.slice(entry.indexOf('=') + 1)]),
    );
    return {
      version: (await site.get('/')).json.version,
      color: environment.COLOR,
      password: environment.PASSWORD,
    };
  };
  await holdfast.setSecrets('production', { PASSWORD: 'first value' }, { cwd: site.app.folder });
  await site.deployed();
  const first = await given();
  assert.deepEqual(first, { version: '1.0.0', color: 'red', password: 'first value' });

  site.app.setVersion('2');
  site.app.set(['environments', 'production', 'variables', 'COLOR'], 'blue');
  await holdfast.setSecrets('production', { PASSWORD: 'second value' }, { cwd: site.app.folder });
  assert.deepEqual(await given(), first, 'a running release keeps its secrets');
  await site.deployed();
  const second = { version: '2', color: 'blue', password: 'second value' };
  assert.deepEqual(await given(), second);
  await eventually(async () => (await site.release(1)).state === 'retired', { what: 'the end of the warm release' });
  assert.equal((await site.status()).instances.length, 1);

  const load = await site.load();
  const back = await site.rolledBack();
  await load.sees('1');
  site.unharmed(await load.stop());
  assert.ok(back.operation.result.ready_ms > 0, 'it was started anew');
  assert.deepEqual(await given(), first);
  await eventually(async () => (await site.release(2)).state === 'retired', { what: 'the end of the warm release' });

  // and forward again, to what the newer release had
  await site.rolledBack(['--to', '2']);
  assert.deepEqual(await given(), second);
  await eventually(async () => (await site.release(1)).state === 'retired');
  await site.settled(2);
});

test('--to chooses the release; r2 and 2 are the same', async () => {
  const site = await tinySite(holdfast);
  for (const version of ['1', '2', '3']) {
    site.app.setVersion(version);
    await site.deployed();
  }
  assert.equal((await site.rolledBack(['--to', '1'])).release, 1);
  assert.equal((await site.get('/')).json.version, '1');
  assert.equal((await site.rolledBack(['--to', 'r2'])).release, 2);
  assert.equal((await site.get('/')).json.version, '2');
  await site.settled(2);
  const same = await site.rollback(['--to', '2']);
  assert.equal(same.status, 1);
  assert.match(same.reason, /release 2 serves production already/);
  const unknown = await site.rollback(['--to', '77']);
  assert.equal(unknown.status, 1);
  assert.match(unknown.reason, /77/);
  const word = await site.run(['rollback', 'production', '--to', 'yesterday']);
  assert.equal(word.status, 2);
  assert.match(word.stderr, /--to takes the number of a release/);
  await site.settled(2);
});

test('a rollback without --to goes to what served before, once and again', async () => {
  const site = await tinySite(holdfast);
  for (const version of ['1', '2', '3']) {
    site.app.setVersion(version);
    await site.deployed();
  }
  const load = await site.load();
  assert.equal((await site.rolledBack()).release, 2);
  assert.equal((await site.rolledBack()).release, 1);
  const none = await site.rollback();
  assert.equal(none.status, 1);
  assert.match(none.reason, /no earlier release of production served/);
  assert.equal((await site.rolledBack(['--to', '3'])).release, 3);
  await load.advance(100);
  site.unharmed(await load.stop());
  await site.settled(3);
});

test('where nothing served, or nothing before it, there is nothing to roll back to', async () => {
  const site = await tinySite(holdfast);
  const none = await site.rollback();
  assert.equal(none.status, 1);
  assert.match(none.reason, /no release serves production yet/);
  await site.deployed();
  const first = await site.rollback();
  assert.equal(first.status, 1);
  assert.match(first.reason, /no earlier release/);
  await site.settled(1);
});

test('a release that failed is never rolled back to', async () => {
  const site = await tinySite(holdfast);
  await site.deployed();
  site.app.breakIt('crashAtStart');
  assert.equal((await site.deploy()).status, 1);
  site.app.mend();
  site.app.setVersion('3');
  await site.deployed();
  const asked = await site.rollback(['--to', '2']);
  assert.equal(asked.status, 1);
  assert.match(asked.reason, /release 2 never served production/);
  assert.equal((await site.rolledBack()).release, 1);
  await site.settled(1);
});

test('a rollback to what no longer starts leaves the newer one serving', async () => {
  const needed = join(temporaryFolder('needed', 0o755), 'file');
  writeFileSync(needed, '');
  const site = await tinySite(holdfast, { deploy: { keep_warm: '0s' }, variables: { NEEDED: needed } });
  site.app.edit(
    'main.js',
    'const sockets = new Set();',
    `const sockets = new Set();
if (process.env.NEEDED) {
  try {
    readFileSync(process.env.NEEDED);
  } catch {
    console.log('what it needs is gone');
    process.exit(9);
  }
}`,
  );
  await site.deployed();
  site.app.set(['environments', 'production', 'variables', 'NEEDED'], '');
  site.app.setVersion('2');
  await site.deployed();
  rmSync(needed);
  const load = await site.load();
  const failed = await site.rollback();
  await load.advance(50);
  site.unharmed(await load.stop());
  assert.equal(failed.status, 1);
  assert.match(failed.reason, /what it needs is gone/);
  assert.equal((await site.release(1)).state, 'retired', 'it may be tried again');
  await site.settled(2);
});
