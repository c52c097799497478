// Metrics from real clients: Prometheus and vmagent write, OpenTelemetry's SDK exports, and what has no SDK sends bytes.

import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import http from 'node:http';
import { chmodSync, copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { OTLPMetricExporter as JsonExporter } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPMetricExporter as ProtoExporter } from '@opentelemetry/exporter-metrics-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import client from 'prom-client';
import { startHoldfast } from '../support/holdfast.js';
import { atEnd, eventually, freePort, startComponent, stopAll, temporaryFolder } from '../support/processes.js';

let holdfast;
let token;
let statsd;
let app; // of prom-client, for those that scrape
before(async () => {
  statsd = await freePort();
  holdfast = await startHoldfast({ args: ['--statsd', `127.0.0.1:${statsd}`] });
  token = readFileSync(join(holdfast.data, 'keys/admin.token'), 'utf8').trim();
  app = await startApp();
});
after(stopAll);

/** {port, registry}: a server with prom-client's default metrics and one counter. */
async function startApp() {
  const registry = new client.Registry();
  client.collectDefaultMetrics({ register: registry });
  const orders = new client.Counter({ name: 'orders_total', help: 'Orders', labelNames: ['kind'], registers: [registry] });
  orders.inc({ kind: 'limit' }, 42);
  const server = http.createServer(async (request, response) => {
    response.setHeader('content-type', registry.contentType);
    response.end(await registry.metrics());
  });
  const port = await freePort();
  await new Promise((resolve) => {
    server.listen(port, '127.0.0.1', resolve);
  });
  atEnd(() => server.close());
  return { port };
}

const send = (path, { method = 'POST', body, headers = {}, bearer = token } = {}) =>
  fetch(`${holdfast.url}${path}`, {
    method,
    body,
    headers: { ...(bearer && { authorization: `Bearer ${bearer}` }), ...headers },
  });

/** The series of an instant query: [{metric, value}]. */
async function query(expression) {
  const response = await send('/api/v1/query', { body: new URLSearchParams({ query: expression }) });
  const answer = await response.json();
  assert.equal(answer.status, 'success', answer.error);
  return answer.data.result.map(({ metric, value }) => ({ metric, value: Number(value[1]) }));
}

const found = (expression, ms = 30_000) =>
  eventually(async () => (await query(expression)).at(0), { ms, everyMs: 200, what: expression });

/** A copy of the token in a file that another program may read. */
function tokenFile() {
  const file = join(temporaryFolder('token'), 'token');
  copyFileSync(join(holdfast.data, 'keys/admin.token'), file);
  chmodSync(file, 0o600);
  return file;
}

test('Prometheus writes to it what it scraped of prom-client', async () => {
  const folder = temporaryFolder('prometheus');
  writeFileSync(
    join(folder, 'prometheus.yml'),
    `global: {scrape_interval: 1s, external_labels: {via: prometheus}}
scrape_configs:
  - job_name: app
    static_configs: [{targets: ['127.0.0.1:${app.port}']}]
  - job_name: holdfast
    authorization: {credentials_file: ${tokenFile()}}
    static_configs: [{targets: ['127.0.0.1:${holdfast.port}']}]
remote_write:
  - url: ${holdfast.url}/api/v1/write
    authorization: {credentials_file: ${tokenFile()}}
`,
  );
  const prometheus = await startComponent({
    name: 'prometheus',
    command: 'prometheus',
    args: [
      '--enable-feature=agent',
      `--config.file=${folder}/prometheus.yml`,
      `--storage.agent.path=${folder}/data`,
      `--web.listen-address=127.0.0.1:${await freePort()}`,
    ],
    ready: /Server is ready to receive web requests/,
  });
  assert.equal((await found('orders_total{via="prometheus"}')).value, 42);
  assert.equal((await found('up{via="prometheus",job="app"}')).value, 1);
  // our own /metrics is one that Prometheus can read
  assert.equal((await found('up{via="prometheus",job="holdfast"}')).value, 1);
  assert.ok((await found('holdfast_metrics_series{via="prometheus"}')).value > 100);
  await found('count_over_time(orders_total{via="prometheus"}[1m]) > 3');
  await prometheus.stop();
});

test('vmagent does likewise', async () => {
  const folder = temporaryFolder('vmagent');
  writeFileSync(
    join(folder, 'scrape.yml'),
    `scrape_configs:
  - job_name: app
    scrape_interval: 1s
    static_configs: [{targets: ['127.0.0.1:${app.port}'], labels: {via: vmagent}}]
`,
  );
  const vmagent = await startComponent({
    name: 'vmagent',
    command: 'vmagent',
    args: [
      `-promscrape.config=${folder}/scrape.yml`,
      `-httpListenAddr=127.0.0.1:${await freePort()}`,
      `-remoteWrite.url=${holdfast.url}/api/v1/write`,
      `-remoteWrite.bearerTokenFile=${tokenFile()}`,
      `-remoteWrite.tmpDataPath=${folder}/data`,
    ],
    ready: /starting http server at/,
  });
  assert.equal((await found('orders_total{via="vmagent"}')).value, 42);
  assert.equal((await found('up{via="vmagent"}')).value, 1);
  await vmagent.stop();
});

for (const [encoding, Exporter] of [
  ['protobuf', ProtoExporter],
  ['JSON', JsonExporter],
])
  test(`OpenTelemetry's SDK exports in ${encoding}`, async () => {
    const exporter = new Exporter({
      url: `${holdfast.url}/api/v1/otlp/v1/metrics`,
      headers: { authorization: `Bearer ${token}` },
    });
    const provider = new MeterProvider({
      resource: resourceFromAttributes({ 'service.name': encoding, 'service.instance.id': 'one', region: 'north' }),
      readers: [new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 60_000 })],
    });
    const meter = provider.getMeter('test');
    meter.createCounter('shop.orders', { unit: '{order}' }).add(3, { kind: 'limit' });
    meter.createHistogram('shop.wait', { unit: 's', advice: { explicitBucketBoundaries: [1, 10] } }).record(2.5);
    meter.createUpDownCounter('shop.open').add(-4);
    await provider.forceFlush();
    await provider.shutdown();
    assert.deepEqual(await found(`shop_orders_total{job="${encoding}"}`), {
      metric: { __name__: 'shop_orders_total', instance: 'one', job: encoding, kind: 'limit' },
      value: 3,
    });
    assert.equal((await found(`shop_wait_seconds_bucket{job="${encoding}",le="10.0"}`)).value, 1);
    assert.equal((await found(`shop_wait_seconds_sum{job="${encoding}"}`)).value, 2.5);
    assert.equal((await found(`shop_open{job="${encoding}"}`)).value, -4);
    assert.equal((await found(`target_info{job="${encoding}"}`)).metric.region, 'north');
  });

test('the Pushgateway exposes what was pushed until it is deleted', async () => {
  const path = '/metrics/job/nightly/database/main';
  assert.equal((await send(path, { method: 'PUT', body: 'rows 7\n' })).status, 200);
  assert.equal((await found('rows{job="nightly",database="main"}')).value, 7);
  const bad = await send(path, { method: 'PUT', body: 'rows 7 1000\n' });
  assert.equal(bad.status, 400);
  assert.match(await bad.text(), /timestamps/);
  assert.equal((await send(path, { method: 'DELETE' })).status, 202);
  await eventually(async () => (await query('rows')).length === 0, { ms: 30_000, everyMs: 200, what: 'the end of rows' });
});

test('StatsD over UDP', async () => {
  const socket = dgram.createSocket('udp4');
  await new Promise((resolve) => {
    socket.send('web.hits:3|c|#env:prod\nweb.load:2.5|g', statsd, '127.0.0.1', resolve);
  });
  socket.close();
  assert.equal((await found('web_hits{env="prod"}')).value, 3);
  assert.equal((await found('web_load')).value, 2.5);
});

test('Influx lines and text', async () => {
  assert.equal((await send('/write?db=d', { body: 'cpu,host=a idle=3,user=4i\n' })).status, 204);
  assert.equal((await found('cpu_idle{host="a"}')).value, 3);
  assert.equal((await send('/api/v1/import/prometheus', { body: 'imported{a="b"} 5\n' })).status, 204);
  assert.equal((await found('imported{a="b"}')).value, 5);
});

test('who may not write is told so', async () => {
  assert.equal((await send('/api/v1/write', { body: 'x', bearer: null })).status, 401);
  assert.equal((await send('/api/v1/write', { body: 'x', bearer: 'hf_wrong' })).status, 401);
});

test('bytes that are none are refused with the reason', async () => {
  const bad = await send('/api/v1/write', { body: 'no snappy', headers: { 'content-type': 'application/x-protobuf', 'content-encoding': 'snappy' } });
  assert.equal(bad.status, 400);
  assert.match(await bad.text(), /snappy/);
  const unknown = await send('/api/v1/otlp/v1/metrics', { body: '{}', headers: { 'content-type': 'text/plain' } });
  assert.equal(unknown.status, 415);
});

test('what was acknowledged survives kill -9, and doctor finds everything whole', async () => {
  for (let i = 0; i < 20; i += 1)
    assert.equal((await send('/api/v1/import/prometheus', { body: `kept{i="${i}"} ${i}\n` })).status, 204);
  await holdfast.kill();
  const { stdout } = await holdfast.must(['doctor', '--data', holdfast.data]);
  assert.match(stdout, /Everything is whole/);
  await holdfast.start();
  assert.equal((await query('count(kept)'))[0].value, 20);
  assert.equal((await query('sum(kept)'))[0].value, 190);
});

test('holdfast query and cardinality', async () => {
  const { events } = await holdfast.must(['query', '--json', 'sum(kept)']);
  assert.equal(events[0].data.result[0].value[1], '190');
  assert.match((await holdfast.must(['query', 'kept{i="3"}'])).stdout, /3 +.*kept\{i="3"\}/);
  const failed = await holdfast.run(['query', 'sum(']);
  assert.equal(failed.status, 1);
  assert.match(failed.stderr, /parse error/);
  assert.match((await holdfast.must(['cardinality'])).stdout, /kept/);
});
