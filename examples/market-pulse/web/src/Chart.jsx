// Price over time. Arrow keys or the pointer read single points.

import { useId, useLayoutEffect, useMemo, useRef, useState } from 'react';
import { clock, money } from './format.js';

const HEIGHT = 280;
const MARGIN = { top: 12, right: 60, bottom: 26, left: 4 };
const STEPS = [1, 2, 2.5, 5, 10];

/** Round values that cover [low, high] in about `count` steps. */
function ticks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = STEPS.find((each) => each * power >= raw) * power;
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}

export function Chart({ points, label }) {
  const box = useRef(null);
  const [width, setWidth] = useState(0);
  const [at, setAt] = useState(null); // index of the point being read
  const fill = useId();

  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(entry.contentRect.width));
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);

  const drawn = useMemo(() => {
    if (points.length < 2 || width === 0) return null;
    const prices = points.map((point) => point.price);
    const pad = (Math.max(...prices) - Math.min(...prices)) * 0.12 || prices[0] * 0.01;
    const [low, high] = [Math.min(...prices) - pad, Math.max(...prices) + pad];
    const [from, to] = [points[0].time, points.at(-1).time];
    const x = (time) => MARGIN.left + ((time - from) / (to - from || 1)) * (width - MARGIN.left - MARGIN.right);
    const y = (price) => MARGIN.top + ((high - price) / (high - low)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
    const line = points.map((point) => `${x(point.time).toFixed(1)},${y(point.price).toFixed(1)}`).join('L');
    const count = width < 480 ? 3 : 5;
    const times = Array.from({ length: count }, (_, i) => from + ((to - from) * (i + 0.5)) / count);
    return { x, y, line: `M${line}`, area: `M${line}V${HEIGHT - MARGIN.bottom}H${MARGIN.left}Z`, times, levels: ticks(low, high, 4) };
  }, [points, width]);

  const nearest = (event) => {
    const position = event.clientX - box.current.getBoundingClientRect().left;
    let best = 0;
    points.forEach((point, i) => {
      if (Math.abs(drawn.x(point.time) - position) < Math.abs(drawn.x(points[best].time) - position)) best = i;
    });
    setAt(best);
  };

  const keys = (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === 'Escape') setAt(null);
    if (!move) return;
    event.preventDefault();
    setAt(Math.min(Math.max((at ?? points.length - 1) + move, 0), points.length - 1));
  };

  const span = points.length ? `Since ${clock(points[0].time)}` : '';
  const rising = points.length > 1 && points.at(-1).price >= points[0].price;
  const read = points[at];
  const last = points.at(-1);

  return (
    <figure className={`chart ${rising ? 'up' : 'down'}`} ref={box}>
      {!drawn && <p className="quiet">Waiting for prices…</p>}
      {drawn && (
        <svg
          width={width} height={HEIGHT} role="img" tabIndex="0" onKeyDown={keys} onBlur={() => setAt(null)}
          onPointerMove={nearest} onPointerLeave={() => setAt(null)}
          aria-label={`${label}: ${money(points[0].price)} at ${clock(points[0].time)}, ${money(last.price)} at ${clock(last.time)}`}
        >
          <linearGradient id={fill} x1="0" y1="0" x2="0" y2="1">
            <stop offset="0" stopColor="currentColor" stopOpacity="0.22" />
            <stop offset="1" stopColor="currentColor" stopOpacity="0" />
          </linearGradient>
          {drawn.levels.map((level) => (
            <g key={level} className="level" transform={`translate(0 ${drawn.y(level)})`}>
              <line x1={MARGIN.left} x2={width - MARGIN.right} />
              <text x={width - MARGIN.right + 8} dy="0.32em">{money(level)}</text>
            </g>
          ))}
          {drawn.times.map((time) => <text key={time} x={drawn.x(time)} y={HEIGHT - 6} textAnchor="middle">{clock(time)}</text>)}
          <path d={drawn.area} fill={`url(#${fill})`} />
          <path d={drawn.line} className="line" />
          <circle cx={drawn.x(last.time)} cy={drawn.y(last.price)} r="4" className="now" />
          {read && (
            <g className="read">
              <line x1={drawn.x(read.time)} x2={drawn.x(read.time)} y1={MARGIN.top} y2={HEIGHT - MARGIN.bottom} />
              <circle cx={drawn.x(read.time)} cy={drawn.y(read.price)} r="4.5" />
            </g>
          )}
        </svg>
      )}
      <figcaption aria-live="polite">
        {read ? <><b>{money(read.price)}</b> at {clock(read.time, true)}</> : span}
      </figcaption>
    </figure>
  );
}

export function Sparkline({ points }) {
  if (points.length < 2) return <svg className="spark" aria-hidden="true" />;
  const prices = points.map((point) => point.price);
  const [low, high] = [Math.min(...prices), Math.max(...prices)];
  const [from, to] = [points[0].time, points.at(-1).time];
  const place = ({ time, price }) => `${((time - from) / (to - from || 1)) * 72},${24 - ((price - low) / (high - low || 1)) * 20}`;
  return <svg className="spark" viewBox="0 0 72 28" aria-hidden="true"><path d={`M${points.map(place).join('L')}`} className="line" /></svg>;
}
