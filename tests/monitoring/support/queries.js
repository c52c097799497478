// Seeded samples and PromQL over them.

/** Numbers that a seed repeats. */
export class Random {
  #state;

  constructor(seed) {
    this.#state = (seed * 2654435761 + 12345) >>> 0;
  }

  /** In [0, 1). */
  next() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let z = this.#state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  }

  below(n) {
    return Math.floor(this.next() * n);
  }

  of(list) {
    return list[this.below(list.length)];
  }

  chance(p) {
    return this.next() < p;
  }
}

const INTERVAL_MS = 15_000;
const STEPS = 360; // an hour and a half
const JOBS = ['api', 'web', 'worker'];
const INSTANCES = ['a:1', 'b:1', 'c:2'];
const CODES = ['200', '404', '500'];
const BOUNDS = ['0.1', '0.5', '1.0', '5.0', '+Inf'];

// Evaluations are at half seconds, their windows' edges and what `@` names at half or whole ones.
const offGrid = (time) => (time % 500 === 0 ? time + 1 : time);

/**
 * {openMetrics, text, end}: the same samples with times in seconds and in milliseconds; the last at about `end`.
 * Counters start high, for near zero versions 2 and 3 extrapolate in another order.
 */
export function makeSamples(random, now) {
  const end = Math.floor(now / 60_000) * 60_000 - 60_000;
  const first = end - STEPS * INTERVAL_MS;
  const families = [];
  const family = (name, type) => families.push({ name, type, lines: [] }) && families.at(-1).lines;
  const add = (lines, name, labels, value, time) =>
    lines.push({ name: `${name}{${labels}}`, value: value === undefined ? value : String(value), time });
  const each = (lines, name, labels, next) => {
    const offset = 1 + random.below(INTERVAL_MS - 1002);
    const gapAt = random.chance(0.3) ? random.below(STEPS) : -1;
    for (let step = 0; step < STEPS; step += 1) {
      const value = next(step);
      if (step >= gapAt && step < gapAt + 30 && gapAt >= 0) continue;
      add(lines, name, labels, value, offGrid(first + step * INTERVAL_MS + offset));
    }
  };
  const requests = family('requests', 'counter');
  for (const job of JOBS)
    for (const instance of INSTANCES)
      for (const code of CODES) {
        let value = 10_000 + random.below(1000);
        each(requests, 'requests_total', `job="${job}",instance="${instance}",code="${code}"`, () => {
          if (random.chance(0.005)) value = 9000;
          value += random.below(50) * (code === '200' ? 10 : 1);
          return value;
        });
      }
  for (const name of ['temperature', 'queue'])
    for (const lines of [family(name, 'gauge')])
      for (const job of JOBS)
        for (const instance of INSTANCES) {
          let value = random.below(5000) + 1000;
          each(lines, name, `job="${job}",instance="${instance}"`, () => {
            value += random.below(201) - 100;
            return value / 100;
          });
        }
  const latency = family('latency', 'histogram');
  for (const job of JOBS)
    for (const instance of INSTANCES) {
      const columns = BOUNDS.map((bound, i) => ({ bound, value: 20_000 + i * 500, adds: [] }));
      for (let step = 0; step < STEPS; step += 1) {
        let sum = 0;
        for (const column of columns) {
          sum += random.below(20);
          column.adds.push(sum);
        }
      }
      const offset = 1 + random.below(INTERVAL_MS - 1002);
      for (const column of columns) {
        for (let step = 0; step < STEPS; step += 1) {
          column.value += column.adds[step];
          const time = first + step * INTERVAL_MS + offset;
          add(latency, 'latency_bucket', `job="${job}",instance="${instance}",le="${column.bound}"`, column.value, offGrid(time));
        }
      }
      const total = columns.at(-1);
      let count = 22_000;
      for (let step = 0; step < STEPS; step += 1) {
        count += total.adds[step];
        const time = first + step * INTERVAL_MS + offset;
        add(latency, 'latency_count', `job="${job}",instance="${instance}"`, count, offGrid(time));
      }
    }
  // gauges of OpenMetrics, all of them: promtool wants no more than names, labels, values and times
  const openMetrics = families
    .flatMap(({ lines }) => lines)
    .map(({ name, value, time }) => `${name} ${value} ${(time / 1000).toFixed(3)}`);
  const text = families.flatMap(({ lines }) => lines).map(({ name, value, time }) => `${name} ${value} ${time}`);
  return { openMetrics: `${openMetrics.join('\n')}\n# EOF\n`, text: `${text.join('\n')}\n`, end };
}

const RANGE_FUNCTIONS = [
  'rate', 'increase', 'irate', 'delta', 'idelta', 'deriv', 'changes', 'resets', 'avg_over_time', 'min_over_time', 'max_over_time',
  'sum_over_time', 'count_over_time', 'stddev_over_time', 'stdvar_over_time', 'last_over_time', 'present_over_time',
];
const INSTANT_FUNCTIONS = [
  'abs', 'ceil', 'floor', 'exp', 'ln', 'log2', 'log10', 'sqrt', 'sgn', 'sin', 'cos', 'tan', 'atan', 'sinh', 'tanh', 'asinh', 'rad', 'deg',
  'timestamp', 'minute', 'hour', 'day_of_week', 'day_of_month', 'day_of_year', 'days_in_month', 'month', 'year', 'round',
];
const AGGREGATIONS = ['sum', 'avg', 'min', 'max', 'count', 'group', 'stddev', 'stdvar'];
const DURATIONS = ['1m', '5m', '90s', '10m', '23m'];
const ARITHMETIC = ['+', '-', '*', '/', '%', '^']; // 2.42 keeps the name after atan2
const COMPARISONS = ['==', '!=', '<', '>', '<=', '>='];

/** Queries of every kind, nested a little. */
export class QueryMaker {
  #random;
  #end;

  constructor(random, end) {
    this.#random = random;
    this.#end = end;
  }

  /** {path, parameters} of one request. */
  next() {
    const random = this.#random;
    const query = this.#vector(random.below(3));
    const begin = this.#end - (1 + random.below(80)) * 60_000 + 500; // subqueries are at whole seconds
    if (random.chance(0.5)) return { path: '/api/v1/query', parameters: { query, time: String(begin / 1000) } };
    const step = random.of(['15', '30', '60', '137']);
    const length = random.of([5, 15, 30]) * 60_000;
    return {
      path: '/api/v1/query_range',
      parameters: { query, start: String((begin - length) / 1000), end: String(begin / 1000), step },
    };
  }

  #matchers() {
    const random = this.#random;
    const label = random.of([['job', JOBS], ['instance', INSTANCES]]);
    const value = random.of(label[1]);
    return random.of([
      '', '', `${label[0]}="${value}"`, `${label[0]}!="${value}"`, `${label[0]}=~"${value[0]}.*"`, `${label[0]}!~"${value}|x"`,
      'job=~"api|web"', 'none=""', 'job=~".+"',
    ]);
  }

  #shift() {
    const random = this.#random;
    return random.of(['', '', '', '', ' offset 7m', ' offset -3m', ` @ ${this.#end / 1000 - 1200}`, ' @ end()', ' @ start()']);
  }

  #selector(name) {
    return `${name ?? this.#random.of(['requests_total', 'temperature', 'queue', 'latency_bucket'])}{${this.#matchers()}}`;
  }

  #range(name) {
    const random = this.#random;
    if (random.chance(0.15)) return `${this.#selector(name)}[10m:${random.of(['47s', '1m', '137s'])}]${random.of(['', ' offset 311s'])}`;
    return `${this.#selector(name)}[${random.of(DURATIONS)}]${this.#shift()}`;
  }

  #leaf() {
    const random = this.#random;
    const kind = random.below(10);
    if (kind < 5) {
      const name = random.of(RANGE_FUNCTIONS);
      // of what is far from zero: near it version 3 extrapolates otherwise
      const counters = ['rate', 'increase'].includes(name) ? random.of(['requests_total', 'latency_bucket']) : undefined;
      return `${name}(${this.#range(counters)})`;
    }
    if (kind === 5) return `quantile_over_time(${random.of(['0.5', '0.9', '0'])}, ${this.#range()})`;
    // without `@`, with which 2.42 loses points of the window from step to step
    if (kind === 6) return `predict_linear(${this.#selector('temperature')}[10m], ${random.of(['60', '3600'])})`;
    return `${this.#selector()}${this.#shift()}`;
  }

  #aggregate(inner) {
    const random = this.#random;
    const grouping = random.of(['', ' by (job)', ' by (job, instance)', ' without (instance)', ' without (code, le)', ' by (none)']);
    const kind = random.below(12);
    if (kind === 0) return `quantile${grouping} (${random.of(['0.3', '0.99'])}, ${inner})`;
    if (kind === 1) return `topk${grouping} (2, deriv(temperature[10m]))`;
    if (kind === 2) return `bottomk${grouping} (3, deriv(queue[5m]))`;
    if (kind === 3) return `count_values${grouping} ("v", round(temperature, 10))`;
    return `${random.of(AGGREGATIONS)}${grouping} (${inner})`;
  }

  #binary(depth) {
    const random = this.#random;
    const kind = random.below(9);
    const [a, b] = ['temperature', 'queue'].map((name) => this.#selector(name));
    if (kind === 0) return `${a} ${random.of(ARITHMETIC)} ${b}`;
    if (kind === 1) return `${a} ${random.of(ARITHMETIC)} on (job, instance) ${b}`;
    if (kind === 2) return `requests_total ${random.of(['/', '*', '-'])} on (job, instance) group_left ${b}`;
    if (kind === 3) return `${b} ${random.of(['+', '*'])} ignoring (code) group_right requests_total`;
    if (kind === 4) return `${a} ${random.of(COMPARISONS)} ${random.of(['', 'bool '])}${b}`;
    if (kind === 5) return `${a} ${random.of(['and', 'or', 'unless'])} ${random.of(['', 'on (job) '])}${b}`;
    if (kind === 6) return `(${this.#vector(depth)}) ${random.of(ARITHMETIC)} ${random.of(['2', '0.5', '-3', '0'])}`;
    if (kind === 7) return `${random.of(['100', '2'])} ${random.of(['+', '-', '*', '/'])} (${this.#vector(depth)})`;
    return `(${this.#vector(depth)}) ${random.of(COMPARISONS)} ${random.of(['', 'bool '])}${random.of(['10', '30'])}`;
  }

  #special() {
    const random = this.#random;
    return random.of([
      () => `histogram_quantile(${random.of(['0.5', '0.9', '0.99', '1'])}, sum by (le${random.of(['', ', job'])}) (rate(latency_bucket[${random.of(DURATIONS)}])))`,
      () => `histogram_quantile(0.7, rate(latency_bucket{${this.#matchers()}}[5m]))`,
      () => `label_replace(${this.#selector('queue')}, "host", "$1-$2", "instance", "(.*):(.*)")`,
      () => `label_join(${this.#selector('queue')}, "all", "/", "job", "instance")`,
      () => `absent(${random.of(['nothing{a="b"}', 'temperature', 'nothing{a=~"b",c="d"}'])})`,
      () => `absent_over_time(${random.of(['nothing{a="b"}', 'temperature'])}[5m])`,
      () => `clamp(${this.#selector('temperature')}, 10, ${random.of(['20', '40'])})`,
      () => `clamp_min(${this.#selector('queue')}, 30) - clamp_max(${this.#selector('queue')}, 25)`,
      () => `vector(${random.of(['1', 'time()', 'pi()'])})`,
      () => `scalar(${this.#selector('queue')})`,
      () => 'time()',
      () => `-${this.#selector('temperature')}`,
      () => `max_over_time(rate(requests_total{${this.#matchers()}}[5m])[10m:${random.of(['47s', '61s'])}])`,
      () => `sum_over_time(temperature[5m:33s])`,
      () => `sort_desc(sum by (job) (queue))`,
      () => random.of(['requests_total[5m', 'sum(', 'rate(temperature)', 'temperature + on (job) queue', '1 == 2', 'foo bar']),
    ])();
  }

  #vector(depth) {
    const random = this.#random;
    if (depth === 0) return random.chance(0.25) ? this.#special() : this.#leaf();
    const kind = random.below(6);
    if (kind === 0) return `${random.of(INSTANT_FUNCTIONS)}(${this.#vector(depth - 1)})`;
    if (kind === 1) return this.#binary(depth - 1);
    if (kind === 2) return this.#special();
    return this.#aggregate(this.#leaf());
  }
}
