// Hooks around the phases, and webhooks to whoever wants to know.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { assertFailed, tinySite } from '../support/deployment.js';
import { startHoldfast } from '../support/holdfast.js';
import { eventually, temporaryFolder } from '../support/processes.js';
import { startReceiver, stopAll, webhookProblem } from '../support/services.js';

const PHASES = ['build', 'start', 'ready', 'smoke', 'canary', 'switch', 'drain', 'finish'];

let holdfast;
before(async () => {
  holdfast = await startHoldfast();
});
after(stopAll);

/** A file that hooks, which run as another user, can append to. */
function journal() {
  const file = join(temporaryFolder('hooks', 0o777), 'journal');
  writeFileSync(file, '');
  chmodSync(file, 0o666);
  return { file, lines: () => readFileSync(file, 'utf8').split('\n').filter(Boolean) };
}

test('hooks run around each phase, in order, in the working copy, with the environment of the release', async () => {
  const log = journal();
  const say = 'echo "$HOLDFAST_PHASE|$HOLDFAST_APP|$HOLDFAST_ENVIRONMENT|$HOLDFAST_RELEASE|$COLOR|$PASSWORD|$(cat version.txt)|$(id -u)"';
  const hooks = PHASES.flatMap((phase) => [
    { before: phase, run: `${say} | sed "s/^/before /" >> ${log.file}` },
    { after: phase, run: `${say} | sed "s/^/after /" >> ${log.file}` },
  ]);
  const site = await tinySite(holdfast, { variables: { COLOR: 'red' }, secrets: ['PASSWORD'], deploy: { hooks } });
  await holdfast.setSecrets('production', { PASSWORD: 'hush' }, { cwd: site.app.folder });
  await site.deployed();
  const lines = log.lines().map((line) => {
    const [, side, phase, app, environment, release, color, password, version, user] =
      /^(\w+) (\w+)\|(.*?)\|(.*?)\|(.*?)\|(.*?)\|(.*?)\|(.*?)\|(.*)$/.exec(line);
    return { side, phase, app, environment, release, color, password, version, user };
  });
  assert.deepEqual(
    lines.map(({ side, phase }) => `${side} ${phase}`),
    PHASES.flatMap((phase) => [`before ${phase}`, `after ${phase}`]),
  );
  for (const { app, environment } of lines) assert.deepEqual([app, environment], [site.name, 'production']);
  for (const line of lines.slice(2)) {
    assert.deepEqual([line.release, line.color, line.password, line.version], ['1', 'red', 'hush', '1.0.0']);
    if (process.getuid() === 0) assert.notEqual(line.user, '0', 'hooks do not run as root');
  }
});

test('what a hook prints is told', async () => {
  const site = await tinySite(holdfast, { deploy: { hooks: [{ before: 'start', run: 'echo to-out; echo to-err >&2' }] } });
  const { events } = await site.deployed();
  const output = events.filter(({ event, step }) => event === 'output' && step === 'start').map(({ message }) => message);
  assert.deepEqual(output.sort(), ['to-err', 'to-out']);
});

for (const phase of ['build', 'start', 'smoke', 'switch']) {
  test(`a failing hook before ${phase} stops the deploy`, async () => {
    const site = await tinySite(holdfast);
    await site.deployed();
    site.app.setVersion('2');
    site.app.set(['deploy', 'hooks'], [{ before: phase, run: 'echo the migration is missing; exit 3' }]);
    const load = await site.load();
    const result = await site.deploy();
    await load.advance(20);
    const seen = site.unharmed(await load.stop());
    assertFailed(result, phase, new RegExp(`the hook before ${phase}`), /the migration is missing/);
    assert.deepEqual(Object.keys(seen.releases), ['1']);
    await site.settled(1);
  });
}

test('a failing hook after the switch is a warning; the new release stays', async () => {
  const site = await tinySite(holdfast);
  await site.deployed();
  site.app.setVersion('2');
  site.app.set(['deploy', 'hooks'], [{ after: 'switch', run: 'echo no chat today; exit 1' }]);
  const result = await site.deployed();
  assert.ok(result.events.some(({ event, message }) => event === 'warning' && /no chat today/.test(message)));
  await site.settled(2);
});

test('a hook that takes too long is ended with all it started', async () => {
  const site = await tinySite(holdfast);
  await site.deployed();
  site.app.setVersion('2');
  site.app.set(['deploy', 'hooks'], [{ before: 'start', run: '(sleep 77.7 & sleep 77.7)', timeout: '300ms' }]);
  assertFailed(await site.deploy(), 'start', /the hook before start/, /300\s?ms|too long|time/);
  const sleepers = () => holdfast.processes().filter(({ argv }) => argv.join(' ') === 'sleep 77.7');
  await eventually(() => sleepers().length === 0, { ms: 3000 });
  await site.settled(1);
});

test('webhooks tell start, success and failure, signed as Standard Webhooks, and rollbacks too', async () => {
  const receiver = await startReceiver();
  const secret = `whsec_${randomBytes(24).toString('base64')}`;
  const site = await tinySite(holdfast, {
    secrets: ['HOOK_SECRET'],
    deploy: { webhooks: [{ url: receiver.url, secret: 'HOOK_SECRET' }] },
  });
  await holdfast.setSecrets('production', { HOOK_SECRET: secret }, { cwd: site.app.folder });
  const hears = async (type) => {
    const request = await receiver.next(({ json }) => json?.type === type);
    assert.equal(request.method, 'POST');
    assert.equal(webhookProblem(request, secret), undefined);
    const { data, timestamp } = request.json;
    assert.ok(Math.abs(Date.parse(timestamp) - Date.now()) < 60_000);
    assert.deepEqual([data.app, data.environment], [site.name, 'production']);
    return data;
  };
  const first = await site.deployed();
  await hears('deploy.started');
  const success = await hears('deploy.succeeded');
  assert.deepEqual(
    [success.release, success.previous, success.artifact, success.operation],
    [1, 0, first.artifact, first.operation.id],
  );
  site.app.breakIt('crashAtStart', { message: 'out of luck' });
  await site.deploy();
  await hears('deploy.started');
  const failure = await hears('deploy.failed');
  assert.equal(failure.step, 'ready');
  assert.match(failure.error, /out of luck/);
  site.app.mend();
  site.app.setVersion('3');
  await site.deployed();
  await hears('deploy.succeeded');
  await site.rolledBack();
  await hears('rollback.started');
  await hears('rollback.succeeded');
  const ids = receiver.requests.map(({ headers }) => headers['webhook-id']);
  assert.equal(new Set(ids).size, ids.length, 'each message has an id of its own');
});

test('a webhook that is not taken is sent again, as the same message, also by the next daemon', async () => {
  const receiver = await startReceiver();
  receiver.answer(503);
  const site = await tinySite(holdfast, { deploy: { webhooks: [{ url: receiver.url, events: ['success'] }] } });
  await site.deployed();
  const first = await receiver.next();
  assert.equal(first.json.type, 'deploy.succeeded');
  await holdfast.kill();
  await holdfast.start();
  receiver.answer(200);
  const again = await receiver.next(() => true, 60_000);
  assert.equal(again.headers['webhook-id'], first.headers['webhook-id']);
  assert.equal(again.body, first.body);
});
