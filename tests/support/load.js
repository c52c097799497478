// Load as users make it, and the judge of "not one request fails": every request and every WebSocket is accounted for,
// and whatever did not go right is told with time, phase and reason.
//
//     const load = await startLoad({ port, profile: marketPulse, keepalive: 20, fresh: 5, sockets: 20 });
//     await load.advance(1000);            // 1000 more requests are done
//     load.phase('deploy');                // names what follows in the report
//     await load.sees('r2');               // an answer came from release r2
//     const result = await load.stop();    // what is in flight finishes
//     assertClean(result);
//     await verifyAlerts(client, result);
//
// It runs in a process of its own, so that a busy test does not slow its clock.
//
// One race is legal in HTTP: a server may close an idle keep-alive connection just as the client sends on it. Such cases
// are `idle_close_races` and count as failures, because a user's POST would be one. `tolerateIdleCloseRace: true` does
// what browsers do: a GET is sent once more, on a fresh connection, and fails only if that fails (RFC 9112, 9.3.1).

import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { atEnd, within } from './processes.js';

const WORKER = fileURLToPath(new URL('load-worker.js', import.meta.url));
const PROFILES = new URL('profiles.js', import.meta.url).href;
const ACKNOWLEDGED = 2;
const SHOWN = 10;
const WAIT_MS = 30_000;

export const marketPulse = { module: PROFILES, name: 'marketPulse' };
export const tinyApp = { module: PROFILES, name: 'tinyApp' };

/**
 * Starts the load. Options, with defaults: host 127.0.0.1, port, profile (what is asked and what is right),
 * keepalive 8 and fresh 4 (requests at a time, by kind of connection), sockets 0, postShare 0.1,
 * rate 0 (requests/s; 0 is as fast as the answers come), timeoutMs 5000, gapMs 5000 (a WebSocket's longest silence),
 * closeCodes [1001, 1012], reconnectMs 500 (at a random moment within), durationMs 600 000, requestsMax 5 000 000, seed 1,
 * tolerateIdleCloseRace false.
 */
export async function startLoad(given) {
  const { host = '127.0.0.1', port, profile, ...rest } = given;
  const run = randomBytes(5).toString('hex');
  const options = {
    keepalive: 8,
    fresh: 4,
    sockets: 0,
    postShare: 0.1,
    rate: 0,
    timeoutMs: 5000,
    gapMs: 5000,
    closeCodes: [1001, 1012],
    reconnectMs: 500,
    durationMs: 600_000,
    requestsMax: 5_000_000,
    seed: 1,
    tolerateIdleCloseRace: false,
    ...rest,
    run,
    target: { host, port },
    host: `${host}:${port}`,
    profile: { ...profile, options: { run, ...profile.options } },
  };
  const child = fork(WORKER, { serialization: 'advanced', stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const forget = atEnd(() => child.kill('SIGKILL'));
  const calls = new Map();
  let lastId = 0;
  child.on('message', ({ id, value, error }) => {
    const call = calls.get(id);
    calls.delete(id);
    if (error) call.reject(new Error(`load generator: ${error}`));
    else call.resolve(value);
  });
  child.once('exit', (code, signal) => {
    forget();
    for (const { reject } of calls.values()) reject(new Error(`the load generator died with ${signal ?? code}`));
    calls.clear();
  });

  function call(command, argument) {
    return new Promise((resolve, reject) => {
      if (!child.connected) return reject(new Error('the load generator is gone'));
      lastId += 1;
      calls.set(lastId, { resolve, reject });
      return child.send({ id: lastId, command, argument });
    });
  }

  async function expect(command, argument, ms = WAIT_MS) {
    const time = await within(ms, call(command, argument));
    if (time === undefined)
      throw new Error(`${command}(${argument ?? ''}) of the load did not come true within ${ms} ms`);
    return time;
  }

  async function finish(command) {
    const result = await call(command);
    forget();
    child.kill('SIGKILL'); // it has reported; nothing is left to do
    assert.equal(result.answered + result.failed_requests, result.requests, 'the load generator lost count');
    return result;
  }

  await call('start', options);
  const done = finish('done');
  done.catch(() => {}); // whoever waits for it hears of it
  return {
    options,
    /** Resolves with the result when stop() was called, or time or count ran out. */
    done,
    stop: () => Promise.all([done, call('stop').catch(() => {})]).then(([result]) => result),
    snapshot: () => call('snapshot'),
    phase: (label) => call('phase', label),
    // These resolve with the time at which it was so, and throw after `ms`, or when the load ends first.
    /** That many more requests have ended. */
    advance: (requests, ms) => expect('advance', requests, ms),
    /** A request got an answer from `release`. */
    sees: (release, ms) => expect('sees', release, ms),
    /** Each WebSocket has heard something new. */
    streams: (ms) => expect('streams', undefined, ms),
  };
}

/** Fails, telling what happened, unless nothing at all went wrong. */
export function assertClean(result) {
  if (result.failures === 0) return;
  const reasons = Object.entries(result.failures_by_reason).map(([reason, count]) => `  ${count} × ${reason}`);
  const first = result.first_failures
    .slice(0, SHOWN)
    .map(
      ({ time, phase, kind, method = '', path = '', reason, detail }) =>
        `  ${time} [${phase}] ${kind} ${method} ${path}: ${reason}${detail ? `, ${detail}` : ''}`,
    );
  assert.fail(
    `${result.failures} failures, ${result.failed_requests} of ${result.requests} requests\n${reasons.join('\n')}\n` +
      `the first:\n${first.join('\n')}`,
  );
}

/** When the last request that `release` answered was sent, if after `time`; else undefined. Milliseconds since 1970. */
export function sentAfter(result, release, time) {
  const last = result.releases[release]?.last;
  return last > time ? last : undefined;
}

/** How many requests sent from `from` up to `to` the release answered, to within a 50 ms bucket at each end. */
export function requestsBetween(result, release, from, to) {
  const buckets = result.releases[release]?.timeline ?? [];
  return buckets
    .filter(({ first, last }) => last >= from && first <= to)
    .reduce((sum, { requests }) => sum + requests, 0);
}

/**
 * Compares the POSTs that were sent with `stored`, a Map from a POST's number to how often it is there:
 * {acknowledged, unacknowledged, lost, doubled, strange}; the last three are numbers of POSTs, all empty if right.
 * One without an answer may be there or not.
 */
export function comparePosts({ posts }, stored) {
  const found = { acknowledged: 0, unacknowledged: 0, lost: [], doubled: [], strange: [] };
  for (let n = 0; n < posts.sent; n += 1) {
    const acknowledged = posts.states[n] === ACKNOWLEDGED;
    const times = stored.get(n) ?? 0;
    found[acknowledged ? 'acknowledged' : 'unacknowledged'] += 1;
    if (acknowledged && times === 0) found.lost.push(n);
    if (times > 1) found.doubled.push(n);
  }
  for (const n of stored.keys()) if (!Number.isInteger(n) || n < 0 || n >= posts.sent) found.strange.push(n);
  return found;
}

function assertPosts(found, where) {
  const { lost, doubled, strange } = found;
  if (!lost.length && !doubled.length && !strange.length) return found;
  const show = (numbers) => `${numbers.length} (${numbers.slice(0, SHOWN).join(', ')})`;
  return assert.fail(`POSTs in ${where}: lost ${show(lost)}, doubled ${show(doubled)}, never sent ${show(strange)}`);
}

/** Asserts that each acknowledged alert is in Market Pulse's database exactly once, and its key too. `client` is a pg.Client. */
export async function verifyAlerts(client, result) {
  const { run } = result.posts;
  const alerts = await client.query(
    'SELECT above, count(*)::int AS times FROM alerts WHERE user_name = $1 GROUP BY above',
    [`load-${run}`],
  );
  const found = assertPosts(
    comparePosts(result, new Map(alerts.rows.map(({ above, times }) => [Number(above) - 1, times]))),
    'alerts',
  );
  const keys = await client.query('SELECT key FROM idempotency_keys WHERE key LIKE $1', [`${run}-%`]);
  assertPosts(comparePosts(result, tally(keys.rows.map(({ key }) => numberOf(key)))), 'idempotency_keys');
  return found;
}

/** The same for the tiny application's log, `file`. A POST that arrived twice counts as doubled, even if it was recognised. */
export function verifyLog(file, result) {
  const keys = readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith(`${result.posts.run}-`));
  return assertPosts(comparePosts(result, tally(keys.map((line) => numberOf(line.split('\t')[0])))), file);
}

const numberOf = (key) => Number(key.slice(key.indexOf('-') + 1));

function tally(numbers) {
  const times = new Map();
  for (const n of numbers) times.set(n, (times.get(n) ?? 0) + 1);
  return times;
}
