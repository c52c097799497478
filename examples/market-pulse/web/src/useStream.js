// One WebSocket for the page. It comes back by itself, later after each failure and never at the same moment as others.

import { useEffect, useRef, useState } from 'react';

const GOING_AWAY = 1001; // the server moves us to another instance: come back soon
const delayMs = (attempt) => Math.min(500 * 2 ** attempt, 15_000) * (0.5 + Math.random() / 2);

const subscribe = (ws, symbols) => ws.send(JSON.stringify({ type: 'subscribe', symbols }));

/** Returns {state: 'connecting' | 'live' | 'offline', server, updated, quotes}. */
export function useStream(symbols) {
  const [state, setState] = useState('connecting');
  const [server, setServer] = useState(null); // the latest hello
  const [first, setFirst] = useState(null); // the release this page came with
  const [quotes, setQuotes] = useState({});
  const socket = useRef(null);
  const wanted = useRef(symbols);
  const list = symbols.join(',');

  useEffect(() => {
    let attempt = 0;
    let timer;
    let ended = false;

    function connect() {
      clearTimeout(timer);
      const asked = wanted.current.join(',');
      const ws = new WebSocket(`${location.origin.replace(/^http/, 'ws')}/stream?symbols=${asked}`);
      socket.current = ws;
      ws.onopen = () => { if (wanted.current.join(',') !== asked) subscribe(ws, wanted.current); };
      ws.onmessage = ({ data }) => {
        const { type, ...message } = JSON.parse(data);
        if (type === 'hello') {
          attempt = 0;
          setState('live');
          setServer(message);
          setFirst((known) => known ?? message.release);
        } else if (type === 'quote') {
          setQuotes((all) => ({ ...all, [message.symbol]: message }));
        }
      };
      ws.onclose = ({ code }) => {
        if (ended || socket.current !== ws) return;
        setState(code === GOING_AWAY ? 'connecting' : 'offline');
        timer = setTimeout(connect, code === GOING_AWAY ? Math.random() * 500 : delayMs(attempt));
        attempt += 1;
      };
    }

    const online = () => { if (socket.current?.readyState === WebSocket.CLOSED) connect(); };
    window.addEventListener('online', online);
    timer = setTimeout(connect, 0);
    return () => {
      ended = true;
      clearTimeout(timer);
      window.removeEventListener('online', online);
      socket.current?.close();
    };
  }, []);

  useEffect(() => {
    wanted.current = list ? list.split(',') : [];
    if (socket.current?.readyState === WebSocket.OPEN) subscribe(socket.current, wanted.current);
  }, [list]);

  return { state, server, updated: Boolean(server && server.release !== first), quotes };
}
