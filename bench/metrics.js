#!/usr/bin/env node
// The metrics engine beside VictoriaMetrics and Prometheus: the same remote-write bodies, the same range queries.
//
//     bench/metrics.js [--series N] [--steps N] [--active N] [--repeats N] [--quick] [--only PART] [--write]
//
//     --series    of the data, a multiple of 4000 (20000)
//     --steps     scrapes of 15 s (1440: six hours)
//     --active    series of one sample each, for memory and restart (1000000)
//     --repeats   of each query; the median counts (7)
//     --quick     small numbers: does it work?
//     --only      holdfast, victoria, prometheus or active; may be repeated
//     --write     puts the table into docs/benchmarks.md
//
// HOLDFAST is the program to measure and WRITE_LOAD the sender, both built by `make bench-metrics`. A line a figure,
// `figure value unit target ok|MISS`; exits 0 if none missed. What else is said goes to standard error.

import { execFileSync } from 'node:child_process';
import { lstatSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release as kernel, totalmem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startHoldfast } from '../tests/support/holdfast.js';
import { freePort, startComponent, stopAll, temporaryFolder } from '../tests/support/processes.js';
import { Figures, median, writeBetween } from './support/figures.js';

const DOCUMENT = fileURLToPath(new URL('../docs/benchmarks.md', import.meta.url));
const PARTS = ['holdfast', 'victoria', 'prometheus', 'active'];
const INTERVAL_S = 15;
const STEP_S = 60;
const SETTLE_MS = 120_000; // for what a store does behind the writes
const TICKS_PER_S = 100; // USER_HZ
const QUERIES = {
  rate: 'sum by (job) (rate(x[5m]))',
  quantile: 'histogram_quantile(0.99, sum by (le) (rate(b[5m])))',
  topk: 'topk(5, avg_over_time(g[1h]))',
  max: 'max by (instance) (g)',
  count: 'count({job="node"})',
  raw: 'g{instance="host-07:9100",id=~".*55"}',
  ratio: 'sum by (job) (rate(x[5m])) / sum by (job) (rate(y[5m]))',
};

function readOptions() {
  const number = (value) => ({ type: 'string', default: String(value) });
  const { values } = parseArgs({
    options: {
      series: number(20_000),
      steps: number(1440),
      active: number(1_000_000),
      repeats: number(7),
      quick: { type: 'boolean', default: false },
      only: { type: 'string', multiple: true, default: PARTS },
      write: { type: 'boolean', default: false },
    },
  });
  for (const part of values.only)
    if (!PARTS.includes(part)) throw new Error(`there is no part "${part}"; use ${PARTS.join(', ')}`);
  const count = (name, quick) => {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} wants a positive integer`);
    return values.quick && !process.argv.some((arg) => arg.startsWith(`--${name}`)) ? quick : value;
  };
  return {
    parts: values.only,
    series: count('series', 4000),
    steps: count('steps', 240),
    active: count('active', 40_000),
    repeats: count('repeats', 3),
    write: values.write,
  };
}

// ---- What a process costs.

function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S;
}

function memory(pid, field) {
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) * 1024;
}

// Bytes of a folder's files; one that goes away meanwhile counts nothing.
function bytesOf(folder) {
  let sum = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true }))
    if (entry.isFile()) sum += lstatSync(join(entry.path, entry.name), { throwIfNoEntry: false })?.size ?? 0;
  return sum;
}

// Until two seconds pass in which it does next to nothing.
async function settle(pid) {
  const end = Date.now() + SETTLE_MS;
  for (let before = cpuSeconds(pid); Date.now() < end; ) {
    await sleep(2000);
    const now = cpuSeconds(pid);
    if (now - before < 0.05) return;
    before = now;
  }
}

// ---- The three.

async function holdfast() {
  const daemon = await startHoldfast({});
  return {
    who: 'holdfast',
    pid: () => daemon.pid,
    write: `${daemon.url}/api/v1/write`,
    query: `${daemon.url}/api/v1/query_range`,
    token: join(daemon.data, 'keys/admin.token'),
    folder: join(daemon.data, 'metrics'),
    daemon,
    merge: async () => {
      const token = readFileSync(join(daemon.data, 'keys/admin.token'), 'utf8').trim();
      const headers = { authorization: `Bearer ${token}` };
      const { status } = await fetch(`${daemon.url}/api/v1/admin/tsdb/clean_tombstones`, { method: 'POST', headers });
      if (status !== 204) throw new Error(`the merge was answered with ${status}`);
    },
    stop: () => daemon.close(),
  };
}

async function victoria() {
  const port = await freePort();
  const folder = temporaryFolder('victoria');
  const url = `http://127.0.0.1:${port}`;
  const component = await startComponent({
    name: 'victoria-metrics',
    command: 'victoria-metrics',
    args: [`-storageDataPath=${folder}`, `-httpListenAddr=127.0.0.1:${port}`, '-retentionPeriod=12'],
    ready: /starting http server at/,
  });
  return {
    who: 'victoria',
    pid: () => component.pid,
    write: `${url}/api/v1/write`,
    query: `${url}/api/v1/query_range`,
    extra: { nocache: '1' },
    folder,
    merge: async () => {
      await fetch(`${url}/internal/force_flush`);
      await fetch(`${url}/internal/force_merge`);
    },
    stop: () => component.stop(),
  };
}

async function prometheus() {
  const port = await freePort();
  const folder = temporaryFolder('prometheus');
  const url = `http://127.0.0.1:${port}`;
  writeFileSync(join(folder, 'prometheus.yml'), 'global: {scrape_interval: 1h}\n');
  const component = await startComponent({
    name: 'prometheus',
    command: 'prometheus',
    args: [
      `--config.file=${folder}/prometheus.yml`,
      `--storage.tsdb.path=${folder}/data`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--web.enable-remote-write-receiver',
    ],
    ready: /Server is ready to receive web requests/,
  });
  return {
    who: 'prometheus',
    pid: () => component.pid,
    write: `${url}/api/v1/write`,
    query: `${url}/api/v1/query_range`,
    folder: `${folder}/data`,
    stop: () => component.stop(),
  };
}

// ---- Measuring.

function send(url, { token, series, steps, end, active = false }) {
  const said = execFileSync(
    process.env.WRITE_LOAD,
    [
      url,
      ...['--series', series, '--end', end],
      ...(active ? ['--active'] : ['--steps', steps, '--interval', INTERVAL_S * 1000]),
      ...(token ? ['--token', token] : []),
    ].map(String),
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], timeout: 1_800_000 },
  );
  return Number(/samples (\d+)/.exec(said)[1]);
}

async function ask({ query, token, extra = {} }, expression, { start, end }) {
  const body = new URLSearchParams({ query: expression, start, end, step: STEP_S, ...extra });
  const headers = token ? { authorization: `Bearer ${readFileSync(token, 'utf8').trim()}` } : {};
  const begun = performance.now();
  const response = await fetch(query, { method: 'POST', body, headers });
  const text = await response.text();
  const ms = performance.now() - begun;
  if (!response.ok) throw new Error(`${expression} was answered with ${response.status}: ${text.slice(0, 300)}`);
  return { ms, series: JSON.parse(text).data.result.length };
}

async function measure(start, { series, steps, end, repeats, say }) {
  const peer = await start();
  say(`${peer.who}: ${series * steps} samples`);
  const before = cpuSeconds(peer.pid());
  const samples = send(peer.write, { ...peer, series, steps, end });
  await settle(peer.pid());
  const rate = samples / (cpuSeconds(peer.pid()) - before);
  const peak = memory(peer.pid(), 'VmHWM');
  await peer.merge?.();
  await settle(peer.pid());
  const bytes = bytesOf(peer.folder) / samples;
  const range = { start: end / 1000 - steps * INTERVAL_S, end: end / 1000 };
  const times = {};
  const counts = {};
  for (const [name, expression] of Object.entries(QUERIES)) {
    const all = [];
    for (let i = 0; i < repeats; i += 1) {
      const { ms, series: count } = await ask(peer, expression, range);
      all.push(ms);
      counts[name] = count;
    }
    times[name] = median(all);
  }
  await peer.stop();
  return { who: peer.who, rate, peak, bytes, times, counts };
}

function report(figures, all) {
  const ours = all.find(({ who }) => who === 'holdfast');
  for (const { who, rate, peak, bytes, times } of all) {
    figures.add('samples_per_cpu_second', rate / 1e6, 'M/s', { who, meaning: 'decoding, log, flushes and the merges made by itself' });
    figures.add('bytes_per_sample', bytes, 'B', { who, meaning: 'on disk after merging, index included' });
    figures.add('peak_memory', peak / 2 ** 20, 'MiB', { who, meaning: 'largest resident set of the load' });
    for (const [name, ms] of Object.entries(times))
      figures.add(`query_${name}`, ms, 'ms', { who, meaning: `\`${QUERIES[name]}\`` });
  }
  if (!ours) return;
  for (const peer of all.filter((each) => each !== ours)) {
    const name = peer.who;
    const isVictoria = name === 'victoria';
    const only = (max) => (isVictoria ? { max } : {});
    figures.add(`cpu_to_${name}`, peer.rate / ours.rate, 'ratio', { ...only(0.25), meaning: 'CPU time a sample, ours to theirs' });
    figures.add(`bytes_to_${name}`, ours.bytes / peer.bytes, 'ratio', { ...only(0.85), meaning: 'bytes a sample, ours to theirs' });
    figures.add(`memory_to_${name}`, ours.peak / peer.peak, 'ratio', { ...only(1), meaning: 'peak memory, ours to theirs' });
    for (const query of Object.keys(QUERIES))
      figures.add(`query_${query}_to_${name}`, ours.times[query] / peer.times[query], 'ratio', {
        max: isVictoria ? 1 / 3 : 1 / 10,
        meaning: `time of \`${QUERIES[query]}\`, ours to theirs`,
      });
    for (const query of Object.keys(QUERIES))
      if (peer.counts[query] !== ours.counts[query])
        throw new Error(`${QUERIES[query]} has ${ours.counts[query]} series here and ${peer.counts[query]} in ${name}`);
  }
}

async function measureActive(figures, { active, end, say }) {
  say(`${active} active series`);
  const ours = await holdfast();
  await settle(ours.pid());
  const idle = memory(ours.pid(), 'VmRSS');
  send(ours.write, { ...ours, series: active, end, active: true });
  await settle(ours.pid());
  const each = (memory(ours.pid(), 'VmRSS') - idle) / active;
  figures.add('memory_per_series', each, 'B', { max: 1024, meaning: 'resident, with as many active series' });
  await ours.daemon.stop();
  await ours.daemon.start();
  const found = await ask({ ...ours, query: ours.query }, 'count(http_requests_total)', { start: end / 1000, end: end / 1000 });
  if (found.series !== 1) throw new Error('the series are gone after the restart');
  figures.add('restart', ours.daemon.readyMs, 'ms', { max: 3000, meaning: 'from the start to /readyz, with as many active series' });
  await ours.stop();
}

function machine() {
  const version = (command, pattern) => {
    try {
      return pattern.exec(execFileSync('dpkg-query', ['-W', command], { encoding: 'utf8' }))[0].replace('\t', ' ');
    } catch {
      return `no ${command}`;
    }
  };
  const [{ model }] = cpus();
  return [
    `${cpus().length} cores (${model.replace(/\s+/g, ' ').trim()}), ${Math.round(totalmem() / 2 ** 30)} GiB`,
    `Linux ${kernel().split('-')[0]}`,
    version('victoria-metrics', /\S+\t\S+/),
    version('prometheus', /\S+\t\S+/),
  ].join(', ');
}

async function main() {
  const options = readOptions();
  if (!process.env.WRITE_LOAD) throw new Error('WRITE_LOAD is not set: run make bench-metrics');
  const begun = Date.now();
  const [load1] = loadavg();
  const say = (text) => console.error(`${Math.round((Date.now() - begun) / 1000)} s: ${text}`);
  const figures = new Figures();
  const end = Math.floor(begun / 60_000) * 60_000;
  const run = { ...options, end, say };
  const all = [];
  for (const start of [holdfast, victoria, prometheus])
    if (options.parts.includes(start.name)) all.push(await measure(start, run));
  report(figures, all);
  if (options.parts.includes('active')) await measureActive(figures, run);
  const isFull = options.series >= 20_000 && options.steps >= 1440 && PARTS.every((part) => options.parts.includes(part));
  const text = [
    `Machine: ${machine()}; load average before: ${load1.toFixed(1)}.`,
    '',
    `Run: ${options.series} series, ${options.steps} scrapes of ${INTERVAL_S} s, queries with a step of ${STEP_S} s, ` +
      `median of ${options.repeats}; ${options.active} active series for memory and restart.` +
      `${isFull ? '' : ' **A short run: these figures are to be replaced by a full one.**'}`,
    '',
    figures.tables({ holdfast: 'Holdfast', victoria: 'VictoriaMetrics', prometheus: 'Prometheus' }),
  ].join('\n');
  if (options.write) writeBetween(DOCUMENT, 'bench-metrics', text);
  say(figures.missed.length ? `missed: ${figures.missed.map(({ name }) => name).join(', ')}` : 'no target missed');
  return figures.missed.length ? 1 : 0;
}

let status = 1;
try {
  status = await main();
} catch (error) {
  console.error(error.message, error.cause ?? '');
} finally {
  await stopAll().catch((error) => {
    console.error(error.message);
    status = 1;
  });
}
process.exit(status);
