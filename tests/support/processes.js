// Child processes and temporary folders of a test, none of which may outlive it.
//
// Three nets: `after(stopAll)` in a test file, an exit hook here for a run that throws or is interrupted, and the
// kernel's parent-death signal for a run that is itself killed with SIGKILL.

import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const OUTPUT_MAX = 64 * 1024; // kept of each component, the newest
const PORT_FIRST = 20_000; // below the ephemeral range, where the load's own connections would take the port
const PORT_LAST = 32_000;

const running = new Set();
const folders = new Set();
const closers = new Set();
const portsGiven = new Set();

/** A port of 127.0.0.1 that nothing listens on and that this process has not given out before. */
export async function freePort() {
  for (let tries = 0; tries < 500; tries += 1) {
    const port = PORT_FIRST + Math.floor(Math.random() * (PORT_LAST - PORT_FIRST));
    if (!portsGiven.has(port) && (await isFree(port))) {
      portsGiven.add(port);
      return port;
    }
  }
  throw new Error(`no free port from ${PORT_FIRST} to ${PORT_LAST}`);
}

function isFree(port) {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** A folder that is removed at the end. `mode` lets another user in. */
export function temporaryFolder(name, mode = 0o700) {
  const folder = mkdtempSync(join(tmpdir(), `holdfast-test-${name}-`));
  chmodSync(folder, mode);
  folders.add(folder);
  return folder;
}

/** Adds `close()` (sync or async) to what stopAll() does before it kills the children. Returns a function that takes it back. */
export function atEnd(close) {
  closers.add(close);
  return () => closers.delete(close);
}

/**
 * Starts a component in its own process group and waits until its output matches `ready`.
 *
 * `user` is whom to run as when we are root. `death` is the signal the component gets should this process die, `stop` the
 * one that ends it in order.
 * Returns {pid, exited (a promise of {code, signal}), output(), line (the match), kill(signal), stop(signal, ms)}.
 * Errors: it exits or says nothing in time; the message carries what it said.
 */
export async function startComponent({
  name,
  command,
  args = [],
  env,
  cwd,
  ready,
  readyMs = 20_000,
  user,
  death = 'KILL',
  stop = 'SIGTERM',
}) {
  const drop = user && process.getuid() === 0 ? ['--reuid', user, '--regid', user, '--clear-groups'] : [];
  const child = spawn('setpriv', [...drop, '--pdeathsig', death, command, ...args], {
    cwd,
    env: { ...process.env, ...env },
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let listening = () => {};
  const take = (chunk) => {
    output = (output + chunk).slice(-OUTPUT_MAX);
    listening();
  };
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', take);

  const component = {
    name,
    pid: child.pid,
    output: () => output,
    exited: new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) => {
        running.delete(component);
        resolve({ code, signal });
      });
    }),
    kill(signal = 'SIGKILL') {
      if (running.has(component)) killGroup(child.pid, signal);
    },
    async stop(signal = stop, ms = 10_000) {
      if (!running.has(component)) return;
      component.kill(signal);
      if (await within(ms, component.exited)) return;
      component.kill('SIGKILL');
      await component.exited;
      throw new Error(`${name} did not stop within ${ms} ms of ${signal}; it was killed. It said:\n${output}`);
    },
  };
  running.add(component);
  component.exited.catch(() => running.delete(component));
  if (!ready) return component;

  const found = new Promise((resolve) => {
    listening = () => {
      const match = ready.exec(output);
      if (match) resolve({ match });
    };
    listening();
  });
  const outcome = await within(readyMs, Promise.race([found, component.exited.then((exit) => ({ exit }))]));
  listening = () => {};
  if (outcome?.match) return Object.assign(component, { line: outcome.match[0] });
  component.kill('SIGKILL');
  const why = outcome
    ? `exited with ${outcome.exit.signal ?? outcome.exit.code}`
    : `was not ready within ${readyMs} ms`;
  throw new Error(`${name} ${why}. It said:\n${output || '(nothing)'}`);
}

/**
 * Runs a command to its end: {status, signal, stdout, stderr}. `line` is called with each line of standard output as it comes.
 * Past `ms` its process group is killed and this throws.
 */
export async function run(command, args = [], { env, cwd, input = '', ms = 60_000, line } = {}) {
  const child = spawn(command, args, {
    cwd,
    env: { ...process.env, ...env },
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const said = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'])
    child[stream].setEncoding('utf8').on('data', (chunk) => {
      said[stream] += chunk;
    });
  if (line) createInterface({ input: child.stdout }).on('line', line);
  const entry = { kill: (signal) => killGroup(child.pid, signal), stop: async () => entry.kill('SIGKILL') };
  running.add(entry);
  const closed = new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status, signal) => resolve({ status, signal }));
  });
  child.stdin.on('error', () => {}); // it may not read what it is given
  child.stdin.end(input);
  try {
    const end = await within(ms, closed);
    if (end) return { ...end, ...said };
    entry.kill('SIGKILL');
    throw new Error(`${command} ${args.join(' ')} took more than ${ms} ms. It said:\n${said.stdout}${said.stderr}`);
  } finally {
    running.delete(entry);
  }
}

/** The value of `promise`, or undefined when `ms` pass first. */
export async function within(ms, promise) {
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Awaits `probe()` until it returns something true. For what announces itself in no other way. */
export async function eventually(probe, { ms = 10_000, everyMs = 20, what = 'the condition' } = {}) {
  const end = Date.now() + ms;
  for (;;) {
    let failure;
    try {
      const value = await probe();
      if (value) return value;
    } catch (error) {
      failure = error;
    }
    if (Date.now() > end) throw new Error(`${what} did not come true within ${ms} ms`, { cause: failure });
    await sleep(everyMs);
  }
}

/**
 * Processes whose command line, environment, working directory or open files name `folder`: [{pid, argv}], without this one.
 * A parent of one of them that `keeper(argv)` accepts belongs to it, too.
 */
export function processesOf(folder, keeper = () => false) {
  const all = allProcesses();
  const found = new Map([...all].filter(([pid, { argv }]) => belongs(pid, argv, folder)));
  for (const { parent } of found.values()) {
    // grows while it is walked, so that grandparents are looked at
    const keeps = all.get(parent);
    if (keeps && keeper(keeps.argv)) found.set(parent, keeps);
  }
  return [...found].map(([pid, { argv }]) => ({ pid, argv }));
}

function allProcesses() {
  const all = new Map();
  for (const pid of readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)) {
    if (pid === process.pid) continue;
    const argv = readProc(pid, 'cmdline').split('\0').filter(Boolean);
    const parent = Number(/^PPid:\s+(\d+)/m.exec(readProc(pid, 'status'))?.[1]);
    if (argv.length) all.set(pid, { argv, parent }); // without: a kernel thread, or a zombie
  }
  return all;
}

function belongs(pid, argv, folder) {
  const names = (place) => mentions(place, folder);
  return (
    argv.some(names) ||
    readProc(pid, 'environ').split('\0').some(names) ||
    names(link(pid, 'cwd')) ||
    openFiles(pid).some((fd) => names(link(pid, `fd/${fd}`)))
  );
}

function openFiles(pid) {
  try {
    return readdirSync(`/proc/${pid}/fd`);
  } catch {
    return []; // gone, or another user's
  }
}

function mentions(text, folder) {
  for (let at = text.indexOf(folder); at >= 0; at = text.indexOf(folder, at + 1)) {
    const next = text[at + folder.length];
    if (next === undefined || !/[\w.-]/.test(next)) return true; // not a longer name that begins the same
  }
  return false;
}

function readProc(pid, file) {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return ''; // gone, or another user's
  }
}

function link(pid, name) {
  try {
    return readlinkSync(`/proc/${pid}/${name}`);
  } catch {
    return '';
  }
}

/** Stops everything that is left, in the order newest first. For `after()`. Throws what went wrong, once all is stopped. */
export async function stopAll() {
  const problems = [];
  for (const close of [...closers].reverse()) {
    closers.delete(close);
    try {
      await close();
    } catch (error) {
      problems.push(error);
    }
  }
  for (const component of [...running].reverse()) await component.stop().catch((error) => problems.push(error));
  removeFolders();
  if (problems.length === 1) throw problems[0];
  if (problems.length) throw new AggregateError(problems, problems.map((problem) => problem.message).join('\n'));
}

function removeFolders() {
  for (const folder of folders)
    if (existsSync(folder)) rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  folders.clear();
}

/** Signals a process group; a group that is gone is no error. */
function killGroup(pid, signal) {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

process.on('exit', () => {
  for (const component of running) component.kill('SIGKILL');
  for (const folder of folders) {
    for (const { pid } of processesOf(folder)) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        /* gone already */
      }
    }
  }
  removeFolders();
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));
