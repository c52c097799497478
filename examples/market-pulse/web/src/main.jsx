import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './App.jsx';
import './style.css';

document.title = import.meta.env.VITE_TITLE || 'Market Pulse';

createRoot(document.getElementById('root')).render(<StrictMode><App /></StrictMode>);
