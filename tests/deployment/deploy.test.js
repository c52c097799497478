// Deploys that go well: what users of the application notice of them is nothing.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { copyMarketPulse } from '../support/app.js';
import { Site, tinySite } from '../support/deployment.js';
import { startHoldfast } from '../support/holdfast.js';
import { assertClean, marketPulse, requestsBetween, startLoad, verifyAlerts } from '../support/load.js';
import { freePort, startPostgres, startProviders, startRedis, stopAll } from '../support/services.js';

const ALL_STEPS = ['lock', 'build', 'validate', 'start', 'ready', 'smoke', 'canary', 'switch', 'watch', 'drain', 'finish'];
const BUCKET_MS = 50; // of the load's timeline

let holdfast;
before(async () => {
  holdfast = await startHoldfast();
});
after(stopAll);

/** Nothing reached `release` between the two times. */
function assertLeft(result, release, from, to) {
  const stray = requestsBetween(result, String(release), from + BUCKET_MS, to - BUCKET_MS);
  assert.equal(stray, 0, `${stray} requests reached release ${release} after it was drained`);
}

test('Market Pulse: build, deploy, update and rollback under load lose nothing', { timeout: 300_000 }, async () => {
  const [postgres, redis, providers, port] = await Promise.all([
    startPostgres(),
    startRedis(),
    startProviders(),
    freePort(),
  ]);
  const database = await postgres.createDatabase('pulse');
  const app = copyMarketPulse({
    listen: { production: `127.0.0.1:${port}` },
    variables: { ...providers.variables },
  });
  const site = new Site({ holdfast, app, port, name: 'market-pulse' });
  const cwd = app.folder;
  await holdfast.setSecrets(
    'production',
    { DATABASE_URL: database, REDIS_URL: redis.url, ...providers.secrets },
    { cwd },
  );
  const first = await site.deployed();
  assert.deepEqual(first.steps, ALL_STEPS);
  const status = await site.status();
  assert.equal(status.current.release, 1);
  assert.equal(status.instances.length, 2);

  await servesPrecompressed(site);

  const load = await startLoad({
    port,
    profile: marketPulse,
    keepalive: 8,
    fresh: 4,
    sockets: 10,
    postShare: 0.1,
    rate: 150,
  });
  await load.advance(150);
  await load.streams();

  load.phase('update');
  app.setVersion('7.0.0');
  const update = await site.deployed();
  assert.equal(update.release, 2);
  assert.notEqual(update.artifact, first.artifact);
  assert.equal((await site.get('/api/version')).json.release, '2');
  await load.advance(150);

  load.phase('rollback');
  const rollbackAt = Date.now();
  const back = await site.rolledBack();
  assert.equal(back.release, 1);
  assert.ok(!back.steps.includes('build'));
  assert.equal((await site.get('/api/version')).json.release, '1');
  await load.advance(150);

  const result = await load.stop();
  const end = Date.now();
  assertClean(result);
  assertLeft(result, 1, update.at('done', 'drain'), rollbackAt);
  assertLeft(result, 2, back.at('done', 'drain'), end);
  assert.ok(result.releases['2'].requests > 100);
  const { 1000: ours = 0, 1001: moved, ...strange } = result.sockets.closes;
  assert.deepEqual([moved, ours <= 10, strange], [20, true, {}], 'each of the 10 WebSockets moved twice');
  const client = await postgres.connect(database);
  const posts = await verifyAlerts(client, result);
  assert.ok(posts.acknowledged > 20);
  assert.equal(posts.unacknowledged, 0);
});

/** The page's assets come compressed by what the client takes, and are the same bytes. */
async function servesPrecompressed(site) {
  const page = (await site.get('/')).body.toString();
  const [asset] = /\/assets\/[\w.-]+\.js/.exec(page);
  const plain = await site.get(asset, { 'accept-encoding': 'identity' });
  assert.equal(plain.status, 200);
  assert.equal(plain.headers['content-encoding'], undefined);
  const unpack = { br: brotliDecompressSync, gzip: gunzipSync };
  for (const [encoding, decompress] of Object.entries(unpack)) {
    const packed = await site.get(asset, { 'accept-encoding': encoding });
    assert.equal(packed.headers['content-encoding'], encoding);
    assert.match(packed.headers.vary ?? '', /accept-encoding/i);
    assert.ok(packed.body.length < plain.body.length / 2);
    assert.deepEqual(decompress(packed.body), plain.body);
  }
}

test('the first deploy makes release 1, and an update release 2 from another artifact', async () => {
  const site = await tinySite(holdfast);
  assert.equal((await site.releases()).length, 0);
  const first = await site.deployed();
  assert.deepEqual(first.steps, ALL_STEPS);
  assert.equal(first.operation.result.url, `${site.url}/`);
  assert.deepEqual([first.release, first.operation.result.previous], [1, 0]);
  assert.equal((await site.get('/')).json.version, '1.0.0');

  const load = await site.load();
  site.app.setVersion('2.0.0');
  const second = await site.deployed();
  await load.sees('2');
  const result = site.unharmed(await load.stop());
  assert.deepEqual([second.release, second.operation.result.previous], [2, 1]);
  assert.notEqual(second.artifact, first.artifact);
  assert.equal((await site.get('/')).json.version, '2.0.0');
  assertLeft(result, 1, second.at('done', 'drain'), Date.now());
  const { 1000: ours = 0, 1001: moved, ...strange } = result.sockets.closes;
  assert.deepEqual([moved, ours <= 3, strange], [3, true, {}]);
  const { colour, artifact } = (await site.settled(2)).current;
  assert.deepEqual([colour, artifact], ['green', second.artifact]);
  assert.equal((await site.release(1)).state, 'warm');
});

test('another configuration is another release of the same artifact', async () => {
  const site = await tinySite(holdfast, { variables: { COLOR: 'red' } });
  const first = await site.deployed();
  site.app.set(['environments', 'production', 'variables', 'COLOR'], 'blue');
  const load = await site.load();
  const second = await site.deployed();
  await load.sees('2');
  site.unharmed(await load.stop());
  assert.equal(second.release, 2);
  assert.equal(second.artifact, first.artifact);
  assert.match(second.text, /reused/);
  const [now, before] = await site.releases();
  assert.equal(now.configuration_version, before.configuration_version + 1);
  await site.settled(2);
});

test('--artifact deploys what was built before, by a prefix of its digest, without building', async () => {
  const site = await tinySite(holdfast);
  const first = await site.deployed();
  site.app.setVersion('2');
  await site.deployed();
  const prefix = first.artifact.replace('sha256:', '').slice(0, 12);
  const third = await site.deployed(['--artifact', prefix]);
  assert.equal(third.artifact, first.artifact);
  assert.equal(third.release, 3);
  assert.equal((await site.get('/')).json.version, '1.0.0');
  const unknown = await site.deploy(['--artifact', '0123456789ab']);
  assert.equal(unknown.status, 1);
  assert.match(unknown.reason ?? unknown.stderr, /0123456789ab/);
  await site.settled(3);
});

test('--dry-run tells the plan and changes nothing', async () => {
  const site = await tinySite(holdfast);
  await site.deployed();
  site.app.setVersion('2');
  const before = [await site.releases(), await site.status()];
  const processes = site.processes().map(({ pid }) => pid);
  const plan = await site.deployed(['--dry-run']);
  assert.deepEqual(plan.steps, ['lock', 'validate']);
  assert.match(plan.text, /would switch .* from release 1/);
  assert.match(plan.text, /nothing was changed/);
  assert.deepEqual([await site.releases(), await site.status()], before);
  assert.deepEqual(
    site.processes().map(({ pid }) => pid),
    processes,
  );
  assert.equal((await site.get('/')).json.version, '1.0.0');
  const rollback = await site.rollback(['--dry-run']);
  assert.equal(rollback.status, 1); // nothing to go back to, said by the dry run too
});

test('with two instances both serve, before and after an update', async () => {
  const site = await tinySite(holdfast, { service: { instances: 2 } });
  await site.deployed();
  const load = await site.load();
  site.app.setVersion('2');
  await site.deployed();
  await load.sees('2');
  await load.advance(100);
  site.unharmed(await load.stop());
  const seen = new Set();
  for (let i = 0; i < 20; i += 1) seen.add((await site.get('/')).headers['x-instance']);
  assert.equal(seen.size, 2);
  const { instances } = await site.settled(2);
  assert.equal(instances.filter(({ release, up }) => release === 2 && up).length, 2);
});

test('a canary takes its share before the switch', async () => {
  const site = await tinySite(holdfast);
  await site.deployed();
  site.app.set(['deploy', 'canary'], { weight: '20%', time: '1500ms' });
  site.app.setVersion('2');
  const load = await site.load({ sockets: 0, rate: 600 });
  const update = await site.deployed();
  await load.advance(100);
  const result = site.unharmed(await load.stop());
  const from = update.events.find(({ step, event }) => step === 'canary' && event === 'progress').time;
  const window = [Date.parse(from) + BUCKET_MS, update.at('done', 'canary') - BUCKET_MS];
  const [old, fresh] = ['1', '2'].map((release) => requestsBetween(result, release, ...window));
  const share = fresh / (old + fresh);
  assert.ok(share > 0.1 && share < 0.3, `the canary got ${(share * 100).toFixed(1)} % of ${old + fresh}`);
});

test('a deploy of another application reloads the proxy, and no request of this one is lost', async () => {
  const [site, other] = [await tinySite(holdfast), await tinySite(holdfast)];
  await site.deployed();
  const load = await site.load();
  await other.deployed();
  other.app.setVersion('2');
  await other.deployed();
  await load.advance(100);
  site.unharmed(await load.stop());
  assert.equal(await other.serving(), 2);
});

test('old releases are pruned to `retain`, and those kept can be gone back to', async () => {
  const site = await tinySite(holdfast, { deploy: { retain: 2, keep_warm: '0s' } });
  for (let version = 1; version <= 5; version += 1) {
    site.app.setVersion(`${version}`);
    await site.deployed();
  }
  await site.settled(5);
  const back = await site.rolledBack(['--to', '4']);
  assert.equal(back.release, 4);
  assert.equal((await site.get('/')).json.version, '4');
});
