// An application on a running Holdfast, as the deployment tests look at it.
//
//     const site = await tinySite(holdfast, { instances: 2, deploy: { watch: '200ms' } });
//     await site.deployed();                      // `holdfast deploy production`, which has to succeed
//     const load = await site.load();
//     const { operation, events } = await site.deploy();
//     await site.unharmed(await load.stop());

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import http from 'node:http';
import { createInterface } from 'node:readline';
import { copyTinyApp } from './app.js';
import { assertClean, startLoad, tinyApp, verifyLog } from './load.js';
import { atEnd, eventually, freePort, within } from './processes.js';

const COMMAND_MS = 120_000;
const RATE = 400; // requests/s: enough that none of the moments that matter passes without some

let sites = 0;

/** The tiny application under a name of its own, not yet deployed. `deploy` and `service` are options to change. */
export async function tinySite(holdfast, { variables = {}, deploy = {}, service = {}, secrets } = {}) {
  sites += 1;
  const port = await freePort();
  const app = copyTinyApp({ listen: `127.0.0.1:${port}`, variables });
  const name = `tiny${sites}`;
  app.set(['app'], name);
  for (const [key, value] of Object.entries(deploy)) app.set(['deploy', key], value);
  for (const [key, value] of Object.entries(service)) app.set(['services', 'web', key], value);
  if (secrets) app.set(['environments', 'production', 'secrets'], secrets);
  return new Site({ holdfast, app, port, name });
}

export class Site {
  constructor({ holdfast, app, port, name, environment = 'production' }) {
    Object.assign(this, { holdfast, app, port, name, environment, url: `http://127.0.0.1:${port}` });
  }

  /** Any command, in the application's folder. */
  run(args, options) {
    return this.holdfast.run(args, { cwd: this.app.folder, ...options });
  }

  /** A command whose --json answer is one value. */
  async ask(args) {
    const { stdout } = await this.holdfast.must([...args, '--json'], { cwd: this.app.folder });
    return JSON.parse(stdout);
  }

  /** Starts an operation: {child, interrupt(), event(test), end}. `end` is a promise of what #outcome says. */
  start(command, args = [], { onEvent } = {}) {
    const child = spawn(this.holdfast.binary, [command, this.environment, '--json', ...args], {
      cwd: this.app.folder,
      env: { ...process.env, ...this.holdfast.environment() },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const forget = atEnd(() => child.kill('SIGKILL'));
    const events = [];
    const lines = [];
    const waiting = new Set();
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (chunk) => {
      errors += chunk;
    });
    createInterface({ input: child.stdout }).on('line', (line) => {
      const value = JSON.parse(line);
      lines.push(value);
      if (!value.event) return;
      events.push(value);
      onEvent?.(value);
      for (const look of waiting) look(value);
    });
    const closed = new Promise((resolve) => {
      child.once('close', (status, signal) => resolve({ status, signal }));
    });
    const end = within(COMMAND_MS, closed).then((result) => {
      forget();
      if (!result) child.kill('SIGKILL');
      assert.ok(result, `holdfast ${command} did not end: ${errors}${JSON.stringify(events.slice(-3))}`);
      return outcome({ ...result, stderr: errors, lines, events });
    });
    end.catch(() => {}); // whoever waits for it hears of it
    return {
      child,
      end,
      events,
      interrupt: () => child.kill('SIGINT'),
      /** The first event that `test` accepts, come or to come. */
      async event(test, what = String(test)) {
        const known = events.find(test);
        if (known) return known;
        const found = await Promise.race([
          new Promise((resolve) => {
            waiting.add((event) => test(event) && resolve(event));
          }),
          end.then(() => undefined),
        ]);
        assert.ok(found, `no event ${what}; there were ${JSON.stringify(events)}, ${errors}`);
        return found;
      },
    };
  }

  deploy(args, options) {
    return this.start('deploy', args, options).end;
  }

  rollback(args, options) {
    return this.start('rollback', args, options).end;
  }

  /** The same, and it has to succeed. */
  async deployed(args, options) {
    return succeeded(await this.deploy(args, options), this.holdfast);
  }

  async rolledBack(args, options) {
    return succeeded(await this.rollback(args, options), this.holdfast);
  }

  /** This environment's part of `holdfast status`. */
  async status() {
    const { environments } = await this.ask(['status', this.environment]);
    return environments[0];
  }

  async releases() {
    return (await this.ask(['releases', this.environment])).releases;
  }

  async release(number) {
    return (await this.releases()).find(({ release }) => release === number);
  }

  /** One request on a connection of its own: {status, headers, body, json}. */
  get(path = '/', headers = {}) {
    return new Promise((resolve, reject) => {
      const request = http.get(`${this.url}${path}`, { agent: false, headers, timeout: 10_000 }, async (response) => {
        const chunks = [];
        for await (const chunk of response) chunks.push(chunk);
        const body = Buffer.concat(chunks);
        let json;
        try {
          json = JSON.parse(body.toString());
        } catch {
          /* not JSON */
        }
        resolve({ status: response.statusCode, headers: response.headers, body, json });
      });
      request.on('timeout', () => request.destroy(new Error('no answer within 10 s')));
      request.on('error', reject);
    });
  }

  /** Which release answers. */
  async serving() {
    return Number((await this.get('/items/which?size=1')).headers['x-release']);
  }

  /** Load until stop(); `options` are startLoad's. */
  async load(options = {}) {
    const load = await startLoad({
      port: this.port,
      profile: tinyApp,
      keepalive: 6,
      fresh: 3,
      sockets: 3,
      postShare: 0.2,
      rate: RATE,
      ...options,
    });
    await load.advance(50);
    return load;
  }

  /** Not one request of the tiny application's load failed, and each POST is there once. */
  unharmed(result) {
    assertClean(result);
    const posts = verifyLog(this.app.log, result);
    assert.ok(posts.acknowledged > 0, 'the load acknowledged no POST');
    assert.equal(posts.unacknowledged, 0);
    return result;
  }

  /** `number` serves, alone or with a warm one, nobody holds the environment, and nothing runs of any other release. */
  async settled(number) {
    const status = await eventually(
      async () => {
        const now = await this.status();
        return now.lease === null && now;
      },
      { what: `the end of work on ${this.name}` },
    );
    assert.equal(status.current?.release, number, 'the release that is current');
    assert.equal(await this.serving(), number, 'the release that answers');
    const releases = await this.releases();
    const runs = new Set(
      releases.filter(({ state }) => state === 'current' || state === 'warm').map(({ release }) => release),
    );
    for (const instance of status.instances) {
      assert.ok(runs.has(instance.release), `${instance.id} of a release that is neither current nor warm`);
    }
    for (const { release, state } of releases) {
      assert.ok(['current', 'warm', 'retired', 'failed'].includes(state), `release ${release} is left ${state}`);
    }
    const pids = new Set(status.instances.flatMap(({ pid, shim_pid: shim }) => [pid, shim]));
    for (const { pid, argv } of this.processes()) {
      assert.ok(pids.has(pid) || argv[1] === 'shim', `${pid} ${argv.join(' ')} runs and is of no instance`);
    }
    return status;
  }

  /** What runs of this application. */
  processes() {
    const home = `${this.holdfast.data}/releases/${this.name}/`;
    return this.holdfast
      .processes()
      .filter(({ argv }) => argv[1] === 'shim' && argv[2]?.startsWith(`${this.name}.`))
      .concat(this.holdfast.instances().filter(({ pid }) => workingFolder(pid).startsWith(home)));
  }
}

function workingFolder(pid) {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return '';
  }
}

function outcome({ status, signal, stderr, lines, events }) {
  const operation = lines.at(-1)?.operation;
  const failure = events.findLast(({ event }) => event === 'failure');
  return {
    status,
    signal,
    stderr,
    events,
    operation,
    error: lines.findLast(({ error }) => error)?.error, // refused before there was an operation
    release: operation?.result?.release,
    artifact: operation?.result?.artifact,
    failedStep: failure?.step,
    reason: failure?.message,
    /** When a step began or ended, in ms since 1970. */
    at: (event, step) => Date.parse(events.findLast((e) => e.event === event && e.step === step)?.time),
    steps: [...new Set(events.filter(({ event }) => event === 'started').map(({ step }) => step))],
    text: events.map(({ message }) => message).join('\n'),
  };
}

function succeeded(result, holdfast) {
  if (result.status === 0 && result.operation?.state === 'succeeded') return result;
  return assert.fail(
    `it ended with ${result.signal ?? result.status}: ${result.stderr}${result.text}\nthe daemon said:\n${holdfast.output()}`,
  );
}

/** It failed at `step` saying what matches each pattern, and status 1. */
export function assertFailed(result, step, ...patterns) {
  assert.equal(result.status, 1, `exit status; it said: ${result.stderr}${result.text}`);
  assert.equal(result.operation?.state, 'failed');
  assert.equal(result.failedStep, step, result.text);
  for (const pattern of patterns) assert.match(result.reason, pattern);
}
