// What scripts/demo needs beyond a shell. Node alone, no library, so that it runs on a machine where nothing else is.
//
//     demo-tools.js port N OTHER...  port N of 127.0.0.1 when it is free, else the next free one that is none of OTHER
//     demo-tools.js load PORT        requests until SIGTERM, then what came of them as one line of JSON
//     demo-tools.js stop DATA        ends the applications and the proxy of a Holdfast data folder

import { randomUUID } from 'node:crypto';
import { readdirSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const PORTS_TRIED = 200;
const KEPT_CONNECTIONS = 6;
const FRESH_CONNECTIONS = 2; // a new one for each request
const PAUSE_MS = 60; // of each connection between two requests
const REQUEST_MS_MAX = 10_000;
const STOP_MS_MAX = 40_000; // longer than an instance may take
const ANSWER_MS_MAX = 5000;

function isFree(port) {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}

async function port(wanted, ...others) {
  for (let n = Number(wanted); n < Number(wanted) + PORTS_TRIED; n += 1)
    if (!others.includes(String(n)) && (await isFree(n))) return n;
  throw new Error(`no port from ${wanted} on is free`);
}

const PAGES = ['/', '/api/version', '/api/symbols?q=apple', '/api/quotes?symbols=AAPL,MSFT', '/livez'];

/** {release, failure}: who answered, and what was wrong. One request in ten is a POST. */
function request(to, agent, n) {
  const alert = n % 10 === 0 ? JSON.stringify({ symbol: 'AAPL', above: 100 + n }) : undefined;
  const headers = alert ? { 'content-type': 'application/json', 'idempotency-key': randomUUID() } : {};
  const path = alert ? '/api/alerts/demo' : PAGES[n % PAGES.length];
  return new Promise((resolve) => {
    const sent = http.request(
      { host: '127.0.0.1', port: to, path, agent, method: alert ? 'POST' : 'GET', headers, timeout: REQUEST_MS_MAX },
      (response) => {
        const release = response.headers['x-release'];
        const good = response.statusCode >= 200 && response.statusCode < 300;
        response
          .on('error', (error) => resolve({ failure: `${path}: ${error.message}` }))
          .on('end', () => resolve({ release, failure: good ? undefined : `${path}: status ${response.statusCode}` }))
          .resume();
      },
    );
    sent.on('timeout', () => sent.destroy(new Error('no answer in time')));
    sent.on('error', (error) => resolve({ failure: `${path}: ${error.message}` }));
    sent.end(alert);
  });
}

async function load(to) {
  const total = { requests: 0, failed: 0, releases: {}, failures: [] };
  const kept = new http.Agent({ keepAlive: true, maxSockets: KEPT_CONNECTIONS });
  let stopping = false;
  process.on('SIGTERM', () => {
    stopping = true;
  });
  async function connection(agent) {
    while (!stopping) {
      total.requests += 1;
      const { release, failure } = await request(Number(to), agent, total.requests);
      if (release) total.releases[release] = (total.releases[release] ?? 0) + 1;
      if (failure) {
        total.failed += 1;
        if (total.failures.length < 10) total.failures.push(failure);
      }
      await sleep(PAUSE_MS);
    }
  }
  const agents = [...Array(KEPT_CONNECTIONS).fill(kept), ...Array(FRESH_CONNECTIONS).fill(false)];
  await Promise.all(agents.map(connection));
  kept.destroy();
  return JSON.stringify(total);
}

/** The pid of the shim that listens on `path`; undefined when none does. */
function shimAt(path) {
  return new Promise((resolve) => {
    let answer = '';
    const socket = net.connect(path, () => socket.write('{"do":"status"}\n'));
    socket.setTimeout(ANSWER_MS_MAX, () => socket.destroy());
    socket.on('error', () => {});
    socket.on('close', () => resolve(undefined));
    socket.on('data', (chunk) => {
      answer += chunk;
      const end = answer.indexOf('\n');
      if (end < 0) return;
      resolve(JSON.parse(answer.slice(0, end)).shim_pid);
      socket.destroy();
    });
  });
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** A shim that is told to end takes its application with it. The proxy goes last, so that nobody meets a gap before. */
async function stop(data) {
  const names = (folder) => {
    try {
      return readdirSync(folder).filter((name) => name.endsWith('.sock'));
    } catch {
      return [];
    }
  };
  const shims = join(data, 'run/shims');
  const groups = [names(shims).map((name) => join(shims, name)), [join(data, 'run/haproxy/shim.sock')]];
  for (const paths of groups) {
    const pids = (await Promise.all(paths.map(shimAt))).filter(Boolean);
    for (const pid of pids) process.kill(pid, 'SIGTERM');
    const end = Date.now() + STOP_MS_MAX;
    while (pids.some(isAlive)) {
      if (Date.now() > end) throw new Error(`process ${pids.filter(isAlive).join(', ')} does not end`);
      await sleep(50);
    }
  }
  return undefined;
}

const [command, ...words] = process.argv.slice(2);
try {
  const output = await { port, load, stop }[command](...words);
  if (output !== undefined) console.log(String(output));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
