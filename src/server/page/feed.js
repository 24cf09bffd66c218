/*
 * How old prices are. Of the feed as a whole by the server's word in /stats; of each symbol by the snapshot in which it
 * last changed, so that no clock but the server's matters. Only what was there before the page came has an age by the
 * exchange's clock, and only if the feed is live: a recording has the time at which it was made.
 * In one script with app.js, before it.
 */

// Quieter markets than that are common; they are not in trouble, but whoever trades wants to know.
const AGE_SHOWN_S = 5;
const feed = { isLive: false, isConnected: false, isInTrouble: false, age: null, at: 0 };

function learnFeed(stats) {
  feed.isLive = CHANNEL === 'market' && typeof stats.source_connected === 'boolean';
  feed.isConnected = stats.source_connected === true;
  feed.isInTrouble = Boolean(stats.trouble);
  feed.age = isFigure(stats.source_age_seconds) ? stats.source_age_seconds : null;
  feed.at = performance.now();
}

const isFeedDown = () => feed.isLive && (!feed.isConnected || feed.isInTrouble);
const silence = () => (feed.age === null ? 0 : feed.age + (performance.now() - feed.at) / 1000);
const wholeText = (seconds) => (seconds < 60 ? `${Math.floor(seconds)} s` : durationText(seconds));

function drawFeed() {
  const banner = element('feed');
  banner.hidden = !isFeedDown();
  if (banner.hidden) return;
  const what = feed.isConnected ? 'The feed is silent' : 'The feed is disconnected';
  const since = feed.age === null ? 'no message yet' : `last message ${wholeText(silence())} ago`;
  setText(banner, `${what} · ${since} · prices are the last known`);
}

/** The row shows something else since the snapshot taken at `at`. */
function noteChange(row, figures, at) {
  const isFirst = row.changedAt === undefined;
  row.firstAge = isFirst && isFigure(figures.ts) ? Math.max(0, (at - figures.ts) / 1e6) : 0;
  row.changedAt = at;
  row.ts = figures.ts;
}

function drawAges() {
  const least = isFeedDown() ? silence() : 0;
  for (const [symbol, row] of rows) {
    const own = (newest.ts - row.changedAt) / 1e6 + (feed.isLive ? row.firstAge : 0);
    const age = Math.max(own, least);
    const text = age < AGE_SHOWN_S ? '' : wholeText(age);
    if (text === (row.age ?? '')) continue;
    row.age = text;
    // The cell shows it, the row steps back.
    row.node.firstElementChild.dataset.age = text;
    row.node.classList.toggle('old', text !== '');
    widen('symbol', `${symbol} ${text}`);
  }
}
