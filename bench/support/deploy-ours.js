// Holdfast: two artifacts of Market Pulse, deployed in turn, each followed by a rollback to the warm colour.

import { cpSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { copyMarketPulse } from '../../tests/support/app.js';
import { HOLDFAST, startHoldfast } from '../../tests/support/holdfast.js';
import { temporaryFolder } from '../../tests/support/processes.js';
import { freePort } from '../../tests/support/services.js';
import { median, percentile } from './figures.js';
import { addCommon, measure, tellFailures } from './stack.js';

const VERSIONS = ['1.0.0', '2.0.0'];
const TIMES = 10; // that a figure is measured, of which the median counts
const IDLE_MS = 10_000;
const KIB = 1024;
const MIB = 1024 * 1024;
const DEPLOY = { keep_warm: '10m', watch: '500ms', websocket_grace: '200ms', close_spread: '500ms', retain: 3 };

/** A daemon with both versions built and deployed; `folders` are copies of what was deployed. */
export async function startOurs(stack) {
  const port = await freePort();
  const app = copyMarketPulse({ listen: { production: `127.0.0.1:${port}` }, variables: stack.variables });
  app.set(['deploy', 'canary'], { weight: '0%', time: '0s' });
  for (const [key, value] of Object.entries(DEPLOY)) app.set(['deploy', key], value);
  const holdfast = await startHoldfast();
  await holdfast.setSecrets('production', await stack.secrets('ours'), { cwd: app.folder });
  const command = async (...args) => {
    const { events } = await holdfast.must([...args, '--json'], { cwd: app.folder });
    const steps = events
      .filter(({ event, data }) => event === 'done' && data)
      .map(({ step, data }) => [step, data.duration_ms]);
    return { ...events.at(-1).operation.result, steps: Object.fromEntries(steps) };
  };

  const artifacts = [];
  for (const version of VERSIONS) {
    app.setVersion(version);
    artifacts.push((await command('build', 'production')).artifact);
  }
  const folders = [];
  for (const artifact of artifacts) {
    const { release } = await command('deploy', 'production', '--artifact', artifact);
    folders.push(copyRelease(holdfast, release));
  }
  return { port, holdfast, command, artifacts, folders };
}

// What was deployed, for the peers: retention removes the original.
function copyRelease(holdfast, release) {
  const folder = join(temporaryFolder(`release-${release}`, 0o755), 'app');
  cpSync(join(holdfast.data, 'releases/market-pulse/production', `r${release}`), folder, {
    recursive: true,
    verbatimSymlinks: true,
  });
  return folder;
}

/** Idle figures: what it costs when nothing happens. */
export async function measureIdle(figures, ours) {
  const { holdfast, command } = ours;
  await sleep(IDLE_MS);
  figures.add('idle_daemon_rss', holdfast.memory() / MIB, 'MiB', {
    max: 15,
    meaning: 'after builds and deploys, with one application: two instances that serve and two warm ones',
  });
  const shims = memoryOfShims(holdfast);
  figures.add('idle_shim_rss', median(shims.map(({ rss }) => rss)) / KIB, 'KiB', {
    meaning: 'an instance’s shim and its guard together',
  });
  figures.add('idle_shim_pss', median(shims.map(({ pss }) => pss)) / KIB, 'KiB', {
    meaning: 'the same, with shared pages divided by their users',
  });
  figures.add('binary_size', statSync(HOLDFAST).size / KIB, 'KiB', { meaning: 'the one program' });

  const rebuilt = [];
  for (let i = 0; i < TIMES; i += 1) {
    const begun = performance.now();
    const { reused } = await command('build', 'production');
    rebuilt.push(performance.now() - begun);
    if (!reused) throw new Error('an unchanged build was not reused');
  }
  figures.add('build_reuse', median(rebuilt), 'ms', {
    max: 50,
    meaning: '`holdfast build` of what did not change, the command from start to end',
  });
  const started = [];
  for (let i = 0; i < TIMES; i += 1) {
    await holdfast.restart();
    started.push(holdfast.readyMs);
  }
  figures.add('start_to_ready', median(started), 'ms', {
    max: 200,
    meaning: 'the daemon, from exec until /readyz is 200, with one application deployed',
  });
  await sleep(IDLE_MS);
  figures.add('idle_daemon_rss_restarted', holdfast.memory() / MIB, 'MiB', {
    max: 15,
    meaning: 'the same after a restart of the daemon',
  });
}

// Of each instance: its shim and the guard over it.
function memoryOfShims(holdfast) {
  const instances = new Map();
  for (const { pid, argv } of holdfast.shims()) {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
    const bytes = (key) => Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(text)[1]) * KIB;
    const sum = instances.get(argv[2]) ?? { rss: 0, pss: 0 };
    instances.set(argv[2], { rss: sum.rss + bytes('Rss'), pss: sum.pss + bytes('Pss') });
  }
  return [...instances.values()];
}

/** The deploys and rollbacks under load. */
export async function measureOurs(figures, ours, stack, options) {
  const { command, artifacts, holdfast, port } = ours;
  const result = await measure({
    ...options,
    port,
    connect: () => stack.connect('ours'),
    change: async (kind, i) => {
      const told =
        kind === 'forward'
          ? await command('deploy', 'production', '--artifact', artifacts[i % 2])
          : await command('rollback', 'production');
      return { ...told, from: told.previous, to: told.release };
    },
  });
  tellSteps(options.say, result.changes);
  tellFailures(options.say, result);
  addCommon(figures, 'holdfast', result, true);

  const of = (kind, read) => result.changes.filter((change) => change.kind === kind).map(read);
  const switches = result.changes.map((change) => change.switch_us);
  const add = (name, values, unit, max99, meaning) => {
    figures.add(`${name}_p50`, percentile(values, 50), unit, { meaning });
    figures.add(`${name}_p99`, percentile(values, 99), unit, { max: max99, meaning });
  };
  add('switch', switches, 'us', 1000, 'HAProxy carries out the switch: one batch of commands, sent to answered');
  add(
    'deploy_overhead',
    of('forward', (change) => change.switched_ms - change.ready_ms),
    'ms',
    undefined,
    'a deploy without the application’s own start: from the request until the new release serves (`switched_ms`), ' +
      'less the wait from started to ready (`ready_ms`). What is left: the artifact verified and unpacked, shims ' +
      'started, smoke tests, switch',
  );
  add(
    'deploy_ready',
    of('forward', (change) => change.ready_ms),
    'ms',
    undefined,
    'the application’s own start, until the proxy sees both instances ready',
  );
  add(
    'rollback',
    of('back', (change) => change.switched_ms),
    'ms',
    1000,
    'from the request until the warm colour serves',
  );
  figures.add('daemon_rss_after', holdfast.memory() / MIB, 'MiB', { meaning: 'of the daemon after all this' });
  return result;
}

// Where the time goes, for a person.
function tellSteps(say, changes) {
  for (const kind of ['forward', 'back']) {
    const steps = changes.filter((change) => change.kind === kind).map((change) => change.steps);
    const told = Object.keys(steps[0] ?? {}).map((step) => `${step} ${median(steps.map((all) => all[step] ?? 0))}`);
    say(`${kind === 'forward' ? 'deploy' : 'rollback'}, median ms of each step: ${told.join(', ')}`);
  }
}
