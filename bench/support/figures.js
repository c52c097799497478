// The figures of a benchmark: printed as lines for programs and people, judged, and written into the documentation.

import { readFileSync, writeFileSync } from 'node:fs';

/** Figures in the order in which they were measured. */
export class Figures {
  #all = [];

  /**
   * Adds one. `max` is the largest value that is good enough; `meaning` is for the documentation. `who` is whose figure
   * it is when others have the same one; the name then begins with that.
   */
  add(name, value, unit, { max, meaning = '', who } = {}) {
    const missed = max !== undefined && !(value <= max); // not a number is a miss, too
    const figure = { name: who ? `${who}_${name}` : name, what: name, who, value, unit, max, missed, meaning };
    this.#all.push(figure);
    console.log(lineOf(figure));
  }

  get missed() {
    return this.#all.filter(({ missed }) => missed);
  }

  /** As Markdown: first what `columns` ({who: heading}) have in common, side by side, then the rest. */
  tables(columns) {
    const present = Object.keys(columns).filter((who) => this.#all.some((figure) => figure.who === who));
    const shared = [...new Set(this.#all.filter(({ who }) => who).map(({ what }) => what))];
    const common = shared.map((what) => {
      const found = present.map((who) => this.#all.find((figure) => figure.who === who && figure.what === what));
      const { unit, meaning } = found.find(Boolean);
      const target = found.find((figure) => figure?.max !== undefined);
      return [`\`${what}\``, ...found.map(cellOf), unit, target ? `≤ ${show(target.max)}` : '', meaning];
    });
    const alone = this.#all.filter(({ who }) => !who);
    const own = alone.map((figure) => [
      `\`${figure.name}\``,
      cellOf(figure),
      figure.unit,
      figure.max === undefined ? '' : `≤ ${show(figure.max)}`,
      figure.meaning,
    ]);
    const headings = present.map((who) => columns[who]);
    return [
      ...(common.length ? [table(['figure', ...headings, 'unit', 'target', 'what it is'], common)] : []),
      ...(own.length ? [table(['figure', 'value', 'unit', 'target', 'what it is'], own)] : []),
    ].join('\n\n');
  }
}

const cellOf = (figure) => (figure ? `${show(figure.value)}${figure.missed ? ' **missed**' : ''}` : '');

function table(headings, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  return [line(headings), line(headings.map(() => '---')), ...rows.map(line)].join('\n');
}

function lineOf({ name, value, unit, max, missed }) {
  return `${name} ${show(value)} ${unit} ${max === undefined ? '-' : `<=${show(max)}`} ${missed ? 'MISS' : 'ok'}`;
}

function show(value) {
  if (!Number.isFinite(value)) return 'none';
  if (Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 100 ? String(Math.round(value)) : String(Number(value.toPrecision(3)));
}

/** The nearest-rank percentile of numbers in any order; NaN of none. */
export function percentile(values, percent) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)] : NaN;
}

export const median = (values) => percentile(values, 50);

/** Replaces what is between `<!-- NAME -->` and `<!-- /NAME -->` in a file. Error: the markers are not there. */
export function writeBetween(file, name, text) {
  const [open, close] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const whole = readFileSync(file, 'utf8');
  const from = whole.indexOf(open);
  const to = whole.indexOf(close);
  if (from < 0 || to < from) throw new Error(`${file} has no ${open} … ${close} to write into`);
  writeFileSync(file, `${whole.slice(0, from + open.length)}\n${text}\n${whole.slice(to)}`);
}
