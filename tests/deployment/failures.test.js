// Deploys that go wrong: the old colour serves throughout, and the message says which step, why, and what to do.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { assertFailed, tinySite } from '../support/deployment.js';
import { startHoldfast } from '../support/holdfast.js';
import { assertClean, comparePosts } from '../support/load.js';
import { eventually, stopAll } from '../support/processes.js';

const retried = { module: new URL('../support/retried-profile.js', import.meta.url).href, name: 'tinyAppRetried' };

let holdfast;
before(async () => {
  holdfast = await startHoldfast();
});
after(stopAll);

/** Deploys a broken version under load; the old one answers everything, and nothing of the new one stays. */
async function failsUnharmed(site, step, ...patterns) {
  const load = await site.load();
  const result = await site.deploy();
  await load.advance(50);
  const seen = site.unharmed(await load.stop());
  assertFailed(result, step, /Release 1 goes on serving production/, ...patterns);
  assert.deepEqual(Object.keys(seen.releases), ['1']);
  assert.equal((await site.status()).instances.length, 1);
  const release = await site.release(2);
  assert.equal(release.state, 'failed');
  for (const pattern of patterns) assert.match(release.note, pattern);
  await site.settled(1);
  // what was broken is no obstacle to what is not
  site.app.mend();
  site.app.setVersion('3');
  await site.deployed();
  await site.settled(3);
  return result;
}

test('a version that never becomes ready', async () => {
  const site = await tinySite(holdfast, { service: { ready_timeout: '1500ms' } });
  await site.deployed();
  site.app.breakIt('neverReady');
  await failsUnharmed(site, 'ready', /was not ready within 1\.?5/, /GET \/readyz .*503/, /listening/);
});

test('a version that never listens', async () => {
  const site = await tinySite(holdfast, { service: { ready_timeout: '1500ms' } });
  await site.deployed();
  site.app.breakIt('neverListens');
  await failsUnharmed(site, 'ready', /was not ready within/, /waiting for something that never comes/);
});

test('a version that crashes at its start is given up at once, with its exit status and last words', async () => {
  const site = await tinySite(holdfast, { service: { ready_timeout: '20s' } });
  await site.deployed();
  site.app.breakIt('crashAtStart', { message: 'no such table: customers', code: 7 });
  const result = await failsUnharmed(site, 'ready', /ended with .*7/, /no such table: customers/);
  assert.ok(result.operation.result.duration_ms < 10_000, 'it did not wait for the whole of ready_timeout');
});

test('a version that fails its smoke test', async () => {
  const site = await tinySite(holdfast);
  await site.deployed();
  site.app.breakIt('failSmoke', { status: 500 });
  await failsUnharmed(site, 'smoke', /smoke test "an item" \(GET \/items\/smoke\?size=1\)/, /the status is 500, not 200/);
});

test('a smoke test can ask for text and headers, which must be there', async () => {
  const site = await tinySite(holdfast);
  await site.deployed();
  site.app.setVersion('2');
  site.app.set(
    ['deploy', 'smoke'],
    [{ name: 'its name', path: '/', contains: 'huge', header_contains: { 'content-type': 'json' } }],
  );
  const body = await site.deploy();
  assertFailed(body, 'smoke', /the body has no "huge"; it begins: \{"app":"tiny"/);
  site.app.set(
    ['deploy', 'smoke'],
    [{ name: 'its name', path: '/', contains: 'tiny', header_contains: { 'content-type': 'text/html' } }],
  );
  assertFailed(await site.deploy(), 'smoke', /header content-type is "application\/json", which has no "text\/html"/);
  await site.settled(1);
});

test('a version that crashes under the traffic of its canary', async () => {
  const site = await tinySite(holdfast, { deploy: { canary: { weight: '20%', time: '5s' } } });
  await site.deployed();
  site.app.breakIt('crashAfterTraffic', { ms: 200 });
  const load = await site.load({ profile: retried, sockets: 0 });
  const result = await site.deploy();
  await load.advance(50);
  const seen = await load.stop();
  assertFailed(result, 'canary', /crashed under traffic/, /Release 1 goes on serving/);
  assertClean(seen);
  assert.ok(seen.releases['2'].requests > 0);
  assertEachOnce(site, seen);
  await site.settled(1);
});

test('a version that exits after the switch: the old colour takes over without a failed request', async () => {
  const site = await tinySite(holdfast, { deploy: { watch: '10s' } });
  await site.deployed();
  site.app.breakIt('crashAfterTraffic', { ms: 300 });
  const load = await site.load({ profile: retried, sockets: 0 });
  const result = await site.deploy();
  await load.advance(100);
  const seen = await load.stop();
  assertFailed(result, 'watch', /ended with/, /crashed under traffic/, /Release 1 goes on serving/);
  assertClean(seen); // GETs, and POSTs with an Idempotency-Key, are sent again
  assert.ok(seen.releases['2'].requests > 0, 'it had taken over');
  assertEachOnce(site, seen);
  assert.equal((await site.release(2)).state, 'failed');
  await site.settled(1);
});

/** Each acknowledged POST is there; one that was sent again on the way may have two lines of one order. */
function assertEachOnce(site, result) {
  const times = new Map();
  for (const line of readFileSync(site.app.log, 'utf8').split('\n')) {
    const [run, n] = line.split('\t')[0].split('-');
    if (run === result.posts.run) times.set(Number(n), 1);
  }
  const { lost, strange, acknowledged } = comparePosts(result, times);
  assert.deepEqual([lost, strange], [[], []]);
  assert.ok(acknowledged > 0);
}

test('the first deploy of all, when it fails, leaves nothing', async () => {
  const site = await tinySite(holdfast);
  site.app.breakIt('crashAtStart');
  const result = await site.deploy();
  assert.equal(result.status, 1);
  assert.match(result.reason, /broken on purpose/);
  assert.doesNotMatch(result.reason, /goes on serving/);
  const status = await site.status();
  assert.equal(status?.current ?? null, null);
  assert.deepEqual(status?.instances ?? [], []);
  await eventually(() => site.processes().length === 0, { what: 'the end of its processes' });
  const refused = () =>
    site.get('/').then(
      () => false,
      (error) => error.code === 'ECONNREFUSED',
    );
  await eventually(refused, { what: 'the end of the listener' });
  site.app.mend();
  await site.deployed();
  assert.equal(await site.serving(), 2);
});

test('a listen address that another program has', async () => {
  const site = await tinySite(holdfast);
  const neighbour = await tinySite(holdfast);
  await neighbour.deployed();
  const load = await neighbour.load();
  const other = net.createServer();
  await new Promise((resolve) => {
    other.listen(site.port, '127.0.0.1', resolve);
  });
  let result;
  try {
    result = await site.deploy();
    neighbour.app.setVersion('2');
    await neighbour.deployed(); // it is nobody else's problem
  } finally {
    await new Promise((resolve) => {
      other.close(resolve);
    });
  }
  neighbour.unharmed(await load.stop());
  assert.equal(result.status, 1);
  assert.match(result.reason, new RegExp(`127\\.0\\.0\\.1:${site.port}: in use by pid \\d+ \\(node\\)`));
  await site.deployed();
  assert.ok(result.operation.result.duration_ms < 5000, `it took ${result.operation.result.duration_ms} ms to say so`);
});

test('a listen address that another application of this Holdfast has', async () => {
  const [site, thief] = [await tinySite(holdfast), await tinySite(holdfast)];
  await site.deployed();
  thief.app.set(['environments', 'production', 'listen'], `127.0.0.1:${site.port}`);
  const load = await site.load();
  const result = await thief.deploy();
  await load.advance(50);
  site.unharmed(await load.stop());
  assert.equal(result.status, 1);
  assert.match(result.reason, new RegExp(`${site.port}`));
  assert.match(result.reason, new RegExp(`${site.name}`), 'who has it');
  assert.ok(result.operation.result.duration_ms < 5000, `it took ${result.operation.result.duration_ms} ms to say so`);
  await site.settled(1);
});

test('a secret without a value', async () => {
  const site = await tinySite(holdfast, { secrets: ['API_KEY', 'OTHER'] });
  await holdfast.setSecrets('production', { OTHER: 'there' }, { cwd: site.app.folder });
  const result = await site.deploy();
  assertFailed(result, 'validate', /no value: API_KEY\./, /holdfast secret set production NAME < file/);
  assert.deepEqual(await site.releases(), []);
});

test('an artifact that was changed on disk is refused', async () => {
  const site = await tinySite(holdfast, { deploy: { keep_warm: '0s' } });
  const first = await site.deployed();
  site.app.setVersion('2');
  await site.deployed();
  const folder = join(holdfast.data, 'artifacts');
  const [file] = readdirSync(folder).filter(
    (name) => name.includes(first.artifact.slice(7)) && name.endsWith('.tar.zst'),
  );
  const bytes = readFileSync(join(folder, file));
  bytes[Math.floor(bytes.length / 2)] ^= 1;
  writeFileSync(join(folder, file), bytes);
  const load = await site.load();
  const rollback = await site.rollback();
  assert.equal(rollback.status, 1);
  assert.match(rollback.reason, /artifact of release 1 cannot be used/);
  const deploy = await site.deploy(['--artifact', first.artifact]);
  assert.equal(deploy.status, 1);
  site.unharmed(await load.stop());
  await site.settled(2);
});

test('an artifact whose signature is not of this installation is refused', async () => {
  const site = await tinySite(holdfast);
  const first = await site.deployed();
  const folder = join(holdfast.data, 'artifacts');
  const [file] = readdirSync(folder).filter((name) => name.includes(first.artifact.slice(7)) && /(?<!provenance)\.sig$/.test(name));
  const lines = readFileSync(join(folder, file), 'utf8').split('\n');
  const signature = Buffer.from(lines[1], 'base64');
  signature[20] ^= 1;
  lines[1] = signature.toString('base64');
  writeFileSync(join(folder, file), lines.join('\n'));
  const result = await site.deploy(['--artifact', first.artifact]);
  assert.equal(result.status, 1);
  assert.match(result.reason, /signature/i);
  await site.settled(1);
});
