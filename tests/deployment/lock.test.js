// One change of an environment at a time, and how it is called off.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { tinySite } from '../support/deployment.js';
import { startHoldfast } from '../support/holdfast.js';
import { eventually, stopAll } from '../support/processes.js';

const INSIDE = ({ event, message }) => event === 'output' && message === 'inside';

let holdfast;
before(async () => {
  holdfast = await startHoldfast();
});
after(stopAll);

/** A deployed application whose further deploys say "inside" in a hook before `phase`, and stay there for `seconds`. */
async function slowSite(phase, seconds) {
  const site = await tinySite(holdfast);
  await site.deployed();
  site.app.set(['deploy', 'hooks'], [{ before: phase, run: `echo inside; sleep ${seconds}` }]);
  site.app.setVersion('2');
  return site;
}

test('of two deploys at once the second is refused, and told who holds the environment', async () => {
  const site = await slowSite('start', 1);
  const load = await site.load();
  const first = site.start('deploy');
  await first.event(INSIDE);
  const { lease } = await site.status();
  assert.match(lease.holder, /^local:/);
  for (const command of ['deploy', 'rollback']) {
    const second = await site.start(command).end;
    assert.equal(second.status, 1);
    assert.equal(second.failedStep, 'lock');
    assert.ok(second.reason.includes(lease.holder), second.reason);
    assert.ok(second.reason.includes(lease.operation), second.reason);
    assert.match(second.reason, /--wait/);
  }
  const result = await first.end;
  assert.equal(result.operation.state, 'succeeded', 'the refused ones did not disturb it');
  await load.advance(50);
  site.unharmed(await load.stop());
  assert.equal((await site.releases()).length, 2);
  await site.settled(2);
});

test('with --wait the second waits for its turn, and the third for the second', async () => {
  const site = await slowSite('start', 0.5);
  const load = await site.load();
  const first = site.start('deploy');
  await first.event(INSIDE);
  const second = site.start('deploy', ['--wait', '30s']);
  await second.event(({ event, message }) => event === 'progress' && message.startsWith('waiting: '));
  const third = site.start('deploy', ['--wait', '30s']);
  const results = await Promise.all([first.end, second.end, third.end]);
  assert.deepEqual(
    results.map(({ release, operation }) => `${operation.state} ${release}`),
    ['succeeded 2', 'succeeded 3', 'succeeded 4'],
  );
  await load.advance(50);
  site.unharmed(await load.stop());
  await site.settled(4);
});

test('a wait that is too short ends as a refusal', async () => {
  const site = await slowSite('start', 2);
  const first = site.start('deploy');
  await first.event(INSIDE);
  const second = await site.deploy(['--wait', '300ms']);
  assert.equal(second.status, 1);
  assert.match(second.reason, /local:/);
  assert.equal((await first.end).status, 0);
});

test('deploys of different applications do not wait for each other', async () => {
  const [site, other] = [await slowSite('start', 1), await tinySite(holdfast)];
  const first = site.start('deploy');
  await first.event(INSIDE);
  await other.deployed();
  assert.equal((await site.status()).lease !== null, true, 'the first is still at work');
  assert.equal((await first.end).status, 0);
});

for (const phase of ['build', 'start', 'smoke', 'switch']) {
  test(`an interrupt before the switch (in a hook before ${phase}) leaves the old release serving`, async () => {
    const site = await slowSite(phase, 30);
    const load = await site.load();
    const operation = site.start('deploy');
    await operation.event(INSIDE);
    const began = Date.now();
    operation.interrupt();
    const result = await operation.end;
    assert.equal(result.status, 2, result.text);
    assert.equal(result.operation.state, 'cancelled');
    assert.ok(Date.now() - began < 10_000, 'it did not wait for the hook');
    await load.advance(50);
    const seen = site.unharmed(await load.stop());
    assert.deepEqual(Object.keys(seen.releases), ['1']);
    await site.settled(1);
    site.app.set(['deploy', 'hooks'], []);
    await site.deployed();
  });
}

test('`holdfast cancel` calls off an operation, which frees the environment', async () => {
  const site = await slowSite('ready', 30);
  const operation = site.start('deploy');
  await operation.event(INSIDE);
  const { lease } = await site.status();
  await holdfast.must(['cancel', lease.operation]);
  const result = await operation.end;
  assert.deepEqual([result.status, result.operation.state], [2, 'cancelled']);
  await site.settled(1);
  const again = await site.run(['cancel', lease.operation]);
  assert.equal(again.status, 1);
  assert.match(again.stderr, /is not running/);
  const unknown = await site.run(['cancel', 'op-none']);
  assert.equal(unknown.status, 1);
  assert.match(unknown.stderr, /op-none/);
});

test('after the switch it is too late to cancel', async () => {
  const site = await slowSite('drain', 1);
  const operation = site.start('deploy');
  await operation.event(INSIDE);
  operation.interrupt();
  const result = await operation.end;
  assert.equal(result.operation.state, 'succeeded');
  assert.equal(result.status, 0);
  await site.settled(2);
});

test('cancelling a build kills all that its step started, also what left its process group', async () => {
  const site = await tinySite(holdfast);
  const mark = `9${Math.floor(Math.random() * 1e6)}.5`;
  const run = `(sleep ${mark} & sleep ${mark} & setsid sleep ${mark} & nohup sh -c "sleep ${mark}; true" >/dev/null 2>&1 & echo inside; wait)`;
  site.app.set(['build', 'steps'], [{ name: 'endless', run }]);
  const sleepers = () => holdfast.processes().filter(({ argv }) => argv[0] === 'sleep' && argv[1] === mark);
  for (const command of ['build', 'deploy']) {
    const operation = site.start(command);
    await operation.event(INSIDE);
    await eventually(() => sleepers().length === 4, { what: 'the four sleeping processes' });
    operation.interrupt();
    const result = await operation.end;
    assert.deepEqual([result.status, result.operation.state], [2, 'cancelled'], result.text);
    await eventually(() => sleepers().length === 0, { ms: 5000, what: 'the end of the step’s processes' });
  }
});

test('a second interrupt leaves the operation to the daemon', async () => {
  const site = await slowSite('drain', 1);
  const operation = site.start('deploy');
  await operation.event(INSIDE);
  operation.interrupt();
  await eventually(
    () => {
      operation.interrupt();
      return operation.child.exitCode !== null;
    },
    { everyMs: 100 },
  );
  assert.notEqual(operation.child.exitCode, 0);
  await site.settled(2);
  await operation.end.catch(() => {});
});
