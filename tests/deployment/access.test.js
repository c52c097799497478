// Who may do what, what is written down of it, and what is not to be read anywhere.

import assert from 'node:assert/strict';
import { lstatSync, readdirSync, readFileSync, statSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { tinySite } from '../support/deployment.js';
import { startHoldfast } from '../support/holdfast.js';
import { eventually, run, stopAll } from '../support/processes.js';

const SECRET = 'Zq7-correct-horse-battery-staple';

let holdfast;
let site;
const tokens = {};
before(async () => {
  holdfast = await startHoldfast();
  site = await tinySite(holdfast, { secrets: ['PASSWORD'] });
  await holdfast.setSecrets('production', { PASSWORD: SECRET }, { cwd: site.app.folder });
  await site.deployed();
  for (const role of ['viewer', 'operator', 'admin']) tokens[role] = await createToken(role);
});
after(stopAll);

async function createToken(role, ...options) {
  const { text, token } = await site.ask(['token', 'create', `a-${role}`, '--role', role, ...options]);
  return { text, id: token.id };
}

/** One request over TCP: {status, headers, body, json}. */
async function ask(method, path, { token, body, headers } = {}) {
  const response = await fetch(`${holdfast.url}${path}`, {
    method,
    headers: { ...(token && { authorization: `Bearer ${token}` }), ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  let json;
  try {
    json = JSON.parse(text);
  } catch {
    /* a stream, or no JSON */
  }
  return { status: response.status, headers: response.headers, body: text, json };
}

const wish = () => ({
  specification: site.app.read('holdfast.yml'),
  file: 'holdfast.yml',
  environment: 'production',
  source: site.app.folder,
});

const audit = async (count = 200) => (await site.ask(['audit', '--limit', `${count}`])).audit;

/** What is asked, the least role for it, and by which action the audit knows it. */
const ROUTES = [
  ['GET', '/holdfast/v1/status', 'viewer'],
  ['GET', '/holdfast/v1/releases', 'viewer'],
  ['GET', '/holdfast/v1/operations', 'viewer'],
  ['POST', '/holdfast/v1/builds', 'operator', 'build'],
  ['POST', '/holdfast/v1/deploys', 'operator', 'deploy'],
  ['POST', '/holdfast/v1/rollbacks', 'operator', 'rollback'],
  ['POST', '/holdfast/v1/operations/op-none/cancel', 'operator', 'cancel'],
  ['PUT', '/holdfast/v1/secrets/x/production/NAME', 'admin', 'secret.set'],
  ['DELETE', '/holdfast/v1/secrets/x/production/NAME', 'admin', 'secret.remove'],
  ['GET', '/holdfast/v1/tokens', 'admin'],
  ['POST', '/holdfast/v1/tokens', 'admin', 'token.create'],
  ['DELETE', '/holdfast/v1/tokens/none', 'admin', 'token.revoke'],
  ['GET', '/holdfast/v1/audit', 'admin'],
];
const ROLES = ['viewer', 'operator', 'admin'];

test('every route over TCP needs a token of its role; every refusal of a change is written down', async () => {
  for (const [method, path, least, action] of ROUTES) {
    const what = `${method} ${path}`;
    const [{ sequence: last }] = await audit(1);
    const body = method === 'POST' || method === 'PUT' ? {} : undefined;
    const none = await ask(method, path, { body });
    assert.equal(none.status, 401, what);
    assert.ok(none.headers.get('www-authenticate'), what);
    const forged = await ask(method, path, { body, token: `${tokens.admin.text.slice(0, -1)}_` });
    assert.equal(forged.status, 401, what);
    for (const role of ROLES) {
      const { status } = await ask(method, path, { body, token: tokens[role].text });
      if (ROLES.indexOf(role) < ROLES.indexOf(least)) assert.equal(status, 403, `${what} as ${role}`);
      else assert.ok(status !== 401 && status !== 403, `${what} as ${role}: ${status}`);
    }
    if (!action) continue;
    const entries = (await audit()).filter((entry) => entry.sequence > last && entry.action === action);
    const refused = entries.filter(({ outcome }) => outcome !== 'ok');
    assert.ok(refused.length >= 2 + ROLES.indexOf(least), `${what}: ${JSON.stringify(entries)}`);
    assert.ok(refused.some(({ actor }) => actor.includes('a-viewer')), `${what}: ${JSON.stringify(entries)}`);
  }
});

test('liveness and readiness need no token and tell nothing else', async () => {
  for (const path of ['/livez', '/readyz', '/healthz']) {
    const { status, body } = await ask('GET', path);
    assert.equal(status, 200);
    assert.ok(!body.includes(holdfast.data) && !body.includes('tiny'), body);
  }
});

test('an operator deploys from elsewhere by URL and token; a viewer is refused, exit 4', async () => {
  const remote = (command, role, ...args) =>
    site.run([command, ...args, '--server', holdfast.url, '--json'], {
      env: { HOLDFAST_TOKEN: tokens[role].text, HOLDFAST_DATA: '/nonexistent' },
    });
  const { artifact } = (await site.status()).current;
  const refused = await remote('deploy', 'viewer', 'production', '--artifact', artifact);
  assert.equal(refused.status, 4, refused.stderr);
  assert.match(refused.stdout + refused.stderr, /needs the role operator.*has the role viewer/);
  const looked = await remote('status', 'viewer');
  assert.equal(looked.status, 0);
  const source = await remote('deploy', 'operator', 'production'); // it would run commands of any folder it names
  assert.equal(source.status, 4);
  assert.match(source.stdout + source.stderr, /--artifact/);
  const deployed = await remote('deploy', 'operator', 'production', '--artifact', artifact);
  assert.equal(deployed.status, 0, deployed.stderr);
  assert.match(deployed.events.at(-1).operation.actor, /a-operator/);
  const [entry] = (await audit()).filter(({ action, outcome }) => action === 'deploy' && outcome === 'ok');
  assert.deepEqual([entry.role, entry.target], ['operator', `${site.name}/production`]);
  assert.match(entry.actor, /a-operator/);
  assert.match(entry.peer, /127\.0\.0\.1/);
});

test('a revoked token is refused from then on', async () => {
  const { text, id } = await createToken('viewer');
  assert.equal((await ask('GET', '/holdfast/v1/status', { token: text })).status, 200);
  await site.run(['token', 'revoke', id]);
  const after_ = await ask('GET', '/holdfast/v1/status', { token: text });
  assert.equal(after_.status, 401);
  await holdfast.restart();
  assert.equal((await ask('GET', '/holdfast/v1/status', { token: text })).status, 401);
  const list = await site.ask(['token', 'list']);
  assert.ok(list.tokens.find((token) => token.id === id).revoked);
});

test('an expired token is refused', async () => {
  const { text, id } = await createToken('viewer', '--days', '1');
  const { tokens: list } = await site.ask(['token', 'list']);
  const { created, expires } = list.find((token) => token.id === id);
  assert.equal(Date.parse(expires) - Date.parse(created), 86_400_000);
  // the daemon under a clock that is two days ahead
  await holdfast.stop();
  const edited = await run('python3', [
    '-c',
    'import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.execute("UPDATE token SET expires=created+1 WHERE id=?",(sys.argv[2],)); c.commit()',
    join(holdfast.data, 'catalog.db'),
    id,
  ]);
  assert.equal(edited.status, 0, edited.stderr);
  await holdfast.start();
  const { status, json } = await ask('GET', '/holdfast/v1/status', { token: text });
  assert.equal(status, 401);
  assert.match(json.error.message, /expired|not valid|invalid|token/);
});

test('tokens and secrets are in no file but those of their own, and in no command line', async () => {
  const admin = readFileSync(join(holdfast.data, 'keys/admin.token'), 'utf8').trim();
  const texts = { admin, ...Object.fromEntries(Object.entries(tokens).map(([role, { text }]) => [role, text])), SECRET };
  for (const file of filesOf(holdfast.data)) {
    const bytes = readFileSync(file);
    for (const [name, text] of Object.entries(texts)) {
      if (name === 'admin' && file === join(holdfast.data, 'keys/admin.token')) continue;
      assert.ok(!bytes.includes(text), `${file} holds ${name}`);
    }
  }
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    let line = '';
    try {
      line = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    } catch {
      continue; // it is gone
    }
    for (const text of Object.values(texts)) assert.ok(!line.includes(text), `process ${pid}`);
  }
  assert.ok(!holdfast.output().includes(SECRET));
  assert.ok(!JSON.stringify(await audit()).includes(SECRET));
  assert.ok(!(await site.run(['secret', 'list', 'production', '--json'])).stdout.includes(SECRET));
});

function filesOf(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesOf(path) : entry.isFile() ? [path] : [];
  });
}

test('the data folder’s keys, catalog and sockets are for their own user', () => {
  const mode = (path) => lstatSync(join(holdfast.data, path)).mode & 0o777;
  assert.equal(mode('keys'), 0o700);
  assert.equal(mode('artifacts'), 0o700);
  for (const file of ['keys/admin.token', 'keys/secret.key', 'keys/artifact.key', 'run/holdfast.sock', 'catalog.db'])
    assert.equal(mode(file), 0o600, file);
  for (const name of readdirSync(join(holdfast.data, 'run/shims')))
    assert.equal(mode(`run/shims/${name}`) & 0o077, 0, name);
  for (const file of filesOf(holdfast.data)) {
    assert.equal(statSync(file).mode & 0o002, 0, `${file} can be written by anybody`);
    if (file.endsWith('.ndjson')) assert.equal(statSync(file).mode & 0o077, 0, `${file}, what the application says`);
  }
});

test('another user of the machine cannot use the socket', { skip: process.getuid() !== 0 && 'needs root' }, async () => {
  const result = await run('setpriv', ['--reuid', 'nobody', '--clear-groups', holdfast.binary, 'status', '--data', holdfast.data]);
  assert.notEqual(result.status, 0);
  assert.match(result.stderr, /another user|permission|Permission/);
});

test('a secret reaches the instances and nobody else', async () => {
  const { instances } = await site.status();
  const { pid } = instances.find(({ traffic }) => traffic === 'active');
  assert.ok(readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').includes(`PASSWORD=${SECRET}`));
});

/** What the daemon answers to raw bytes, until it closes: {text, ms}. */
function raw(parts, { port = holdfast.port, everyMs = 0 } = {}) {
  return new Promise((resolve, reject) => {
    const began = performance.now();
    let text = '';
    let timer;
    const socket = net.connect(port, '127.0.0.1');
    const send = (rest) => {
      if (!rest.length || socket.destroyed) return;
      socket.write(rest[0]);
      timer = setTimeout(() => send(rest.slice(1)), everyMs);
    };
    socket.setEncoding('latin1').on('data', (chunk) => {
      text += chunk;
    });
    socket.on('connect', () => send(parts));
    socket.on('error', (error) => (error.code === 'ECONNRESET' || error.code === 'EPIPE' ? undefined : reject(error)));
    socket.on('close', () => {
      clearTimeout(timer);
      resolve({ text, ms: performance.now() - began });
    });
  });
}

test('requests that two readers could understand differently are refused, and the connection is closed', async () => {
  const head = 'Host: x\r\n';
  const bad = {
    'CL and TE': `POST /holdfast/v1/deploys HTTP/1.1\r\n${head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    'two lengths': `POST /holdfast/v1/deploys HTTP/1.1\r\n${head}Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd`,
    'a length that is none': `POST /holdfast/v1/deploys HTTP/1.1\r\n${head}Content-Length: +4\r\n\r\nabcd`,
    'a negative length': `POST /holdfast/v1/deploys HTTP/1.1\r\n${head}Content-Length: -4\r\n\r\nabcd`,
    'an unknown coding': `POST /holdfast/v1/deploys HTTP/1.1\r\n${head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
    'no host': 'GET /readyz HTTP/1.1\r\n\r\n',
    'two hosts': `GET /readyz HTTP/1.1\r\n${head}${head}\r\n`,
    'a space before the colon': `GET /readyz HTTP/1.1\r\n${head}Content-Length : 4\r\n\r\nabcd`,
    'a folded header': `GET /readyz HTTP/1.1\r\n${head}X-A: 1\r\n 2\r\n\r\n`,
  };
  for (const [name, bytes] of Object.entries(bad)) {
    const smuggled = 'GET /livez HTTP/1.1\r\nHost: smuggled\r\n\r\n';
    const { text } = await raw([bytes + smuggled]);
    assert.match(text, /^HTTP\/1\.1 (4\d\d|501) /, `${name}: ${text.slice(0, 200)}`);
    assert.doesNotMatch(text, /^ok$|HTTP\/1\.1 [123]/m, `${name}: the second request was answered`);
  }
});

test('headers and bodies have caps', async () => {
  const long = await raw([`GET /readyz HTTP/1.1\r\nHost: x\r\nX-Long: ${'a'.repeat(200_000)}\r\n\r\n`]);
  assert.match(long.text, /^HTTP\/1\.1 (431|400|413) /);
  const many = await raw([`GET /readyz HTTP/1.1\r\nHost: x\r\n${'X-A: 1\r\n'.repeat(20_000)}\r\n`]);
  assert.match(many.text, /^HTTP\/1\.1 (431|400|413) /);
  const big = await ask('POST', '/holdfast/v1/tokens', { token: tokens.admin.text, body: { name: 'x'.repeat(100_000) } });
  assert.equal(big.status, 413);
  assert.equal((await ask('GET', '/livez')).status, 200);
});

test('clients that are slow on purpose are cut off, and keep nobody else waiting', { timeout: 60_000 }, async () => {
  const slow = [];
  for (let i = 0; i < 40; i += 1)
    slow.push(raw([...'GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: '].concat(Array(2000).fill('a')), { everyMs: 100 }));
  const body = raw(
    [
      `POST /holdfast/v1/deploys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${tokens.operator.text}\r\nContent-Length: 3000\r\n\r\n`,
    ].concat(Array(2000).fill('a')),
    { everyMs: 100 },
  );
  const began = Date.now();
  while (Date.now() - began < 2000) {
    const asked = performance.now();
    assert.equal((await ask('GET', '/livez')).status, 200);
    assert.ok(performance.now() - asked < 1000);
    assert.equal((await site.run(['status'])).status, 0);
  }
  const ends = await Promise.all([...slow, body]);
  for (const { ms, text } of ends) {
    assert.ok(ms < 45_000, `a slow client was kept for ${ms} ms`);
    assert.doesNotMatch(text, /^HTTP\/1\.1 2/);
  }
});

test('a thousand idle connections, and one that asks', async () => {
  const idle = [];
  for (let i = 0; i < 1000; i += 1) idle.push(net.connect(holdfast.port, '127.0.0.1').on('error', () => {}));
  const answered = () =>
    new Promise((resolve) => {
      http
        .get({ port: holdfast.port, path: '/livez', agent: false, timeout: 1000 }, (res) => resolve(res.statusCode === 200))
        .on('error', () => resolve(false))
        .on('timeout', function late() {
          this.destroy();
        });
    });
  try {
    assert.equal((await site.run(['status'])).status, 0, 'the socket of the machine is served all the same');
  } finally {
    for (const socket of idle) socket.destroy();
  }
  await eventually(answered, { what: 'an answer once they are gone' });
});
