// Market Pulse's surroundings, the load on it, and what the load saw of each change of release.

import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { comparePosts, marketPulse, startLoad } from '../../tests/support/load.js';
import { startPostgres, startProviders, startRedis } from '../../tests/support/services.js';
import { percentile } from './figures.js';

const LOAD = { keepalive: 12, fresh: 4, sockets: 20, postShare: 0.1, closeCodes: [1001], gapMs: 8000 };
const LOAD_MS_MAX = 3 * 3600 * 1000;
const LOAD_REQUESTS_MAX = 20_000_000;
const SETTLE_MS = 1000; // between two changes, so that each is seen alone

/** PostgreSQL, Redis and the providers' simulator, and what Market Pulse needs to know of them. */
export async function startStack() {
  const [postgres, redis, providers] = await Promise.all([startPostgres(), startRedis(), startProviders()]);
  const urls = {};
  return {
    variables: providers.variables,
    stop: () => Promise.all([postgres, redis, providers].map((component) => component.stop())),
    /** What connects an instance to a new database of that name. */
    async secrets(database) {
      urls[database] = await postgres.createDatabase(database);
      return { DATABASE_URL: urls[database], REDIS_URL: redis.url, ...providers.secrets };
    },
    /** A pg.Client of a database that secrets() made. */
    connect: (database) => postgres.connect(urls[database]),
  };
}

/**
 * The measured part, the same for all: load in quiet, then `rounds` times change('forward') and change('back'), spread
 * over `requests`, which is how many are sent at least. A change resolves with {from, to}, the names of the releases, and whatever else.
 * `connect()` gives a pg.Client of the application's database.
 * {quiet, busy (results of the load), changes: [{kind, from, to, begun, ended, first_ms, overlap_ms, …}], posts}
 */
export async function measure({ host, port, rate, quietMs, rounds, requests, change, connect, say }) {
  const load = (seed) =>
    startLoad({
      ...LOAD,
      host,
      port,
      rate,
      seed,
      profile: marketPulse,
      durationMs: LOAD_MS_MAX,
      requestsMax: LOAD_REQUESTS_MAX,
    });
  const calm = await load(1);
  await sleep(quietMs);
  const quiet = await calm.stop();

  const running = await load(2);
  await running.streams();
  const changes = [];
  const paceMs = ((requests / rate) * 1000) / (2 * rounds); // spreads the changes over all requests
  for (let i = 0; i < rounds; i += 1) {
    for (const kind of ['forward', 'back']) {
      await running.phase(`${kind} ${i + 1}`);
      const begun = Date.now();
      const told = await change(kind, i);
      changes.push({ kind, begun, ended: Date.now(), ...told });
      await sleep(Math.max(SETTLE_MS, begun + paceMs - Date.now()));
    }
    if ((i + 1) % 10 === 0 || i + 1 === rounds) {
      const { requests: sent, failures } = await running.snapshot();
      say(`${i + 1} rounds, ${sent} requests, ${failures} failures, load ${loadavg()[0].toFixed(1)}`);
    }
  }
  await running.phase('after');
  const { requests: sent } = await running.snapshot();
  if (sent < requests) await running.advance(requests - sent, LOAD_MS_MAX);
  const busy = await running.stop();
  seeChanges(busy, changes);
  const client = await connect();
  const posts = [await checkPosts(client, quiet), await checkPosts(client, busy)];
  await client.end();
  return { quiet, busy, changes, posts };
}

// What the clients saw: times are those at which requests were sent.
function seeChanges(result, changes) {
  changes.forEach((change, i) => {
    const until = changes[i + 1]?.begun ?? Infinity;
    const within = (release) =>
      (result.releases[release]?.timeline ?? []).filter(({ first }) => first >= change.begun && first < until);
    const first = within(change.to)[0]?.first;
    const last = within(change.from).at(-1)?.last;
    change.first_ms = first === undefined ? NaN : first - change.begun;
    change.overlap_ms = first === undefined ? NaN : Math.max(0, (last ?? first) - first);
  });
}

async function checkPosts(client, result) {
  const { rows } = await client.query(
    'SELECT above, count(*)::int AS times FROM alerts WHERE user_name = $1 GROUP BY above',
    [`load-${result.posts.run}`],
  );
  const found = comparePosts(result, new Map(rows.map(({ above, times }) => [Number(above) - 1, times])));
  return { sent: result.posts.sent, wrong: found.lost.length + found.doubled.length + found.strange.length };
}

/** The figures that every way of deploying has; only for ours they have `targets`. */
export function addCommon(figures, who, { quiet, busy, changes, posts }, targets) {
  const add = (name, value, unit, meaning, max) =>
    figures.add(name, value, unit, { who, meaning, ...(targets ? { max } : {}) });
  const of = (kind, key) => changes.filter((change) => change.kind === kind).map((change) => change[key]);
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const both = (read) => read(quiet) + read(busy);
  const ofSockets = ({ failures_by_reason: reasons }) =>
    sum(Object.entries(reasons).map(([reason, count]) => (reason.startsWith('socket:') ? count : 0)));

  add('changes', changes.length, 'changes', 'deploys and rollbacks, half each');
  add('requests', both(({ requests }) => requests), 'requests', 'sent in all');
  add('rate', busy.requests_per_second, 'requests/s', 'while it was deployed');
  add('failed_requests', both((r) => r.failures - ofSockets(r)), 'requests', 'reset, refused, late, not 2xx, wrong', 0);
  add('sockets_opened', both(({ sockets }) => sockets.opened), 'WebSockets', '20 at a time; they move at each change');
  add('sockets_cut', both(ofSockets), 'WebSockets', 'not closed with 1001, or silent, or not opened', 0);
  add('posts', sum(posts.map(({ sent }) => sent)), 'POSTs', 'sent in all');
  add('posts_wrong', sum(posts.map(({ wrong }) => wrong)), 'POSTs', 'lost or doubled, says the database', 0);
  for (const [kind, label] of [
    ['forward', 'deploy'],
    ['back', 'rollback'],
  ]) {
    for (const p of [50, 99])
      add(
        `${label}_seen_p${p}`,
        percentile(of(kind, 'first_ms'), p),
        'ms',
        'from the command to the first request that the other release answers',
      );
  }
  const overlaps = changes.map((change) => change.overlap_ms);
  add('overlap_p99', percentile(overlaps, 99), 'ms', 'both releases answer');
  for (const [when, result] of [
    ['quiet', quiet],
    ['deploying', busy],
  ]) {
    for (const [kind, label] of [
      ['get_keepalive', 'get'],
      ['post_keepalive', 'post'],
    ]) {
      for (const p of ['p50', 'p99'])
        add(
          `${label}_${when}_${p}`,
          result.latency_ms[kind]?.[p],
          'ms',
          `a ${label.toUpperCase()} on a kept connection`,
        );
    }
    const slowest = Math.max(...Object.values(result.latency_ms).map(({ max }) => max));
    add(`request_${when}_max`, slowest, 'ms', 'the slowest request of any kind');
  }
}

/** What went wrong, for a person. */
export function tellFailures(say, { quiet, busy }) {
  for (const result of [quiet, busy]) {
    for (const [reason, count] of Object.entries(result.failures_by_reason)) say(`${count} × ${reason}`);
    for (const { time, phase, kind, method = '', path = '', reason, detail } of result.first_failures.slice(0, 8))
      say(`  ${time} [${phase}] ${kind} ${method} ${path}: ${reason}${detail ? `, ${detail}` : ''}`);
  }
}
