// What can be watched.

const TABLE = `
AAPL Apple
ABNB Airbnb
ADBE Adobe
AMD Advanced Micro Devices
AMZN Amazon
ASML ASML Holding
AVGO Broadcom
BA Boeing
BAC Bank of America
BRK.B Berkshire Hathaway
COST Costco
CRM Salesforce
CSCO Cisco
CVX Chevron
DIS Walt Disney
GE General Electric
GOOGL Alphabet
GS Goldman Sachs
HD Home Depot
IBM IBM
INTC Intel
JNJ Johnson & Johnson
JPM JPMorgan Chase
KO Coca-Cola
LLY Eli Lilly
MA Mastercard
MCD McDonald's
META Meta Platforms
MSFT Microsoft
NFLX Netflix
NKE Nike
NVDA NVIDIA
ORCL Oracle
PEP PepsiCo
PFE Pfizer
PG Procter & Gamble
QCOM Qualcomm
SAP SAP
SBUX Starbucks
SHOP Shopify
SONY Sony
SPOT Spotify
TM Toyota
TSLA Tesla
TXN Texas Instruments
UBER Uber
UNH UnitedHealth
V Visa
WMT Walmart
XOM Exxon Mobil`;

export const SYMBOLS = TABLE.trim().split('\n').map((line) => {
  const space = line.indexOf(' ');
  return { symbol: line.slice(0, space), name: line.slice(space + 1) };
});

const names = new Map(SYMBOLS.map(({ symbol, name }) => [symbol, name]));
export const isSymbol = (value) => names.has(value);
export const symbolName = (symbol) => names.get(symbol) ?? symbol;

/** Matches by symbol first, then by name. */
export function searchSymbols(query, limit = 10) {
  const wanted = query.trim().toLowerCase();
  const rank = ({ symbol, name }) => {
    const [s, n] = [symbol.toLowerCase(), name.toLowerCase()];
    if (s === wanted) return 0;
    if (s.startsWith(wanted)) return 1;
    if (n.startsWith(wanted)) return 2;
    return n.includes(wanted) ? 3 : 4;
  };
  return SYMBOLS.map((entry) => [rank(entry), entry]).filter(([r]) => r < 4)
    .sort(([a], [b]) => a - b).slice(0, limit).map(([, entry]) => entry);
}
