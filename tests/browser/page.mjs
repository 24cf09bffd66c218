// Opens the live page of a running server in Chromium and checks what a person would see.
//
// Usage: node page.mjs http://127.0.0.1:PORT[/?token=TOKEN] [SCREENSHOT-DIR]
// CHROMIUM names the browser, else /usr/bin/chromium. Exits 0, or 1 with what was expected and what was seen.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const TIME_LIMIT_MS = 60_000;
// A wait ends early enough to say what the page looked like.
const DEADLINE = Date.now() + TIME_LIMIT_MS - 5000;
const SNAPSHOTS = 5;
const DESKTOP = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };

const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

class Mismatch extends Error {
  constructor(what, expected, seen) {
    super(`${what}\n  expected: ${expected}\n  seen:     ${JSON.stringify(seen)}`);
  }
}

function expect(what, expected, seen, isMet) {
  if (!isMet) throw new Mismatch(what, expected, seen);
}

/** Everything the browser complains about from now on. */
function complaintsOf(page) {
  const complaints = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => complaints.push(`page error: ${error.message}`));
  page.on('requestfailed', (request) => complaints.push(`failed: ${request.url()} ${request.failure()?.errorText}`));
  page.on('response', (response) => {
    if (response.status() >= 400) complaints.push(`status ${response.status()}: ${response.url()}`);
  });
  return complaints;
}

/** What the page shows, for a report of what was seen. */
function look(page) {
  return page.evaluate(() => ({
    received: window.tickcast?.received,
    drawn: window.tickcast?.drawn,
    gaps: window.tickcast?.gaps,
    state: window.tickcast?.state,
    light: document.querySelector('#light')?.innerText,
    lightTitle: document.querySelector('#light')?.title,
    changed: window.changedCells,
    last: Object.fromEntries(
      [...document.querySelectorAll('#rows tr:not([hidden])')].map((row) => [
        row.dataset.symbol,
        row.querySelector('[data-key="last"]').textContent,
      ]),
    ),
  }));
}

/** Counts the price cells whose text changes after it had been a figure. */
function watchCells(page) {
  return page.addInitScript(() => {
    window.changedCells = 0;
    const prices = '[data-key="last"], [data-key="bid"], [data-key="ask"]';
    const watch = new MutationObserver((records) => {
      for (const { target, oldValue } of records) {
        const isPrice = target.parentElement?.matches(prices);
        if (isPrice && /\d/.test(oldValue) && oldValue !== target.data) window.changedCells += 1;
      }
    });
    watch.observe(document, { subtree: true, characterData: true, characterDataOldValue: true });
  });
}

/** Waits until the condition holds in the page, for as long as the time limit leaves. */
async function until(page, what, expected, condition, argument) {
  const timeout = Math.max(1, DEADLINE - Date.now());
  try {
    await page.waitForFunction(condition, argument, { timeout });
  } catch (error) {
    throw new Mismatch(what, expected, error.message.split('\n')[0]);
  }
}

/** The symbols of the server's newest snapshot. A market that has just begun may not have a price for each yet. */
async function symbolsOf(url) {
  // The URL may carry a token.
  const { search } = new URL(url);
  const response = await fetch(new URL(`/snapshot/market${search}`, url));
  const text = await response.text();
  expect('GET /snapshot/market', 'status 200', `${response.status} ${text}`, response.status === 200);
  const symbols = Object.keys(JSON.parse(text).symbols);
  expect('symbols of /snapshot/market', 'at least one', symbols, symbols.length > 0);
  return symbols;
}

/** True when every symbol has a row with a figure for its last price. Runs in the page. */
function arePriced(symbols) {
  const rows = new Map([...document.querySelectorAll('#rows tr:not([hidden])')].map((row) => [row.dataset.symbol, row]));
  return symbols.every((symbol) => /^[\d,]+(\.\d+)?$/.test(rows.get(symbol)?.querySelector('[data-key="last"]').textContent));
}

async function checkBoard(page, url) {
  await until(page, 'snapshots drawn', `at least ${SNAPSHOTS}`, (least) => window.tickcast?.drawn >= least, SNAPSHOTS);
  await until(page, 'price cells changed', 'at least 1', () => window.changedCells > 0);
  await until(page, 'engine figures', 'a version', () => /\d/.test(document.querySelector('[data-stat="version"]').textContent));
  await until(page, 'rows', 'each symbol with a figure as its last price', arePriced, await symbolsOf(url));
  await until(page, 'light', 'live', () => document.querySelector('#light').innerText.trim() === 'live');

  const seen = await look(page);
  const shown = Object.keys(seen.last);
  expect('order of the rows', 'sorted by symbol', shown, `${shown}` === `${shown.toSorted()}`);
  expect('connection', 'live', seen.state, seen.state === 'live');
}

async function checkWidth(page, { width }) {
  const widths = await page.evaluate(() => ({
    page: document.documentElement.scrollWidth,
    window: document.documentElement.clientWidth,
  }));
  expect(`no horizontal scroll at ${width} px`, `page no wider than ${width}`, widths, widths.page <= width);
}

async function settleAt(page, size) {
  await page.setViewportSize(size);
  const drawn = await page.evaluate(() => window.tickcast.drawn);
  await until(page, `drawing at ${size.width} px`, 'another snapshot', (before) => window.tickcast.drawn > before, drawn);
  await checkWidth(page, size);
}

async function run(browser, url, directory) {
  const page = await browser.newPage({ viewport: DESKTOP });
  const complaints = complaintsOf(page);
  current = page;
  await watchCells(page);
  await page.goto(url).catch((error) => {
    throw new Mismatch('loading the page', `an answer from ${url}`, error.message.split('\n')[0]);
  });
  await checkBoard(page, url);
  for (const size of [DESKTOP, PHONE]) {
    await settleAt(page, size);
    if (directory) await page.screenshot({ path: join(directory, `page-${size.width}.png`) });
  }
  const seen = await look(page);
  expect('complaints of the browser', 'none', complaints, complaints.length === 0);
  return seen;
}

/** Set while a page is open, so that running out of time can say what the page looked like. */
let current = null;

async function fail(error, browser) {
  console.error(error instanceof Mismatch ? error.message : error);
  const seen = current && (await Promise.race([look(current).catch(() => null), new Promise((done) => setTimeout(done, 2000))]));
  if (seen) console.error(`  page:     ${JSON.stringify(seen)}`);
  await browser?.close().catch(() => {});
  process.exit(1);
}

async function main() {
  const [url, directory] = process.argv.slice(2);
  if (!url) {
    console.error('usage: node page.mjs http://127.0.0.1:PORT [SCREENSHOT-DIR]');
    process.exit(2);
  }
  let browser;
  const tooLate = new Error(`expected to end within ${TIME_LIMIT_MS / 1000} s; seen: still waiting`);
  setTimeout(() => fail(tooLate, browser), TIME_LIMIT_MS).unref();
  try {
    if (directory) await mkdir(directory, { recursive: true });
    browser = await chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: ARGUMENTS });
    const seen = await run(browser, url, directory);
    const { drawn, gaps, state, changed, last } = seen;
    const rows = Object.keys(last).length;
    console.log(`page: ok, ${rows} symbols, ${drawn} snapshots drawn, ${changed} price changes, ${gaps} gaps, ${state}`);
    await browser.close();
  } catch (error) {
    await fail(error, browser);
  }
}

await main();
