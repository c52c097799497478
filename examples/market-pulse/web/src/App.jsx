import { useCallback, useEffect, useMemo, useState } from 'react';
import { Alerts } from './Alerts.jsx';
import { api, currentUser } from './api.js';
import { Chart, Sparkline } from './Chart.jsx';
import { change, money } from './format.js';
import { Search } from './Search.jsx';
import { useStream } from './useStream.js';

const SUGGESTED = [['AAPL', 'Apple'], ['MSFT', 'Microsoft'], ['NVDA', 'NVIDIA'], ['SAP', 'SAP']]
  .map(([symbol, name]) => ({ symbol, name }));
const POINTS_MAX = 240;
const user = currentUser();

/** History of every watched symbol, extended by live quotes: {SYMBOL: [{time, price}]}. */
function useHistory(symbols, quotes) {
  const [past, setPast] = useState({});
  const list = symbols.join(',');

  useEffect(() => {
    const abort = new AbortController();
    for (const symbol of list ? list.split(',') : []) {
      api.history(symbol, abort.signal).then(({ points }) => {
        const rows = points.map((point) => ({ time: Date.parse(point.time), price: point.price }));
        setPast((all) => ({ ...all, [symbol]: rows }));
      }).catch(() => {}); // live quotes draw the line alone
    }
    return () => abort.abort();
  }, [list]);

  useEffect(() => {
    setPast((all) => {
      const next = { ...all };
      for (const { symbol, time, price } of Object.values(quotes)) {
        const rows = all[symbol] ?? [];
        const now = Date.parse(time);
        if (!rows.length || now > rows.at(-1).time) next[symbol] = [...rows, { time: now, price }].slice(-POINTS_MAX);
      }
      return next;
    });
  }, [quotes]);

  return past;
}

export function App() {
  const [items, setItems] = useState(null);
  const [alerts, setAlerts] = useState([]);
  const [selected, setSelected] = useState(null);
  const [problem, setProblem] = useState('');
  const symbols = useMemo(() => (items ?? []).map((item) => item.symbol), [items]);
  const stream = useStream(symbols);
  const past = useHistory(symbols, stream.quotes);

  // Runs a request, then reads both lists again: the server's state is the only truth.
  const act = useCallback(async (work) => {
    try {
      await work?.();
      const [list, marks] = await Promise.all([api.watchlist(user), api.alerts(user)]);
      setItems(list.items);
      setAlerts(marks.alerts);
      setProblem('');
    } catch (error) {
      setProblem(error.message);
    }
  }, []);
  useEffect(() => { act(); }, [act]);

  const add = async ({ symbol }) => {
    await act(() => api.watch(user, symbol));
    setSelected(symbol);
  };

  const current = items?.find((item) => item.symbol === selected) ?? items?.[0];
  return (
    <>
      <header>
        <h1><img src="/pulse.svg" alt="" width="28" height="28" />{document.title}</h1>
        <Search onPick={add} watched={new Set(symbols)} />
      </header>
      {problem && <p className="problem" role="alert">{problem} <button className="plain" onClick={() => act()}>Try again</button></p>}
      <main>
        {items?.length === 0 && <Empty onPick={add} />}
        {current && (
          <>
            <nav aria-label="Watch-list">
              <ul className="list">
                {items.map((item) => (
                  <Row
                    key={item.symbol} item={item} quote={stream.quotes[item.symbol]} points={past[item.symbol] ?? []}
                    chosen={item === current} onChoose={() => setSelected(item.symbol)}
                    onRemove={() => act(() => api.unwatch(user, item.symbol))}
                  />
                ))}
              </ul>
            </nav>
            <Detail item={current} quote={stream.quotes[current.symbol]} points={past[current.symbol] ?? []}>
              <Alerts
                key={current.symbol} symbol={current.symbol} price={stream.quotes[current.symbol]?.price}
                alerts={alerts.filter((alert) => alert.symbol === current.symbol)}
                onAdd={(symbol, above) => act(() => api.addAlert(user, symbol, above))}
                onRemove={(id) => act(() => api.removeAlert(user, id))}
              />
            </Detail>
          </>
        )}
      </main>
      <Status stream={stream} />
    </>
  );
}

function Row({ item, quote, points, chosen, onChoose, onRemove }) {
  const moved = movement(quote, points);
  return (
    <li className={`${moved.way} ${chosen ? 'chosen' : ''}`}>
      <button className="row" aria-current={chosen} onClick={onChoose}>
        <span className="what"><b>{item.symbol}</b><small>{item.name}</small></span>
        <Sparkline points={points} />
        <span className="price"><b>{moved.price}</b><small>{moved.text}</small></span>
      </button>
      <button className="plain remove" aria-label={`Remove ${item.name} from the watch-list`} onClick={onRemove}>×</button>
    </li>
  );
}

function Detail({ item, quote, points, children }) {
  const moved = movement(quote, points);
  return (
    <article className="detail" aria-labelledby="detail-title">
      <div className="head">
        <div>
          <h2 id="detail-title">{item.name}</h2>
          <p className="quiet">{item.symbol}{quote && ` · ${quote.currency} · from ${quote.source}`}</p>
        </div>
        <p className={`now-price ${moved.way}`}>
          <b>{moved.price}</b>
          <span>{moved.text}{quote?.stale && <em className="stale">delayed</em>}</span>
        </p>
      </div>
      <Chart points={points} label={item.name} />
      {children}
    </article>
  );
}

function movement(quote, points) {
  const price = quote?.price ?? points.at(-1)?.price;
  if (price === undefined) return { price: '–', text: ' ', way: '' };
  const ratio = points.length ? price / points[0].price - 1 : 0;
  return { price: money(price), text: `${ratio >= 0 ? '▲' : '▼'} ${change(ratio)}`, way: ratio >= 0 ? 'up' : 'down' };
}

function Empty({ onPick }) {
  return (
    <section className="empty">
      <h2>Nothing watched yet</h2>
      <p>Find a company above, or start with one of these.</p>
      <p>{SUGGESTED.map((entry) => <button key={entry.symbol} onClick={() => onPick(entry)}>{entry.name}</button>)}</p>
    </section>
  );
}

function Status({ stream: { state, server, updated } }) {
  const text = { live: 'Live', connecting: 'Connecting…', offline: 'Offline, trying again…' }[state];
  return (
    <footer>
      <span role="status" className={`state ${state}`}>{text}</span>
      {server && <span>Release {server.release} · instance {server.instance}</span>}
      {updated && <button className="plain" onClick={() => location.reload()}>A new version is out. Reload</button>}
    </footer>
  );
}
