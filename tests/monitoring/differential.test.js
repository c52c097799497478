// PromQL beside Debian's Prometheus: the same samples in both, generated queries, equal answers.
//
// The samples stand in one OpenMetrics file: promtool makes blocks of it, Holdfast imports it as text. Prometheus here
// is 2.42; where version 3 differs, it rules: ranges and lookback are open on the left. Samples are never on the grid of
// evaluation, so that makes no difference.
//
//     SEED=7 QUERIES=2000 node --test tests/monitoring/differential.test.js

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { startHoldfast } from '../support/holdfast.js';
import { freePort, run, startComponent, stopAll, temporaryFolder } from '../support/processes.js';
import { QueryMaker, Random, makeSamples } from './support/queries.js';

const SEED = Number(process.env.SEED ?? 1);
const QUERIES = Number(process.env.QUERIES ?? 400);
const RELATIVE = 1e-9;
const SHOWN = 5;

let holdfast;
let token;
let prometheus;
let end;

before(async () => {
  const samples = makeSamples(new Random(SEED), Date.now());
  ({ end } = samples);
  const folder = temporaryFolder('differential');
  const data = join(folder, 'data');
  mkdirSync(data);
  writeFileSync(join(folder, 'samples'), samples.openMetrics);
  const made = await run('promtool', ['tsdb', 'create-blocks-from', 'openmetrics', join(folder, 'samples'), data]);
  assert.equal(made.status, 0, made.stderr);
  writeFileSync(join(folder, 'prometheus.yml'), 'global: {scrape_interval: 1h}\n');
  const port = await freePort();
  await startComponent({
    name: 'prometheus',
    command: 'prometheus',
    args: [
      `--config.file=${folder}/prometheus.yml`,
      `--storage.tsdb.path=${data}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--storage.tsdb.retention.time=1y',
    ],
    ready: /Server is ready to receive web requests/,
  });
  prometheus = `http://127.0.0.1:${port}`;
  holdfast = await startHoldfast();
  token = readFileSync(join(holdfast.data, 'keys/admin.token'), 'utf8').trim();
  const answer = await fetch(`${holdfast.url}/api/v1/import/prometheus`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}` },
    body: samples.text,
  });
  assert.equal(answer.status, 204, await answer.text());
});
after(stopAll);

async function ask(base, path, parameters, headers = {}) {
  const response = await fetch(`${base}${path}`, { method: 'POST', body: new URLSearchParams(parameters), headers });
  return response.json();
}

const nameOf = (metric) => JSON.stringify(Object.entries(metric).sort());

function sameNumber(a, b) {
  const [x, y] = [Number(a.replace('Inf', 'Infinity')), Number(b.replace('Inf', 'Infinity'))];
  if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) && Number.isNaN(y);
  if (x === y) return true;
  // what cancels to nearly nothing is compared with what it was made of
  return Math.abs(x - y) <= Math.max(RELATIVE * Math.max(Math.abs(x), Math.abs(y)), 1e-9);
}

const samePoints = (a, b) =>
  a.length === b.length && a.every(([time, value], i) => time === b[i][0] && sameNumber(value, b[i][1]));

/** Why two answers differ, or undefined. */
function difference(ours, theirs) {
  if (ours.status !== theirs.status) return `ours ${ours.status} (${ours.error}), theirs ${theirs.status} (${theirs.error})`;
  if (ours.status === 'error') return ours.errorType === theirs.errorType ? undefined : `${ours.error} | ${theirs.error}`;
  if (ours.data.resultType !== theirs.data.resultType) return `${ours.data.resultType}, not ${theirs.data.resultType}`;
  if (!Array.isArray(ours.data.result) || typeof ours.data.result[0] === 'number')
    return samePoints([ours.data.result], [theirs.data.result]) ? undefined : 'other scalars';
  const rest = new Map(theirs.data.result.map((series) => [nameOf(series.metric), series]));
  if (rest.size !== ours.data.result.length) return `${ours.data.result.length} series, not ${rest.size}`;
  for (const series of ours.data.result) {
    const name = nameOf(series.metric);
    const other = rest.get(name);
    if (!other) return `a series of its own: ${name}`;
    if (!samePoints(series.values ?? [series.value], other.values ?? [other.value]))
      return `${name}: ${JSON.stringify(series.values ?? series.value).slice(0, 400)} | ${JSON.stringify(other.values ?? other.value).slice(0, 400)}`;
  }
  return undefined;
}

test(`${QUERIES} queries have equal answers`, async () => {
  const maker = new QueryMaker(new Random(SEED + 1), end);
  const authorization = { authorization: `Bearer ${token}` };
  const wrong = [];
  let series = 0;
  let errors = 0;
  for (let i = 0; i < QUERIES; i += 1) {
    const { path, parameters } = maker.next();
    const [ours, theirs] = await Promise.all([
      ask(holdfast.url, path, parameters, authorization),
      ask(prometheus, path, parameters),
    ]);
    const why = difference(ours, theirs);
    if (why) wrong.push(`${parameters.query} (${path} ${parameters.time ?? `${parameters.start}…${parameters.end} step ${parameters.step}`}): ${why}`);
    if (theirs.status === 'error') errors += 1;
    else if (Array.isArray(theirs.data.result)) series += theirs.data.result.length;
  }
  assert.deepEqual(wrong.slice(0, SHOWN), [], `${wrong.length} of ${QUERIES} differ`);
  assert.ok(series > QUERIES, `only ${series} series in all answers: the queries find too little`);
  assert.ok(errors < QUERIES / 5, `${errors} queries are refused: they compare nothing`);
});
