// Find a symbol and add it: a combobox with a list, usable by keyboard alone.

import { useEffect, useRef, useState } from 'react';
import { api } from './api.js';

const DEBOUNCE_MS = 180;

export function Search({ onPick, watched }) {
  const [text, setText] = useState('');
  const [results, setResults] = useState(null);
  const [active, setActive] = useState(0);
  const input = useRef(null);

  useEffect(() => {
    if (!text.trim()) {
      setResults(null);
      return undefined;
    }
    const abort = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const { symbols } = await api.search(text, abort.signal);
        setResults(symbols);
        setActive(0);
      } catch {
        if (!abort.signal.aborted) setResults([]);
      }
    }, DEBOUNCE_MS);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [text]);

  useEffect(() => {
    const slash = (event) => {
      if (event.key !== '/' || /^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) return;
      event.preventDefault();
      input.current.focus();
    };
    window.addEventListener('keydown', slash);
    return () => window.removeEventListener('keydown', slash);
  }, []);

  const pick = (entry) => {
    setText('');
    onPick(entry);
  };

  const keys = (event) => {
    if (event.key === 'Escape') return setText('');
    if (!results?.length) return undefined;
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move) {
      event.preventDefault();
      setActive((active + move + results.length) % results.length);
    } else if (event.key === 'Enter') {
      event.preventDefault();
      pick(results[active]);
    }
    return undefined;
  };

  return (
    <div className="search">
      <input
        ref={input} type="text" role="combobox" aria-label="Find a symbol or company" autoComplete="off" spellCheck="false"
        aria-expanded={Boolean(results)} aria-controls="found" aria-autocomplete="list"
        aria-activedescendant={results?.length ? `found-${active}` : undefined}
        placeholder="Find a symbol or company" value={text} onChange={(event) => setText(event.target.value)}
        onKeyDown={keys} onBlur={() => setResults(null)} maxLength={50}
      />
      <kbd aria-hidden="true">/</kbd>
      <ul id="found" role="listbox" aria-label="Symbols" hidden={!results}>
        {results?.map((entry, i) => (
          <li
            key={entry.symbol} id={`found-${i}`} role="option" aria-selected={i === active}
            onPointerDown={(event) => { event.preventDefault(); pick(entry); }} onPointerEnter={() => setActive(i)}
          >
            <b>{entry.symbol}</b> <span>{entry.name}</span>
            {watched.has(entry.symbol) && <small>watched</small>}
          </li>
        ))}
        {results?.length === 0 && <li className="none" role="option" aria-selected="false" aria-disabled="true">Nothing found</li>}
      </ul>
    </div>
  );
}
