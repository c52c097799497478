// What the application counts, in Prometheus' text format.

import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';

export function createMetrics({ release, version }) {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });

  new Gauge({
    name: 'market_pulse_info', help: 'Always 1; what runs is in the labels',
    labelNames: ['release', 'version'], registers,
  }).set({ release, version }, 1);

  return {
    registry,
    requests: new Histogram({
      name: 'http_request_duration_seconds', help: 'Time from request to last byte of the response',
      labelNames: ['method', 'route', 'status'], registers,
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
    }),
    cache: new Counter({
      name: 'market_pulse_cache_requests_total', help: 'Look-ups in the quote cache',
      labelNames: ['store', 'result'], registers,
    }),
    providerRequests: new Counter({
      name: 'market_pulse_provider_requests_total', help: 'Requests to market-data providers',
      labelNames: ['provider', 'outcome'], registers,
    }),
    providerSeconds: new Histogram({
      name: 'market_pulse_provider_request_duration_seconds', help: 'Time providers took to answer',
      labelNames: ['provider'], registers, buckets: [0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8],
    }),
    quotaLeft: new Gauge({
      name: 'market_pulse_provider_quota_left', help: 'Requests left in the present minute, by key',
      labelNames: ['provider', 'key'], registers,
    }),
    quotes: new Counter({
      name: 'market_pulse_quotes_total', help: 'Quotes served, by freshness',
      labelNames: ['freshness'], registers,
    }),
    sockets: new Gauge({
      name: 'market_pulse_websocket_clients', help: 'Open price streams', registers,
    }),
  };
}
