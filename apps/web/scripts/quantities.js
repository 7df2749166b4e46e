// Writes bytes, times and shares for people.

const SPACE = "\u00a0"; // a number and its unit stay on one line

/** 2,345,678 -> "2.3 MB"; decimal units, as file managers count. */
export function bytesText(bytes) {
  if (bytes < 1000) return `${bytes}${SPACE}bytes`;
  if (bytes < 999_500) return `${Math.round(bytes / 1000)}${SPACE}KB`;
  return `${(bytes / 1e6).toFixed(1)}${SPACE}MB`;
}

/** 41.6 -> "42 ms", 0.42 -> "0.4 ms", 2345 -> "2.3 s". */
export function millisecondsText(milliseconds) {
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(1)}${SPACE}s`;
  const digits = milliseconds < 9.95 ? 1 : 0;
  return `${milliseconds.toFixed(digits)}${SPACE}ms`;
}

/** 0.934 -> "93 %"; what is not quite nothing or everything does not read as such. */
export function shareText(share) {
  const percent = share * 100;
  if (percent > 0 && percent < 1) return `<${SPACE}1${SPACE}%`;
  if (percent < 100 && percent > 99) return `>${SPACE}99${SPACE}%`;
  return `${Math.round(percent)}${SPACE}%`;
}

/** 1 -> "1 line", 3 -> "3 lines". */
export function countText(count, one, several = `${one}s`) {
  return `${count.toLocaleString("en")}${SPACE}${count === 1 ? one : several}`;
}

/** 640, 512 -> "640 × 512". */
export function sizeText(width, height) {
  return `${width}${SPACE}×${SPACE}${height}`;
}
