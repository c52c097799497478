// The load generator's own process; load.js starts it and says what to do. Everything is counted exactly once.

import { createHistogram } from 'node:perf_hooks';
import { HttpConnection } from './http-connection.js';
import { StreamClient } from './load-streams.js';

const SWEEP_MS = 50; // how late a time-out may be noticed
const RATE_TICK_MS = 2;
const CATCH_UP_MS = 250; // of missed rate made up for
const AFTER_FAILURE_MS = 20; // before the same slot tries again, so that an outage is not a busy loop
const FAILURES_KEPT = 50;
const BUCKET_MS = 50; // of a release's timeline
const POST_SENT = 1;
const POST_ACKNOWLEDGED = 2;

let options;
let profile;
let random;
let phase = { label: 'start', from: Date.now(), requests: 0, failures: 0 };
let stopping; // why, once it is so
let begun;
let resolveDone;
const done = new Promise((resolve) => {
  resolveDone = resolve;
});

const phases = [phase];
const slots = [];
const free = [];
const streams = [];
const timers = [];
const latency = new Map(); // kind -> histogram, microseconds
const releases = new Map(); // name -> {requests, timeline: Map(bucket -> {first, last, requests})}
const failures = { count: 0, byReason: {}, first: [] };
const counts = { sent: 0, answered: 0, failed: 0, idleCloseRaces: 0, retried: 0 };
let postStates = new Uint8Array(4096);
let posts = 0;
let waiters = []; // {test, resolve}

function recordFailure(kind, reason, detail, { method, path, sent } = {}) {
  failures.count += 1;
  phase.failures += 1;
  const key = `${kind}: ${reason}`;
  failures.byReason[key] = (failures.byReason[key] ?? 0) + 1;
  if (failures.first.length < FAILURES_KEPT) {
    failures.first.push({
      time: new Date().toISOString(),
      phase: phase.label,
      kind,
      reason,
      detail,
      method,
      path,
      sent,
    });
  }
}

function recordRelease(name, sent) {
  let release = releases.get(name);
  if (!release) releases.set(name, (release = { requests: 0, timeline: new Map() }));
  release.requests += 1;
  const at = Math.floor(sent / BUCKET_MS) * BUCKET_MS;
  const bucket = release.timeline.get(at);
  if (!bucket) release.timeline.set(at, { first: sent, last: sent, requests: 1 });
  else {
    bucket.first = Math.min(bucket.first, sent);
    bucket.last = Math.max(bucket.last, sent);
    bucket.requests += 1;
  }
}

/** A slot sends one request at a time, all on one connection ("keepalive") or each on its own ("fresh"). */
class Slot {
  constructor(kind) {
    this.kind = kind;
    this.request = undefined;
    this.last = undefined;
    this.deadline = Infinity;
    this.connection = new HttpConnection(options.target, {
      answered: (response) => this.answered(response),
      failed: (reason, detail) => this.failed(reason, detail),
      broken: (reason, detail) => recordFailure(this.kind, reason, detail, this.last), // what was asked on it before
      free: () => this.free(),
    });
  }

  send(request) {
    this.request = request;
    this.last = request;
    counts.sent += 1;
    phase.requests += 1;
    request.sent = Date.now();
    request.begun = performance.now();
    this.transmit();
  }

  transmit() {
    this.deadline = performance.now() + options.timeoutMs;
    this.connection.send(this.request.bytes[this.kind]);
  }

  answered({ status, headers, body }) {
    const { request } = this;
    const release = headers['x-release'];
    const kind = `${request.method.toLowerCase()}_${this.kind}`;
    let histogram = latency.get(kind);
    if (!histogram) latency.set(kind, (histogram = createHistogram({ figures: 3 })));
    histogram.record(Math.max(1, Math.round((performance.now() - request.begun) * 1000)));
    this.request = undefined;
    this.deadline = performance.now() + options.timeoutMs; // to close, if that is announced
    if (release !== undefined) recordRelease(release, request.sent);
    if (request.n !== undefined && status === request.status) postStates[request.n] = POST_ACKNOWLEDGED;

    let problem;
    if (status !== request.status) problem = [`status ${status}`, body.toString('latin1', 0, 200)];
    else if (release === undefined) problem = ['wrong answer', 'no x-release header'];
    else {
      const wrong = checked(request, body, headers);
      if (wrong) problem = ['wrong answer', `${wrong}: ${body.toString('latin1', 0, 200)}`];
    }
    if (problem) {
      counts.failed += 1;
      recordFailure(this.kind, ...problem, request);
    } else counts.answered += 1;
    for (const waiter of waiters) if (waiter.test(release)) waiter.resolve();
  }

  failed(reason, detail) {
    const { request } = this;
    if (reason === 'idle close race') {
      counts.idleCloseRaces += 1;
      // RFC 9112 9.3.1: a client may repeat an idempotent request whose reused connection ended before any byte came.
      if (options.tolerateIdleCloseRace && request.method === 'GET' && !request.repeated) {
        request.repeated = true;
        counts.retried += 1;
        return;
      }
    }
    this.request = undefined;
    counts.failed += 1;
    recordFailure(this.kind, reason, detail, request);
    this.paused = true;
    setTimeout(() => {
      this.paused = false;
      this.free();
    }, AFTER_FAILURE_MS);
  }

  free() {
    if (this.paused) return;
    if (this.request) {
      this.transmit();
      return;
    }
    this.deadline = Infinity;
    free.push(this);
    pump();
  }

  sweep(now) {
    if (now < this.deadline) return;
    this.deadline = Infinity;
    this.connection.abort('time-out', `nothing complete within ${options.timeoutMs} ms`);
  }
}

function checked(request, body, headers) {
  try {
    return request.check(body, headers);
  } catch (error) {
    return `not of the right shape, ${error.message}`;
  }
}

// Requests of the same kind share their bytes; a POST has its own key and body.
function prepareGet({ path, check }) {
  return { method: 'GET', path, check, status: 200, bytes: bytesOf('GET', path, '', '') };
}

function bytesOf(method, path, headers, body) {
  const head = (connection) =>
    `${method} ${path} HTTP/1.1\r\nhost: ${options.host}\r\nuser-agent: holdfast-load\r\n` +
    `accept: */*\r\n${headers}${connection}\r\n${body}`;
  return { keepalive: head(''), fresh: head('connection: close\r\n') };
}

function nextRequest() {
  if (random() >= options.postShare) {
    const get = profile.gets[Math.floor(random() * profile.gets.length)];
    return { ...get };
  }
  const n = posts;
  posts += 1;
  if (n >= postStates.length) {
    const wider = new Uint8Array(postStates.length * 2);
    wider.set(postStates);
    postStates = wider;
  }
  postStates[n] = POST_SENT;
  const { path, body, check } = profile.post(n);
  const text = JSON.stringify(body);
  const headers = `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\nidempotency-key: ${options.run}-${n}\r\n`;
  return { method: 'POST', path, check, status: 201, n, bytes: bytesOf('POST', path, headers, text) };
}

let credit = 0; // requests that the rate allows now
let creditAt = 0;

function pump() {
  while (free.length && !stopping) {
    if (counts.sent >= options.requestsMax) return stop('requests');
    if (options.rate) {
      const now = performance.now();
      credit = Math.min(
        credit + ((now - creditAt) * options.rate) / 1000,
        Math.max(1, (options.rate * CATCH_UP_MS) / 1000),
      );
      creditAt = now;
      if (credit < 1) return undefined;
      credit -= 1;
    }
    free.shift().send(nextRequest());
  }
  return undefined;
}

async function start(given) {
  options = given;
  random = mulberry32(options.seed);
  const made = (await import(options.profile.module))[options.profile.name](options.profile.options);
  profile = { ...made, gets: made.gets.map(prepareGet) };
  begun = performance.now();
  creditAt = begun;
  for (let i = 0; i < options.keepalive; i += 1) slots.push(new Slot('keepalive'));
  for (let i = 0; i < options.fresh; i += 1) slots.push(new Slot('fresh'));
  for (let i = 0; i < options.sockets; i += 1) {
    streams.push(
      new StreamClient({
        options,
        random,
        stream: profile.stream,
        failed: (...what) => recordFailure('socket', ...what),
      }),
    );
  }
  timers.push(
    setInterval(() => {
      const now = performance.now();
      for (const slot of slots) slot.sweep(now);
      for (const stream of streams) stream.sweep(now);
    }, SWEEP_MS),
  );
  if (options.rate) timers.push(setInterval(pump, RATE_TICK_MS));
  timers.push(setTimeout(() => stop('time'), options.durationMs));
  free.push(...slots);
  if (slots.length) pump();
}

/** Lets what is in flight finish, then reports. */
async function stop(why) {
  if (stopping) return done;
  stopping = why;
  const elapsedMs = performance.now() - begun;
  for (const waiter of waiters) waiter.reject(new Error(`the load has ended: ${why}`));
  const cpu = process.cpuUsage();
  while (slots.some((slot) => slot.request || slot.connection.busy)) await tick(5); // the sweep bounds this
  for (const slot of slots) slot.connection.end();
  await Promise.all(streams.map((stream) => stream.end()));
  timers.forEach(clearInterval);
  resolveDone({
    ...snapshot(),
    ended: why,
    duration_ms: elapsedMs,
    requests_per_second: (counts.sent / elapsedMs) * 1000,
    cpu_ms: (cpu.user + cpu.system) / 1000,
    posts: { run: options.run, sent: posts, states: postStates.slice(0, posts) },
  });
  return done;
}

const tick = (ms) =>
  new Promise((resolve) => {
    setTimeout(resolve, ms);
  });

function snapshot() {
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const closes = {};
  for (const stream of streams)
    for (const [code, n] of Object.entries(stream.closes)) closes[code] = (closes[code] ?? 0) + n;
  const socketReleases = {};
  for (const { release } of streams)
    if (release !== undefined) socketReleases[release] = (socketReleases[release] ?? 0) + 1;
  return {
    requests: counts.sent,
    answered: counts.answered,
    failed_requests: counts.failed,
    failures: failures.count, // with what befell sockets and idle connections
    failures_by_reason: failures.byReason,
    first_failures: failures.first,
    idle_close_races: counts.idleCloseRaces,
    retried: counts.retried,
    idle_closes: sum(slots.map((slot) => slot.connection.idleCloses)),
    connections: sum(slots.map((slot) => slot.connection.opened)),
    latency_ms: Object.fromEntries([...latency].map(([kind, histogram]) => [kind, percentiles(histogram)])),
    releases: Object.fromEntries(
      [...releases].map(([name, { requests, timeline }]) => {
        const buckets = [...timeline.values()].sort((a, b) => a.first - b.first);
        return [name, { requests, first: buckets[0].first, last: buckets.at(-1).last, timeline: buckets }];
      }),
    ),
    phases,
    sockets: {
      opened: sum(streams.map((stream) => stream.opened)),
      open: streams.filter((stream) => stream.open).length,
      messages: sum(streams.map((stream) => stream.messages)),
      gap_ms_max: Math.round(Math.max(0, ...streams.map((stream) => stream.gapMsMax))),
      moved_ms_max: Math.round(Math.max(0, ...streams.map((stream) => stream.movedMsMax))),
      closes,
      releases: socketReleases,
    },
  };
}

function percentiles(histogram) {
  const ms = (p) => histogram.percentile(p) / 1000;
  return {
    count: histogram.count,
    p50: ms(50),
    p90: ms(90),
    p99: ms(99),
    p99_9: ms(99.9),
    max: histogram.max / 1000,
  };
}

function mulberry32(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function waitUntil(test) {
  return new Promise((resolve, reject) => {
    if (stopping) throw new Error(`the load has ended: ${stopping}`);
    const waiter = {
      test,
      reject,
      resolve: () => {
        waiters = waiters.filter((other) => other !== waiter);
        resolve(Date.now());
      },
    };
    waiters = [...waiters, waiter];
  });
}

const COMMANDS = {
  start,
  stop: () => stop('asked'),
  done: () => done,
  snapshot,
  phase(label) {
    phase = { label, from: Date.now(), requests: 0, failures: 0 };
    phases.push(phase);
    return phase.from;
  },
  advance(more) {
    const goal = counts.answered + counts.failed + more;
    return waitUntil(() => counts.answered + counts.failed >= goal);
  },
  sees: (release) => waitUntil((seen) => seen === release),
  async streams() {
    await Promise.all(streams.map((stream) => stream.nextMessage()));
    return Date.now();
  },
};

process.on('message', async ({ id, command, argument }) => {
  try {
    process.send({ id, value: await COMMANDS[command](argument) });
  } catch (error) {
    process.send({ id, error: error.stack });
  }
});
process.on('disconnect', () => process.exit(1));
