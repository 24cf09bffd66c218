/*
 * Figures as text. In one script with app.js, before it.
 */

// No market is quoted finer, but a computed figure may carry more digits than its market has.
const MAX_DECIMALS = 8;
// The locale is fixed: a price must read the same on every desk.
const FORMATS = Array.from({ length: MAX_DECIMALS + 1 }, (_, decimals) =>
  new Intl.NumberFormat('en-US', { minimumFractionDigits: decimals, maximumFractionDigits: decimals }));
const grouped = (value, decimals = 0) => FORMATS[decimals].format(value);
const rateText = (value) => grouped(value, value < 99.95 ? 1 : 0);
const SIGNS = new Map([[1, '+'], [-1, '−']]);
const signed = (value, decimals) => (SIGNS.get(Math.sign(value)) ?? '') + grouped(Math.abs(value), decimals);

function decimalsOf(value) {
  const [mantissa, exponent = 0] = String(value).split('e');
  const fraction = mantissa.split('.')[1]?.length ?? 0;
  return Math.min(MAX_DECIMALS, Math.max(0, fraction - Number(exponent)));
}

function durationText(seconds) {
  if (Math.abs(seconds) < 10) return `${seconds.toFixed(1)} s`;
  const [whole, minutes, hours] = [1, 60, 3600].map((unit) => Math.floor(seconds / unit));
  if (hours < 1) return `${minutes < 1 ? '' : `${minutes} min `}${whole % 60} s`;
  return hours < 24 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

function bytesText(count) {
  const step = count < 1000 ? 0 : Math.min(5, Math.floor(Math.log10(count) / 3));
  return `${grouped(count / 1000 ** step, step === 0 ? 0 : 1)} ${['B', 'kB', 'MB', 'GB', 'TB', 'PB'][step]}`;
}

