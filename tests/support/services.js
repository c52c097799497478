// What an application needs around it, each on a free loopback port in a temporary folder.

import { createHmac, timingSafeEqual } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { atEnd, eventually, freePort, run, startComponent, temporaryFolder, within } from './processes.js';

export { freePort, stopAll } from './processes.js';

const POSTGRES = '/usr/lib/postgresql/15/bin';
const PROVIDERS = fileURLToPath(new URL('../../examples/market-pulse/providers/main.js', import.meta.url));
const SIGNATURE_AGE_MAX_S = 5 * 60;
const BODY_MAX = 1024 * 1024;

/** {port, createDatabase(name) → url, connect(url) → pg.Client, stop()}. Nothing is synced to disk. */
export async function startPostgres() {
  const user = 'postgres'; // the server refuses to be root
  const folder = temporaryFolder('postgres', 0o777);
  const data = join(folder, 'data');
  const drop = process.getuid() === 0 ? ['setpriv', '--reuid', user, '--regid', user, '--clear-groups'] : ['env'];
  const made = await run(
    drop[0],
    [
      ...drop.slice(1),
      `${POSTGRES}/initdb`,
      '-D',
      data,
      '-U',
      user,
      '-A',
      'trust',
      '-E',
      'UTF8',
      '--locale',
      'C',
      '--no-sync',
      '--no-instructions',
    ],
    { cwd: folder },
  );
  if (made.status !== 0) throw new Error(`initdb failed:\n${made.stdout}${made.stderr}`);
  const port = await freePort();
  const settings = {
    listen_addresses: '127.0.0.1',
    port,
    unix_socket_directories: '',
    max_connections: 200,
    shared_buffers: '32MB',
    fsync: 'off',
    synchronous_commit: 'off',
    full_page_writes: 'off',
    autovacuum: 'off',
  };
  const server = await startComponent({
    name: 'PostgreSQL',
    command: `${POSTGRES}/postgres`,
    user,
    cwd: folder,
    death: 'INT',
    stop: 'SIGINT', // the fast shutdown
    args: ['-D', data, ...Object.entries(settings).flatMap(([key, value]) => ['-c', `${key}=${value}`])],
    ready: /database system is ready to accept connections/,
  });
  const url = (database) => `postgres://${user}@127.0.0.1:${port}/${database}`;
  const clients = new Set();

  async function connect(address = url('postgres')) {
    const client = new pg.Client({ connectionString: address });
    client.on('error', () => clients.delete(client)); // the server went away; the next query says so
    await client.connect();
    clients.add(client);
    return client;
  }

  return {
    port,
    connect,
    kill: server.kill,
    output: server.output,
    async createDatabase(name) {
      const client = await connect();
      await client.query(`CREATE DATABASE ${client.escapeIdentifier(name)}`);
      clients.delete(client);
      await client.end();
      return url(name);
    },
    async stop() {
      await Promise.all([...clients].map((client) => client.end().catch(() => {})));
      await server.stop();
    },
  };
}

/** {port, url, stop()}. Nothing is saved. */
export async function startRedis() {
  const port = await freePort();
  const server = await startComponent({
    name: 'Redis',
    command: 'redis-server',
    cwd: temporaryFolder('redis'),
    args: ['--port', port, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'].map(String),
    ready: /Ready to accept connections/,
  });
  return { port, url: `redis://127.0.0.1:${port}/0`, stop: server.stop, kill: server.kill, output: server.output };
}

/**
 * The market-data providers' simulator: {ports, variables, secrets, control(name, switches), stop()}. `variables` and
 * `secrets` are what Market Pulse needs to know of it. Quotas are wide unless `env` narrows them.
 */
export async function startProviders(env = {}) {
  const quotas = { ALPHA_QUOTA: '100000', BETA_QUOTA: '100000', GAMMA_QUOTA: '100000' };
  const server = await startComponent({
    name: 'the providers',
    command: process.execPath,
    args: [PROVIDERS],
    env: { PORTS: '0,0,0', ...quotas, ...env },
    ready: /^\{.*"ready":true.*\}$/m,
  });
  const { ports } = JSON.parse(server.line);
  const address = (name) => `http://127.0.0.1:${ports[name]}`;
  return {
    ports,
    variables: {
      PROVIDERS: Object.keys(ports)
        .map((name) => `${name}=${address(name)}`)
        .join(' '),
    },
    secrets: {
      PROVIDER_KEYS_ALPHA: 'demo-alpha-1,demo-alpha-2',
      PROVIDER_KEYS_BETA: 'demo-beta-1',
      PROVIDER_KEYS_GAMMA: 'demo-gamma-1',
    },
    async control(name, switches) {
      const answer = await fetch(`${address(name)}/control`, { method: 'POST', body: JSON.stringify(switches) });
      if (!answer.ok)
        throw new Error(`the provider ${name} refused ${JSON.stringify(switches)}: ${await answer.text()}`);
      return answer.json();
    },
    stop: server.stop,
    kill: server.kill,
  };
}

/**
 * HAProxy with a hand-written configuration, as a reference and for tests of these tools. `servers` are ports of
 * 127.0.0.1, or {port, options}; they are app/s0, app/s1, … `backend` is lines for the backend.
 * {port, pid, command(text) → answer of the Runtime API, inFlight(server), reload({servers, backend}), stop()}
 */
export async function startHaproxy(given) {
  const port = await freePort();
  const folder = temporaryFolder('haproxy');
  const file = join(folder, 'haproxy.cfg');
  const socket = join(folder, 'socket');
  const write = ({ servers, backend = '' }) =>
    writeFileSync(
      file,
      [
        'global',
        '  maxconn 4000',
        '  nbthread 1',
        `  stats socket ${socket} mode 600 level admin expose-fd listeners`,
        'defaults',
        '  mode http',
        '  timeout connect 2s',
        '  timeout client 60s',
        '  timeout server 30s',
        '  timeout tunnel 1h',
        'frontend web',
        `  bind 127.0.0.1:${port}`,
        '  default_backend app',
        'backend app',
        ...backend.split('\n').map((line) => `  ${line.trim()}`),
        ...servers.map((server, i) => `  server s${i} 127.0.0.1:${server.port ?? server} ${server.options ?? ''}`),
        '',
      ].join('\n'),
    );
  write(given);
  const server = await startComponent({
    name: 'HAProxy',
    command: 'haproxy',
    args: ['-W', '-f', file],
    ready: /Loading success/,
  });

  function command(text) {
    return new Promise((resolve, reject) => {
      let answer = '';
      net
        .connect(socket)
        .setEncoding('utf8')
        .on('data', (chunk) => {
          answer += chunk;
        })
        .on('end', () => resolve(answer.trim()))
        .on('error', reject)
        .end(`${text}\n`);
    });
  }

  return {
    ...server,
    port,
    command,
    /** Requests and streams that a server is busy with. */
    async inFlight(name) {
      const [head, ...rows] = (await command('show stat app 4 -1'))
        .replace(/^# /, '')
        .split('\n')
        .map((line) => line.split(','));
      return Number(rows.find((row) => row[1] === name)[head.indexOf('scur')]);
    },
    /** What a plain set-up does to switch: another configuration, and SIGUSR2. Returns when the new worker is there. */
    async reload(changed) {
      const worker = async () => /^Pid: (\d+)$/m.exec(await command('show info'))[1];
      const before = await worker();
      write(changed);
      process.kill(server.pid, 'SIGUSR2');
      await eventually(async () => (await worker()) !== before, { what: 'the reload of HAProxy' });
    },
  };
}

/**
 * An HTTP server that records what it is sent: {port, url, requests, next(wanted, ms), answer(status), stop()}.
 * A request is {time, method, path, headers, body (text), json}.
 */
export async function startReceiver() {
  const requests = [];
  const waiting = new Set();
  let status = 200;
  const server = http.createServer(async (req, res) => {
    let body = '';
    for await (const chunk of req.setEncoding('utf8')) if ((body += chunk).length > BODY_MAX) return req.destroy();
    const request = {
      time: Date.now(),
      method: req.method,
      path: req.url,
      headers: req.headers,
      body,
      json: parse(body),
    };
    requests.push(request);
    res.writeHead(status).end();
    for (const look of waiting) look(request);
  });
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address();
  const stop = () =>
    new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    });
  const forget = atEnd(stop);
  let taken = 0;
  return {
    port,
    url: `http://127.0.0.1:${port}/`,
    requests,
    answer(value) {
      status = value;
    },
    /** The first request, of those after the one this returned last, that `wanted` accepts. */
    async next(wanted = () => true, ms = 10_000) {
      const at = requests.findIndex((request, i) => i >= taken && wanted(request));
      if (at >= 0) {
        taken = at + 1;
        return requests[at];
      }
      let look;
      const arrival = new Promise((resolve) => {
        look = (request) => wanted(request) && resolve(request);
        waiting.add(look);
      });
      const request = await within(ms, arrival);
      waiting.delete(look);
      if (!request)
        throw new Error(
          `no such request within ${ms} ms; there were ${requests.length}: ${JSON.stringify(requests.slice(-5))}`,
        );
      taken = requests.indexOf(request) + 1;
      return request;
    },
    async stop() {
      forget();
      await stop();
    },
  };
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Why a recorded request is no valid Standard Webhooks message under `secret` ("whsec_…"); undefined if it is. */
export function webhookProblem({ headers, body }, secret, nowMs = Date.now()) {
  const [id, timestamp, signatures] = ['webhook-id', 'webhook-timestamp', 'webhook-signature'].map(
    (name) => headers[name],
  );
  if (!id || !timestamp || !signatures)
    return 'a webhook-id, webhook-timestamp or webhook-signature header is missing';
  if (!/^\d+$/.test(timestamp) || Math.abs(nowMs / 1000 - timestamp) > SIGNATURE_AGE_MAX_S)
    return `the timestamp ${timestamp} is not of now`;
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
  const wanted = Buffer.from(createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64'));
  const good = signatures.split(' ').some((entry) => {
    const [version, signature = ''] = entry.split(',');
    const given = Buffer.from(signature);
    return version === 'v1' && given.length === wanted.length && timingSafeEqual(given, wanted);
  });
  return good ? undefined : 'no signature fits the body and the secret';
}
