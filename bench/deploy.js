#!/usr/bin/env node
// Deploys under load: 100 deploys and 100 rollbacks of Market Pulse while a million requests are sent, and the same
// load, in the same run, on a plain HAProxy reload and on `docker service update`.
//
//     bench/deploy.js [--deploys N] [--requests N] [--peer-deploys N] [--rate N] [--quick] [--only PART] [--write]
//
//     --deploys       deploys of Holdfast, each followed by a rollback (100)
//     --requests      sent to Holdfast at least (1000000); the deploys are spread over them
//     --peer-deploys  the same for each peer (10); its requests are what the rate gives
//     --rate          requests a second (1200)
//     --quick         small numbers: does it work?
//     --only          idle, holdfast, reload or swarm; may be repeated
//     --write         puts the table into docs/benchmarks.md
//
// A line a figure, `figure value unit target ok|MISS`; exits 0 if none missed. What else is said goes to standard
// error.

import { execFileSync } from 'node:child_process';
import { cpus, loadavg, release as kernel, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { stopAll } from '../tests/support/processes.js';
import { measureIdle, measureOurs, startOurs } from './support/deploy-ours.js';
import { measureReload } from './support/deploy-reload.js';
import { measureSwarm } from './support/deploy-swarm.js';
import { Figures, writeBetween } from './support/figures.js';
import { startStack } from './support/stack.js';

const DOCUMENT = fileURLToPath(new URL('../docs/benchmarks.md', import.meta.url));
const PARTS = ['idle', 'holdfast', 'reload', 'swarm'];

function readOptions() {
  const number = (value) => ({ type: 'string', default: String(value) });
  const { values } = parseArgs({
    options: {
      deploys: number(100),
      requests: number(1_000_000),
      'peer-deploys': number(10),
      rate: number(1200),
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
    deploys: count('deploys', 3),
    requests: count('requests', 5000),
    peerDeploys: count('peer-deploys', 2),
    rate: count('rate', 300),
    quietMs: values.quick ? 3000 : 20_000,
    write: values.write,
  };
}

function machine() {
  const first = (command, ...args) => {
    try {
      const said = execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
      return said.split('\n')[0].trim();
    } catch {
      return `no ${command}`;
    }
  };
  const versions = [
    /version \S+/.exec(first('haproxy', '-v'))?.[0].replace('version', 'HAProxy'),
    `Node ${process.versions.node}`,
    /\d+[\d.]*/.exec(first('/usr/lib/postgresql/15/bin/postgres', '--version'))?.[0].replace(/^/, 'PostgreSQL '),
    /v=\S+/.exec(first('redis-server', '--version'))?.[0].replace('v=', 'Redis '),
    /\d+[^,]*/.exec(first('dockerd', '--version'))?.[0].replace(/^/, 'Docker '),
  ];
  const [{ model }] = cpus();
  return [
    `${cpus().length} cores (${model.replace(/\s+/g, ' ').trim()}), ${Math.round(totalmem() / 2 ** 30)} GiB`,
    `Linux ${kernel().split('-')[0]}`,
    ...versions.filter(Boolean),
  ].join(', ');
}

async function main() {
  const options = readOptions();
  const begun = Date.now();
  const [load1] = loadavg();
  const say = (text) => console.error(`${Math.round((Date.now() - begun) / 1000)} s: ${text}`);
  const figures = new Figures();
  const wanted = (part) => options.parts.includes(part);
  const load = { rate: options.rate, quietMs: options.quietMs, say };
  const peerLoad = { ...load, rounds: options.peerDeploys };

  const stack = await startStack();
  say('building both versions');
  const ours = await startOurs(stack);
  if (wanted('idle')) {
    say('idle');
    await measureIdle(figures, ours);
  }
  if (wanted('holdfast')) {
    say('holdfast deploy and rollback');
    await measureOurs(figures, ours, stack, { ...load, rounds: options.deploys, requests: options.requests });
  }
  await ours.holdfast.close();
  if (wanted('reload')) {
    say('a plain HAProxy reload');
    await measureReload(figures, ours.folders, stack, peerLoad);
  }
  await stack.stop();
  const skipped = wanted('swarm') && !(await measureSwarm(figures, ours.folders, peerLoad));

  const isFull = options.deploys >= 100 && options.requests >= 1_000_000 && PARTS.every(wanted);
  const text = [
    `Machine: ${machine()}; load average before: ${load1.toFixed(1)}.`,
    '',
    `Run: ${options.deploys} deploys and rollbacks, ${options.peerDeploys} of each peer, ` +
      `at most ${options.rate} requests a second` +
      `${skipped ? '; `docker service update` could not run here' : ''}.` +
      `${isFull ? '' : ' **A short run: these figures are to be replaced by a full one.**'}`,
    '',
    figures.tables({ holdfast: 'Holdfast', reload: 'HAProxy reload', swarm: 'Swarm' }),
  ].join('\n');
  if (options.write) writeBetween(DOCUMENT, 'bench-deploy', text);
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
