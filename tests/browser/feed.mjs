// Opens the live page of a server whose feed is about to break, and checks that the page says so.
//
// Usage: node feed.mjs http://127.0.0.1:PORT
// What it has seen it publishes on channels of these names, in this order; whoever runs it then acts:
//   feed-up     the board has rows, nothing is said about the feed: now break it
//   feed-down   the banner and an age beside each symbol: now mend it
// Exits 0 when banner and ages are gone again, or 1 with what was expected and what was seen.

import { chromium } from 'playwright-core';

const TIME_LIMIT_MS = 60_000;
const ARGUMENTS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run'];

/** What the page says about the feed. Runs in the page. */
function look() {
  const rows = [...document.querySelectorAll('#rows tr:not([hidden])')];
  const banner = document.querySelector('#feed');
  return {
    banner: banner.hidden ? '' : banner.innerText,
    ages: rows.map((row) => getComputedStyle(row.firstElementChild, '::after').content.replace(/^(none|normal)$/, '').replaceAll('"', '')),
    light: document.querySelector('#light').innerText.trim(),
  };
}

async function until(page, what, isMet) {
  const deadline = Date.now() + TIME_LIMIT_MS / 3;
  for (;;) {
    const seen = await page.evaluate(look);
    if (isMet(seen)) return seen;
    if (Date.now() > deadline) throw new Error(`expected: ${what}\n  seen:     ${JSON.stringify(seen)}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

async function tell(url, channel) {
  const headers = { 'content-type': 'text/plain' };
  const response = await fetch(new URL(`/publish/${channel}`, url), { method: 'POST', headers, body: 'seen' });
  if (!response.ok) throw new Error(`publishing on ${channel}: ${response.status} ${await response.text()}`);
}

async function run(page, url) {
  const errors = [];
  page.on('pageerror', (error) => errors.push(error.message));
  await page.goto(url);
  await until(page, 'rows, no banner, no age', ({ banner, ages, light }) =>
    banner === '' && ages.length > 0 && ages.every((age) => age === '') && light === 'live');
  await tell(url, 'feed-up');
  const down = await until(page, 'a banner and an age beside each symbol', ({ banner, ages }) =>
    /^The feed is disconnected · last message \d+ s ago · prices are the last known$/.test(banner)
      && ages.length > 0 && ages.every((age) => /^\d+ s$/.test(age) && Number.parseInt(age, 10) >= 5));
  if (down.light !== 'live') throw new Error(`the page itself lost its connection: ${down.light}`);
  await tell(url, 'feed-down');
  await until(page, 'no banner, no age of a symbol that moves', ({ banner, ages }) =>
    banner === '' && ages.some((age) => age === ''));
  if (errors.length > 0) throw new Error(`errors of the page: ${errors.join('; ')}`);
  return down;
}

const [url] = process.argv.slice(2);
if (!url) {
  console.error('usage: node feed.mjs http://127.0.0.1:PORT');
  process.exit(2);
}
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: ARGUMENTS });
setTimeout(() => {
  console.error(`expected to end within ${TIME_LIMIT_MS / 1000} s`);
  process.exit(1);
}, TIME_LIMIT_MS).unref();
try {
  const { banner, ages } = await run(await browser.newPage(), url);
  console.log(`feed: ok, "${banner}", ages ${ages.join(', ')}`);
  await browser.close();
} catch (error) {
  console.error(error.message);
  await browser.close().catch(() => {});
  process.exit(1);
}
