// The real daemon in a data folder of its own, and its command line.
//
// What the daemon starts outlives it on purpose (shims, applications, HAProxy). close() ends that too, the polite way,
// and fails if anything is left.

import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { atEnd, eventually, freePort, processesOf, run, startComponent, temporaryFolder } from './processes.js';

const root = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

/** The binary under test: $HOLDFAST, else what `make` built. */
export const HOLDFAST =
  process.env.HOLDFAST ??
  ['build/holdfast', 'build/src/holdfast'].map(root).find(existsSync) ??
  root('build/holdfast');

const READY_MS = 10_000;
const STOP_MS = 10_000;
const CLOSE_MS = 30_000; // for applications to finish what they are doing
const COMMAND_MS = 180_000;

/**
 * A started daemon. `env` is added to its environment, `args` to its command line; `binary` is HOLDFAST.
 * Errors: the binary is not there, or it is not ready in time; the message carries its output.
 */
export async function startHoldfast({ env = {}, args = [], binary = HOLDFAST } = {}) {
  if (!existsSync(binary)) throw new Error(`${binary} is not there; run make, or set HOLDFAST`);
  const holdfast = new Holdfast({
    data: join(temporaryFolder('data', 0o711), 'data'),
    port: await freePort(),
    env,
    args,
    binary,
  });
  await holdfast.start();
  return holdfast;
}

class Holdfast {
  #daemon;
  #forget;

  constructor({ data, port, env, args, binary }) {
    Object.assign(this, { data, port, env, args, binary, url: `http://127.0.0.1:${port}`, readyMs: undefined });
    this.#forget = atEnd(() => this.close());
  }

  get pid() {
    return this.#daemon?.pid;
  }

  /** What the daemon said since its last start. */
  output() {
    return this.#daemon?.output() ?? '';
  }

  /** Starts it on the same data and port; returns when /readyz says so. `readyMs` is how long that took. */
  async start(env = {}) {
    const begun = performance.now();
    const daemon = await startComponent({
      name: 'holdfast serve',
      command: this.binary,
      args: ['serve', '--data', this.data, '--listen', `127.0.0.1:${this.port}`, ...this.args],
      env: { ...this.env, ...env },
    });
    this.#daemon = daemon;
    let ended;
    daemon.exited.then((exit) => {
      ended = exit;
    });
    const ready = async () => ended || (await fetch(`${this.url}/readyz`)).ok;
    await eventually(ready, { ms: READY_MS, everyMs: 5, what: 'the readiness of holdfast serve' }).catch((error) => {
      throw new Error(`${error.message}; it said:\n${daemon.output()}`, { cause: error.cause });
    });
    if (ended)
      throw new Error(`holdfast serve exited with ${ended.signal ?? ended.code}; it said:\n${daemon.output()}`);
    this.readyMs = performance.now() - begun;
  }

  /** kill -9 of the daemon and of nothing else. */
  async kill() {
    process.kill(this.#daemon.pid, 'SIGKILL'); // the process, not its group
    await this.#daemon.exited;
  }

  /** Resolves with {code, signal} when the daemon ends by itself. */
  get exited() {
    return this.#daemon.exited;
  }

  /** SIGTERM to the daemon; it must exit 0 in time. What it started goes on. */
  async stop() {
    process.kill(this.#daemon.pid, 'SIGTERM');
    const end = await eventually(() => Promise.race([this.#daemon.exited, false]), {
      ms: STOP_MS,
      what: 'the end of holdfast serve',
    });
    if (end.code !== 0)
      throw new Error(`holdfast serve ended with ${end.signal ?? end.code}; it said:\n${this.output()}`);
  }

  async restart(env) {
    await this.stop();
    await this.start(env);
  }

  /** How the command line finds the daemon. */
  environment() {
    return { HOLDFAST_DATA: this.data, ...this.env };
  }

  /**
   * Runs `holdfast ARGS…`: {status, signal, stdout, stderr, events}; `events` is what --json printed, one value a line.
   * `input` goes to its standard input, `cwd` is the application's folder, `onEvent` hears each event as it comes.
   */
  async run(args, { cwd, input, env, onEvent, ms = COMMAND_MS } = {}) {
    const line = onEvent && ((text) => text && onEvent(parseLine(text)));
    const result = await run(this.binary, args, { cwd, input, ms, line, env: { ...this.environment(), ...env } });
    return { ...result, events: args.includes('--json') ? parseLines(result.stdout) : [] };
  }

  /** The same, for what has to succeed. */
  async must(args, options) {
    const result = await this.run(args, options);
    if (result.status === 0) return result;
    throw new Error(
      `holdfast ${args.join(' ')} ended with ${result.signal ?? result.status}:\n${result.stdout}${result.stderr}\n` +
        `the daemon said:\n${this.output()}`,
    );
  }

  /** Gives the application's secrets {NAME: value} for an environment; values go by standard input, never by arguments. */
  async setSecrets(environment, secrets, { cwd } = {}) {
    for (const [name, value] of Object.entries(secrets)) {
      await this.must(['secret', 'set', environment, name], { cwd, input: value });
    }
  }

  /** Everything that runs for this data folder: [{pid, argv}]. */
  processes() {
    return processesOf(this.data, (argv) => argv[1] === 'shim'); // a shim's guard holds nothing that names the folder
  }

  shims() {
    return this.processes().filter(({ argv }) => argv[1] === 'shim');
  }

  proxies() {
    return this.processes().filter(({ argv }) => /(^|\/)haproxy$/.test(argv[0]));
  }

  /** Application instances: what runs here and is neither Holdfast nor HAProxy. While something is built, that too. */
  instances() {
    const proxies = new Set(this.proxies().map(({ pid }) => pid));
    const ours = (argv) => argv[1] === 'shim' || basename(argv[0]) === basename(this.binary);
    return this.processes().filter(({ pid, argv }) => pid !== this.pid && !proxies.has(pid) && !ours(argv));
  }

  /** Resident memory of the daemon in bytes. */
  memory() {
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))[1]) * 1024;
  }

  /** Ends the daemon, then the shims (each takes its application with it) and HAProxy. Throws if something does not end. */
  async close({ ms = CLOSE_MS } = {}) {
    this.#forget();
    const problems = [];
    const alive = this.processes().some(({ pid }) => pid === this.pid);
    if (alive) await this.stop().catch((error) => problems.push(error.message));
    for (const { pid } of [...this.shims(), ...this.proxies()]) signal(pid, 'SIGTERM');
    await eventually(() => this.processes().length === 0, { ms, everyMs: 50 }).catch(() => {});
    const left = this.processes();
    for (const { pid } of left) signal(pid, 'SIGKILL');
    await eventually(() => this.processes().length === 0, { ms: 5000 }).catch((error) =>
      problems.push(error.message),
    );
    if (left.length)
      problems.push(`left over: ${left.map(({ pid, argv }) => `${pid} ${argv.join(' ')}`).join('; ')}`);
    if (problems.length) throw new Error(`holdfast in ${this.data} did not end well: ${problems.join('\n')}`);
  }
}

function signal(pid, name) {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

function parseLines(text) {
  return text.split('\n').filter(Boolean).map(parseLine);
}

function parseLine(line) {
  try {
    return JSON.parse(line);
  } catch {
    throw new Error(`--json printed a line that is no JSON: ${line.slice(0, 300)}`);
  }
}
