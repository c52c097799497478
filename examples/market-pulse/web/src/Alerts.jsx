// Price marks of one symbol: set, see whether the price is above, remove.

import { useState } from 'react';
import { money } from './format.js';

export function Alerts({ symbol, price, alerts, onAdd, onRemove }) {
  const [text, setText] = useState('');
  const above = Number(text.replace(',', '.'));
  const valid = text !== '' && above > 0 && above < 1e9;

  const submit = (event) => {
    event.preventDefault();
    if (!valid) return;
    onAdd(symbol, above);
    setText('');
  };

  return (
    <section className="alerts" aria-labelledby="alerts-title">
      <h3 id="alerts-title">Price alerts</h3>
      <form onSubmit={submit}>
        <label htmlFor="above">Above</label>
        <input id="above" inputMode="decimal" autoComplete="off" value={text} onChange={(event) => setText(event.target.value)}
          placeholder={price ? money(price * 1.01) : ''} />
        <button disabled={!valid}>Set alert</button>
      </form>
      <ul>
        {alerts.map((alert) => (
          <li key={alert.id}>
            <span>{money(alert.above)}</span>
            {price > alert.above ? <em className="reached">reached</em> : <em>waiting</em>}
            <button className="plain" aria-label={`Remove the alert at ${money(alert.above)}`} onClick={() => onRemove(alert.id)}>×</button>
          </li>
        ))}
      </ul>
    </section>
  );
}
