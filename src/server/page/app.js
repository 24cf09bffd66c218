/*
 * The live page: draws the newest snapshot of one channel, and how the connection and the engine do.
 * It guarantees:
 *  - Drawing never falls behind: a message only replaces the newest text, and each frame of the screen parses
 *    and draws the newest one. Snapshots replaced before that are counted as skipped draws.
 *  - A symbol's row is made once and updated in place; the work of one frame is bound by MAX_ROWS.
 *  - Nothing that arrives becomes markup, and no message, whatever it holds, stops the page.
 *  - A connection that closes comes back by itself, for ever.
 * It keeps no history beyond the trend lines, and asks the server for nothing but its stream and /stats.
 */

const QUERY = new URLSearchParams(location.search);
const CHANNEL = QUERY.get('channel') || 'market';
const TOKEN = QUERY.get('token');
const DASH = '–';
// Whatever is published, a frame's work has an end.
const MAX_ROWS = 2000;
// In characters: enough for a column's head, and a bound on what somebody may publish as a symbol.
const [MIN_WIDTH, MAX_WIDTH] = [6, 24];
const TREND_POINTS = 120;
// With a point a draw, a channel of hundreds of snapshots a second would show two seconds only.
const TREND_INTERVAL_MS = 250;
// A screen this slow has no time for motion.
const SLOW_FRAME_MS = 33;
const STALE_AGE_S = 5;
// Clocks of two machines under NTP differ by less; more is worth showing.
const CLOCK_SKEW_S = 2;
const RATE_WINDOW_MS = 5000;
const STATS_INTERVAL_MS = 2000;
const CONNECT_TIMEOUT_MS = 10_000;
// A delay lies between half its ceiling and its ceiling: 250 ms at the least, 10 s at the most.
const [RETRY_CEILING_FIRST_MS, RETRY_CEILING_MS] = [500, 10_000];
// A server that accepts and closes at once must not be asked again at the shortest delay.
const STEADY_MS = 5000;
const OTHER_TEXT_LENGTH = 240;
// The server writes the type first, so the head is enough, however large the message is.
const SNAPSHOT_HEAD_LENGTH = 256;
const SNAPSHOT_HEAD = /"type"\s*:\s*"snapshot"/;

const element = (id) => document.getElementById(id);
const isFigure = (value) => typeof value === 'number' && Number.isFinite(value);
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };

// ---- Price board
const PRICE_TEXT = {
  price: (value, decimals) => grouped(value, decimals.price),
  average: (value, decimals) => grouped(value, decimals.price),
  change: (value, decimals) => signed(value, decimals.price),
  percent: (value) => `${signed(value, 2)}%`,
  size: (value, decimals) => grouped(value, decimals.size),
  count: (value) => grouped(value),
};
const rows = new Map();
const widths = new Map(); // characters of the longest text, by column
let trendAt = -Infinity;

// Motion and trend lines cost the most and matter only where somebody sees them; figures are kept in every row.
const viewport = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const row = rows.get(target.dataset.symbol);
    row.inView = isIntersecting;
    if (isIntersecting) drawTrend(row.trend);
  }
});

// The style sheet makes the columns from these widths: a table that fits itself would measure every row at each draw.
function widen(key, text) {
  const width = Math.min(text.length, MAX_WIDTH);
  if (width <= (widths.get(key) ?? MIN_WIDTH)) return;
  widths.set(key, width);
  element('board').style.setProperty(`--${key}`, width);
}

function makeRow(symbol) {
  const node = element('row').content.firstElementChild.cloneNode(true);
  node.dataset.symbol = symbol;
  node.firstElementChild.textContent = symbol;
  widen('symbol', symbol);
  const cells = [...node.querySelectorAll('[data-kind]')].map((cell) => (
    { ...cell.dataset, node: cell, text: cell.firstChild, value: null, turn: 0 }));
  const trend = { node: node.lastElementChild, path: node.querySelector('path'), prices: [] };
  return { node, cells, trend, decimals: { price: 0, size: 0 }, inView: false };
}

function rowOf(symbol) {
  const known = rows.get(symbol);
  if (known || rows.size >= MAX_ROWS) return known;
  const row = makeRow(symbol);
  const [next] = [...rows.keys()].filter((other) => other > symbol).sort();
  element('rows').insertBefore(row.node, rows.get(next)?.node ?? null);
  rows.set(symbol, row);
  viewport.observe(row.node);
  return row;
}

// Decimals only grow, so that the point of a figure stays where it is. Returns whether they grew.
function learnDecimals({ cells, decimals }, figures) {
  const before = decimals.price + decimals.size;
  for (const { key, kind, value } of cells) {
    const figure = figures[key];
    if (!(kind in decimals) || figure === value || !isFigure(figure)) continue;
    decimals[kind] = Math.max(decimals[kind], decimalsOf(figure));
  }
  return decimals.price + decimals.size > before;
}

function drawRow(row, figures, at) {
  const canFlash = row.inView && pending.frameMs < SLOW_FRAME_MS;
  const grew = learnDecimals(row, figures);
  let isChanged = row.changedAt === undefined || figures.ts !== row.ts;
  for (const cell of row.cells) {
    const before = cell.value;
    const value = isFigure(figures[cell.key]) ? figures[cell.key] : null;
    if (value === before && !grew) continue;
    isChanged ||= value !== before;
    cell.value = value;
    const text = value === null ? DASH : PRICE_TEXT[cell.kind](value, row.decimals);
    if (text === cell.text.data) continue;
    cell.text.data = text;
    widen(cell.key, text);
    if (cell.kind === 'change' || cell.kind === 'percent') cell.node.dataset.sign = Math.sign(value);
    if (canFlash && 'flash' in cell && value !== null && before !== null && value !== before) {
      cell.turn ^= 1;
      cell.node.dataset.flash = `${value > before ? 'up' : 'down'}-${cell.turn}`;
    }
  }
  if (isChanged) noteChange(row, figures, at);
}

function drawTrend({ node, path, prices }) {
  if (prices.length < 2) return;
  const low = Math.min(...prices);
  const span = Math.max(...prices) - low;
  // A third of the points fill the width, so that the first ones are not squeezed into a corner.
  const width = Math.max(TREND_POINTS / 3, prices.length) - 1;
  const points = prices.map((price, index) => {
    const x = 100 - ((prices.length - 1 - index) * 100) / width;
    return `${x.toFixed(1)} ${(span === 0 ? 50 : 94 - ((price - low) * 88) / span).toFixed(1)}`;
  });
  path.setAttribute('d', `M${points.join('L')}`);
  node.dataset.sign = Math.sign(prices.at(-1) - prices[0]);
}

function drawBoard(symbols, at) {
  const isTrendDue = performance.now() - trendAt >= TREND_INTERVAL_MS;
  if (isTrendDue) trendAt = performance.now();
  let unshown = 0;
  for (const [symbol, figures] of Object.entries(symbols)) {
    if (!isObject(figures)) continue;
    const row = rowOf(symbol);
    if (row) drawRow(row, figures, at);
    else unshown += 1;
    if (!row || !isTrendDue || !isFigure(figures.last)) continue;
    row.trend.prices = [...row.trend.prices, figures.last].slice(-TREND_POINTS);
    if (row.inView) drawTrend(row.trend);
  }
  // A symbol that left may come back, so its row is kept; but it must not stand there as if it were quoted.
  for (const [symbol, { node }] of rows) node.hidden = !Object.hasOwn(symbols, symbol);
  element('empty').hidden = unshown === 0 && Object.keys(symbols).length > 0;
  setText(element('empty'), unshown > 0 ? `${grouped(unshown)} more symbols are not shown` : 'no symbols yet');
}

// ---- Stream: what was received, what is drawn
const counts = { messages: 0, received: 0, drawn: 0, gaps: 0, sockets: 0 };
const pending = { snapshot: null, other: null, isRequested: false, frameMs: 0 };
let [newest, baseline] = [null, null];

function receive(data) {
  counts.messages += 1;
  const isSnapshot = typeof data === 'string' && SNAPSHOT_HEAD.test(data.slice(0, SNAPSHOT_HEAD_LENGTH));
  counts.received += isSnapshot ? 1 : 0;
  const kind = isSnapshot ? 'snapshot' : 'other';
  pending[kind] = { data, at: new Date(), arrival: counts.messages, socket: counts.sockets };
  requestDraw();
}

function requestDraw() {
  if (pending.isRequested || !(pending.snapshot || pending.other)) return;
  pending.isRequested = true;
  requestAnimationFrame(drawPending);
}

function drawPending() {
  const startedAt = performance.now();
  // A browser puts frames before messages. As long as this one takes, layout and all, messages have the thread to
  // themselves; else a board slow to draw would leave the newest text ever further behind in the browser's queue.
  setTimeout(() => {
    pending.frameMs = performance.now() - startedAt;
    setTimeout(endDraw, pending.frameMs);
  });
  const { snapshot, other } = pending;
  Object.assign(pending, { snapshot: null, other: null });
  if (snapshot) drawSnapshot(snapshot);
  if (other) drawOther(other);
}

function endDraw() {
  pending.isRequested = false;
  requestDraw();
}

function parseSnapshot(text) {
  try {
    const message = JSON.parse(text);
    const { type, seq, ts, symbols } = message;
    return type === 'snapshot' && isFigure(seq) && isFigure(ts) && isObject(symbols) ? message : null;
  } catch {
    return null;
  }
}

function drawSnapshot(received) {
  const snapshot = parseSnapshot(received.data);
  counts.received -= snapshot ? 0 : 1;
  if (!snapshot) return drawOther(received);
  countGaps(snapshot.seq, received);
  drawBoard(snapshot.symbols, snapshot.ts);
  newest = snapshot;
  counts.drawn += 1;
}

// Every message of the channel takes a number, so what is missing is the numbers passed less the messages that
// arrived, drawn or not. What was published while there was no connection is not lag.
function countGaps(seq, { arrival, socket }) {
  if (baseline?.socket === socket) {
    if (seq <= baseline.seq) return;
    counts.gaps += Math.max(0, seq - baseline.seq - (arrival - baseline.arrival));
  }
  baseline = { seq, arrival, socket };
}

function drawOther({ data, at }) {
  const isText = typeof data === 'string';
  const size = isText ? `${grouped(data.length)} characters` : bytesText(data.byteLength);
  setText(element('other-kind'), `${at.toLocaleTimeString('en-GB')} · ${isText ? 'text' : 'binary'}, ${size}`);
  setText(element('other-text'), isText ? data.slice(0, OTHER_TEXT_LENGTH) : '');
  element('other').hidden = false;
}

// ---- Connection
const link = { socket: null, state: 'connecting', detail: '', openedAt: Infinity, retries: 0, retryAt: 0, timer: 0 };

function connect() {
  clearTimeout(link.timer);
  const url = new URL(`ws/${encodeURIComponent(CHANNEL)}`, location.href);
  url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  const shown = url.href;
  if (TOKEN) url.searchParams.set('token', TOKEN);
  const socket = new WebSocket(url);
  socket.binaryType = 'arraybuffer';
  counts.sockets += 1;
  // A browser waits minutes for a host that does not answer.
  const timer = setTimeout(() => socket.close(), CONNECT_TIMEOUT_MS);
  Object.assign(link, { socket, state: 'connecting', openedAt: Infinity, timer });
  socket.onopen = () => {
    clearTimeout(timer);
    Object.assign(link, { state: 'live', detail: `connected to ${shown}`, openedAt: performance.now() });
  };
  socket.onmessage = (event) => receive(event.data);
  socket.onclose = retryLater;
}

function retryLater({ code, reason }) {
  clearTimeout(link.timer);
  const now = performance.now();
  if (now - link.openedAt >= STEADY_MS) link.retries = 0;
  const ceiling = Math.min(RETRY_CEILING_MS, RETRY_CEILING_FIRST_MS * 2 ** link.retries);
  const delay = (ceiling * (1 + Math.random())) / 2;
  // A server on this machine answers without a network, so the retries go on while the browser is offline.
  const state = navigator.onLine ? 'reconnecting' : 'offline';
  const detail = `closed with code ${code}${reason ? `: ${reason}` : ''}`;
  Object.assign(link, { socket: null, state, detail, retryAt: now + delay, timer: setTimeout(connect, delay) });
  link.retries += 1;
}

function retryNow() {
  if (!link.socket && !document.hidden) connect();
}

function drawLight() {
  element('light').dataset.state = link.state;
  element('light').title = link.detail;
  setText(element('state'), link.state);
  const wait = Math.max(1, Math.ceil((link.retryAt - performance.now()) / 1000));
  setText(element('retry'), link.state === 'reconnecting' ? `in ${wait} s` : '');
}

// ---- Header
const samples = [];

function drawRate() {
  const now = performance.now();
  samples.push({ at: now, received: counts.received });
  while (samples.length > 2 && now - samples[1].at >= RATE_WINDOW_MS) samples.shift();
  const [first] = samples;
  if (now - first.at < 1000) return;
  setText(element('rate'), rateText(((counts.received - first.received) * 1000) / (now - first.at)));
}

function drawAge() {
  if (!newest) return;
  const measured = (Date.now() * 1000 - newest.ts) / 1e6;
  const age = measured < 0 && measured > -CLOCK_SKEW_S ? 0 : measured;
  setText(element('age'), durationText(age));
  element('age').classList.toggle('warn', link.state === 'live' && (age > STALE_AGE_S || age < 0));
}

function drawHeader() {
  drawRate();
  drawAge();
  drawFeed();
  drawLight();
  setText(element('seq'), newest ? grouped(newest.seq) : DASH);
  setText(element('gaps'), grouped(counts.gaps));
  element('gaps').classList.toggle('warn', counts.gaps > 0);
  setText(element('skipped'), grouped(counts.received - counts.drawn - (pending.snapshot ? 1 : 0)));
}

// ---- Engine figures
const STAT_TEXT = {
  count: (value) => (isFigure(value) ? grouped(value) : DASH),
  bytes: (value) => (isFigure(value) ? bytesText(value) : DASH),
  duration: (value) => (isFigure(value) ? durationText(value) : DASH),
  text: (value) => (value === undefined ? DASH : String(value)),
  list: (value) =>
    Object.entries(value ?? {}).map(([name, count]) => `${name} ${STAT_TEXT.count(count)}`).join(' · ') || DASH,
};
const engine = { before: {}, isReachable: true };

// By the server's own clock, so that a late poll bends no rate; over a restart there is none.
function perSecond(stats, key, kind) {
  const seconds = stats.uptime_seconds - engine.before.uptime_seconds;
  const rate = (stats[key] - engine.before[key]) / seconds;
  const text = kind === 'bytes' ? bytesText : rateText;
  return seconds > 0 && rate >= 0 ? `${text(rate)}/s` : '';
}

function drawEngine(stats) {
  for (const node of document.querySelectorAll('[data-stat]')) {
    const { stat, kind } = node.dataset;
    setText(node, STAT_TEXT[kind](stats[stat]));
    if (node.nextElementSibling) setText(node.nextElementSibling, perSecond(stats, stat, kind));
  }
  engine.before = stats;
  learnFeed(stats);
  return stats.draining === true ? 'draining' : stats.ready === false ? 'not ready' : 'ready';
}

async function pollStats() {
  setTimeout(pollStats, STATS_INTERVAL_MS);
  // A browser logs each failed request, so a server that did not answer is asked again only when the stream is back.
  if (document.hidden || (!engine.isReachable && link.state !== 'live')) return;
  engine.isReachable = false;
  let state;
  try {
    const headers = TOKEN ? { authorization: `Bearer ${TOKEN}` } : {};
    const signal = AbortSignal.timeout(STATS_INTERVAL_MS);
    const response = await fetch('stats', { cache: 'no-store', headers, signal });
    state = response.ok ? drawEngine(await response.json()) : `no figures: status ${response.status}`;
    engine.isReachable = response.ok;
  } catch (error) {
    state = `no figures: ${error.message}`;
  }
  setText(element('engine-state'), state);
  element('engine-state').classList.toggle('warn', state !== 'ready');
}

// ---- Start
Object.defineProperty(window, 'tickcast', { value: Object.freeze({
  get received() { return counts.received; }, get drawn() { return counts.drawn; },
  get gaps() { return counts.gaps; }, get state() { return link.state; },
}) });
setText(element('channel'), CHANNEL);
document.title = `tickcast · ${CHANNEL}`;
document.addEventListener('visibilitychange', retryNow);
window.addEventListener('online', retryNow);
setInterval(drawHeader, 200);
setInterval(drawAges, 1000);
connect();
pollStats();
