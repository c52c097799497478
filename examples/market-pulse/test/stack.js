// The real things the server needs, started on free ports in a temporary folder and stopped by stop().

import { execFileSync, spawn } from 'node:child_process';
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

const here = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));

const freePort = () => new Promise((resolve) => {
  const probe = net.createServer().listen(0, '127.0.0.1', () => {
    const { port } = probe.address();
    probe.close(() => resolve(port));
  });
});

/** Polls `check` until it returns something; a thrown error counts as not yet. */
export async function until(check, what, ms = 10_000) {
  const deadline = Date.now() + ms;
  for (let last; ; await sleep(20)) {
    try {
      const result = await check();
      if (result) return result;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`waited ${ms} ms for ${what}: ${last?.message ?? ''}`);
  }
}

function postgresFolder() {
  const root = '/usr/lib/postgresql';
  const version = existsSync(root) && readdirSync(root).sort((a, b) => b - a)[0];
  if (!version) throw new Error('PostgreSQL is missing; apt-get install postgresql redis-server');
  return `${root}/${version}/bin`;
}

// PostgreSQL refuses to run as root.
function ordinaryUser() {
  if (process.getuid() !== 0) return {};
  const id = (flag) => Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}

export async function startStack() {
  const folder = mkdtempSync(join(tmpdir(), 'market-pulse-'));
  const user = ordinaryUser();
  if (user.uid) chownSync(folder, user.uid, user.gid);
  const children = new Set();

  function run(command, args, options = {}) {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'], ...options });
    child.exited = new Promise((resolve) => { child.on('exit', (code, signal) => resolve(code ?? signal)); });
    child.exited.then(() => children.delete(child));
    children.add(child);
    return child;
  }

  async function end(child, signal) {
    child.kill(signal);
    return child.exited;
  }

  const bin = postgresFolder();
  const data = join(folder, 'data');
  execFileSync(`${bin}/initdb`, ['-D', data, '-A', 'trust', '-U', 'app', '--no-sync', '-E', 'UTF8', '--locale=C'], { ...user, cwd: folder, stdio: 'ignore' });
  const [pgPort, redisPort] = [await freePort(), await freePort()];
  const databaseUrl = `postgres://app@127.0.0.1:${pgPort}/postgres`;
  const startPostgres = () => run(`${bin}/postgres`,
    ['-D', data, '-p', pgPort, '-k', folder, '-c', 'listen_addresses=127.0.0.1', '-c', 'fsync=off'],
    { ...user, cwd: folder, stdio: 'ignore' });
  const startRedis = () => run('redis-server', ['--port', redisPort, '--bind', '127.0.0.1', '--save', '', '--dir', folder], { ...user, stdio: 'ignore' });

  const stack = {
    postgres: startPostgres(),
    redis: startRedis(),
    startRedis: () => { stack.redis = startRedis(); },
    startPostgres: () => { stack.postgres = startPostgres(); },
    end,

    async sql(text, values) {
      const client = new pg.Client(databaseUrl);
      await client.connect();
      try {
        return (await client.query(text, values)).rows;
      } finally {
        await client.end();
      }
    },

    /** Sets a provider's switches; returns its state. */
    async control(name, switches) {
      const response = await fetch(`http://127.0.0.1:${stack.ports[name]}/control`,
        switches && { method: 'POST', body: JSON.stringify(switches) });
      if (!response.ok) throw new Error(await response.text());
      return response.json();
    },

    async calm() {
      const off = { outage: false, rate_limit: false, latency_ms: 0, wrong_prices: false };
      await Promise.all(Object.keys(stack.ports).map((name) => stack.control(name, off)));
    },

    /** A server with its `url`, its `log` (parsed lines) and `exited`; ready unless told otherwise. */
    async server(env = {}, { ready = true } = {}) {
      const child = run(process.execPath, [here('server/main.js')], { env: {
        PATH: process.env.PATH, PORT: '0', DATABASE_URL: databaseUrl, REDIS_URL: `redis://127.0.0.1:${redisPort}/0`,
        PROVIDERS: Object.entries(stack.ports).map(([name, port]) => `${name}=http://127.0.0.1:${port}`).join(' '),
        PROVIDER_KEYS_ALPHA: 'demo-alpha-1,demo-alpha-2', PROVIDER_KEYS_BETA: 'demo-beta-1', PROVIDER_KEYS_GAMMA: 'demo-gamma-1',
        HOLDFAST_RELEASE: 'r-1', HOLDFAST_INSTANCE: 'web-1', LOG_LEVEL: 'debug', ...env,
      } });
      const log = [];
      createInterface(child.stdout).on('line', (line) => log.push(JSON.parse(line)));
      const { port } = await until(() => log.find((line) => line.message === 'listening'), 'the server to listen');
      const server = Object.assign(child, { log, port, url: `http://127.0.0.1:${port}` });
      if (ready) await until(async () => (await fetch(`${server.url}/readyz`)).ok, 'the server to be ready');
      return server;
    },

    async stop() {
      // SIGQUIT is PostgreSQL's immediate shutdown; SIGKILL would leave its own children behind.
      await Promise.all([...children].map((child) => end(child, child === stack.postgres ? 'SIGQUIT' : 'SIGKILL')));
      rmSync(folder, { recursive: true, force: true });
    },
  };

  try {
    await new Promise((resolve, reject) => { stack.redis.once('spawn', resolve).once('error', reject); });
    const providers = run(process.execPath, [here('providers/main.js')],
      { env: { PATH: process.env.PATH, PORTS: '0', ALPHA_QUOTA: '1000', BETA_QUOTA: '1000', GAMMA_QUOTA: '1000' } });
    const line = await new Promise((resolve) => { createInterface(providers.stdout).once('line', resolve); });
    stack.ports = JSON.parse(line).ports;
    await until(() => stack.sql('SELECT 1'), 'PostgreSQL');
    return stack;
  } catch (error) {
    await stack.stop();
    throw error;
  }
}

export async function get(server, path, options) {
  const response = await fetch(server.url + path, options);
  const text = await response.text();
  const json = response.headers.get('content-type')?.startsWith('application/json') ? JSON.parse(text) : undefined;
  return { status: response.status, headers: response.headers, text, json };
}

export const post = (server, path, body, headers = {}) => get(server, path, {
  method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: typeof body === 'string' ? body : JSON.stringify(body),
});
