// Copies of the applications that tests deploy, changed as a test needs: settings, versions, and faults on purpose.

import { chmodSync, cpSync, existsSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { temporaryFolder } from './processes.js';

const MARKET_PULSE = fileURLToPath(new URL('../../examples/market-pulse', import.meta.url));
const TINY = fileURLToPath(new URL('./tiny-app', import.meta.url));
const NOT_COPIED = ['node_modules', 'dist', '.git'];

/** A copy of Market Pulse. `listen` is {environment: 'host:port'}, `variables` {NAME: value} for each of these environments. */
export function copyMarketPulse({ listen, variables = {} }) {
  const app = new App(MARKET_PULSE, 'server/main.js', 'package.json');
  for (const [environment, address] of Object.entries(listen)) {
    app.set(['environments', environment, 'listen'], address);
    for (const [name, value] of Object.entries(variables))
      app.set(['environments', environment, 'variables', name], value);
  }
  return app;
}

/** A copy of the tiny application, with its log of orders in `app.log`, outside the copy. */
export function copyTinyApp({ listen, variables = {} }) {
  const app = new App(TINY, 'main.js', 'version.txt');
  app.log = join(temporaryFolder('orders', 0o777), 'orders'); // instances run as another user
  writeFileSync(app.log, '');
  chmodSync(app.log, 0o666);
  app.set(['environments', 'production', 'listen'], listen);
  for (const [name, value] of Object.entries({ ...variables, STATE: app.log })) {
    app.set(['environments', 'production', 'variables', name], value);
  }
  return app;
}

// What a fault does, as the source of a module that the entry imports first. `on(handler)` sees each request before the
// application does; a handler that returns true has answered it.
const FAULTS = {
  /** Never becomes ready, though it serves. */
  neverReady: ({ path = '/readyz' }) =>
    `on((req, res) => pathOf(req) === ${JSON.stringify(path)} && answer(res, 503));`,
  /** Runs, and never listens. */
  neverListens: () =>
    `console.error('waiting for something that never comes');\nsetInterval(() => {}, 1000);\nawait new Promise(() => {});`,
  /** Ends at once, saying why. */
  crashAtStart: ({ message = 'broken on purpose: cannot start', code = 3 }) =>
    `console.error(${JSON.stringify(message)});\nprocess.exit(${Number(code)});`,
  /** Ends `ms` after the first request of the load, not of a health check or a smoke test. */
  crashAfterTraffic: ({ ms = 100, code = 4 }) => `on((req) => {
  if (req.headers['user-agent'] !== 'holdfast-load') return false;
  setTimeout(() => {
    console.error('broken on purpose: crashed under traffic');
    process.exit(${Number(code)});
  }, ${Number(ms)});
  return false;
});`,
  /** Answers everything but its health check with an error. */
  failSmoke: ({ status = 500, ready = '/readyz' }) =>
    `on((req, res) => pathOf(req) !== ${JSON.stringify(ready)} && answer(res, ${Number(status)}));`,
  /** Answers a share of the load with an error: what a canary should notice. */
  failSome: ({ share = 0.2, status = 500 }) =>
    `on((req, res) => req.headers['user-agent'] === 'holdfast-load' && Math.random() < ${Number(share)} && answer(res, ${Number(status)}));`,
  /** Is slow to answer anything. */
  slow: ({ ms = 1000 }) => `on((req, res, next) => {
  setTimeout(next, ${Number(ms)});
  return true;
});`,
  /** Ignores SIGTERM. */
  ignoreTerm: () => `const { on: listen } = process;
process.on = (event, handler) => (event === 'SIGTERM' ? listen.call(process, event, () => {}) : listen.call(process, event, handler));`,
};

const FAULT_HEAD = `// Written by a test: a fault on purpose.
import http from 'node:http';
const emit = http.Server.prototype.emit;
const pathOf = (req) => req.url.split('?')[0];
function answer(res, status) {
  res.writeHead(status, { 'content-type': 'text/plain', 'content-length': 7 });
  res.end('broken\\n');
  return true;
}
function on(handler) {
  http.Server.prototype.emit = function first(event, ...given) {
    if (event === 'request' && handler(...given, () => emit.call(this, event, ...given))) return true;
    return emit.call(this, event, ...given);
  };
}
`;

class App {
  #entry;
  #version;
  #whole = new Map(); // path -> text before a fault

  constructor(source, entry, version) {
    this.folder = join(temporaryFolder('app', 0o755), basename(source));
    this.#entry = entry;
    this.#version = version;
    // A link would be copied as a link, and edits would then reach the original.
    cpSync(realpathSync(source), this.folder, {
      recursive: true,
      dereference: true,
      filter: (path) => !NOT_COPIED.includes(basename(path)),
    });
  }

  read(path) {
    return readFileSync(join(this.folder, path), 'utf8');
  }

  write(path, text) {
    writeFileSync(join(this.folder, path), text);
  }

  /** Replaces `from` (text or pattern), which must be there exactly once. */
  edit(path, from, to) {
    const text = this.read(path);
    const times =
      typeof from === 'string'
        ? text.split(from).length - 1
        : [...text.matchAll(new RegExp(from, `${from.flags.replace('g', '')}g`))].length;
    if (times !== 1) throw new Error(`${path} has ${from} ${times} times instead of once`);
    this.write(path, typeof from === 'string' ? text.split(from).join(to) : text.replace(from, to));
  }

  /** Sets a value of holdfast.yml by its path of keys, replacing what is there; the value is written as JSON, which is YAML. */
  set(keys, value, file = 'holdfast.yml') {
    this.write(file, setInYaml(this.read(file), keys, JSON.stringify(value)));
  }

  /** Changes what the application says its version is, and with it the artifact. */
  setVersion(version) {
    if (this.#version.endsWith('.json')) this.edit(this.#version, /"version": "[^"]*"/, `"version": "${version}"`);
    else this.write(this.#version, `${version}\n`);
  }

  /** Breaks it: `kind` is one of neverReady, neverListens, crashAtStart, crashAfterTraffic, failSmoke, failSome, slow, ignoreTerm. */
  breakIt(kind, options = {}) {
    if (!FAULTS[kind]) throw new Error(`no fault "${kind}"; there are ${Object.keys(FAULTS).join(', ')}`);
    this.mend();
    const text = this.read(this.#entry);
    this.#whole.set(this.#entry, text);
    this.write(this.#entry, `import './fault.js';\n${text}`);
    this.write(this.#faultFile, FAULT_HEAD + FAULTS[kind](options) + '\n');
  }

  /** Takes the fault out again. */
  mend() {
    for (const [path, text] of this.#whole) this.write(path, text);
    this.#whole.clear();
    const fault = join(this.folder, this.#faultFile);
    if (existsSync(fault)) rmSync(fault);
  }

  get #faultFile() {
    return join(this.#entry, '..', 'fault.js');
  }
}

/** Sets one value in YAML of block mappings, indented by two; the rest of the text stays as it is. */
export function setInYaml(text, keys, value) {
  const lines = text.split('\n');
  let from = 0;
  let to = lines.length;
  const missing = [...keys];
  for (const key of keys) {
    const indent = '  '.repeat(keys.length - missing.length);
    const at = lines.findIndex((line, i) => i >= from && i < to && line.startsWith(`${indent}${key}:`));
    if (at < 0) break;
    missing.shift();
    let end = at + 1; // past what belongs to it: deeper lines, and blank ones and comments between them
    for (let i = end; i < to; i += 1) {
      if (lines[i].startsWith(`${indent}  `) && !/^\s*#/.test(lines[i])) end = i + 1;
      else if (lines[i].trim() && !/^\s*#/.test(lines[i])) break;
    }
    if (missing.length === 0) lines.splice(at, end - at, `${indent}${key}: ${value}`);
    else if (/:\s*[^#\s]/.test(lines[at].slice(indent.length + key.length))) {
      throw new Error(`cannot set ${keys.join('.')}: ${key} is written on one line`);
    }
    [from, to] = [at + 1, end];
  }
  if (missing.length) {
    const depth = keys.length - missing.length;
    const added = missing.map(
      (key, i) => `${'  '.repeat(depth + i)}${key}:${i === missing.length - 1 ? ` ${value}` : ''}`,
    );
    lines.splice(depth > 0 ? from : lines.at(-1) === '' ? lines.length - 1 : lines.length, 0, ...added);
  }
  return lines.join('\n');
}
