// Says why there is no answer: from the server's problem document, or from what the browser knows.

// For answers without a document, as a proxy in between gives them.
const TITLES = {
  400: "The request was not understood",
  401: "The server wants to know who asks",
  403: "The server does not allow this",
  404: "The server does not know this address",
  405: "The server does not take this here",
  413: "The picture is too large",
  415: "The server does not take this kind of file",
  422: "The picture could not be used",
  429: "Too many requests",
  500: "The server failed",
  501: "The model cannot do this",
  502: "The server behind the proxy does not answer",
  503: "The server is busy",
  504: "The server took too long",
};

export class Problem extends Error {
  constructor({ title, detail = "", hint = "", status = 0, requestId = "", retryAfterSeconds = null }) {
    super(title);
    Object.assign(this, { title, detail, hint, status, requestId, retryAfterSeconds });
  }
}

/** The problem in a response that is not a success. */
export async function problemOf(response, requestId) {
  let told = {};
  try {
    told = await response.json();
  } catch {
    // Not JSON: a proxy's own page. Its status is all there is.
  }
  return problemFrom(told, {
    status: response.status,
    requestId: response.headers.get("X-Request-Id") ?? requestId,
    retryAfterSeconds: secondsOf(response.headers.get("Retry-After")),
  });
}

/** A problem document as a Problem; `known` fills what it leaves out. */
export function problemFrom(told, { status = 0, requestId = "", retryAfterSeconds = null } = {}) {
  const seen = typeof told === "object" && told !== null ? told : {};
  const number = seen.status ?? status;
  return new Problem({
    title: seen.title || TITLES[number] || "The server gave no answer",
    detail: typeof seen.detail === "string" ? seen.detail : `It answered ${number} without an explanation.`,
    hint: typeof seen.hint === "string" ? seen.hint : "Try again; if it lasts, look for the request id in the server's log.",
    status: number,
    requestId: seen.request_id || requestId,
    retryAfterSeconds,
  });
}

/** The problem of a request that no answer came to. */
export function unreachable(requestId, { midway = false } = {}) {
  const server = location.host;
  if (midway) {
    return new Problem({
      title: "The connection broke",
      detail: `${server} stopped in the middle of its answer.`,
      hint: "Try again; if it happens again, look for the request id in the server's log.",
      requestId,
    });
  }
  const isOffline = navigator.onLine === false;
  return new Problem({
    title: isOffline ? "You are offline" : "The server cannot be reached",
    detail: isOffline ? `This device has no network to reach ${server}.` : `Nothing answers at ${server}.`,
    hint: isOffline
      ? "Connect, then try again; what is on this page stays."
      : "Check that `mobile-mm serve` still runs there, then try again; what is on this page stays.",
    requestId,
  });
}

/** Seconds of a Retry-After field: a number, or a date. */
function secondsOf(field) {
  if (!field) return null;
  const seconds = /^\d+(\.\d+)?$/.test(field) ? Number(field) : (Date.parse(field) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.ceil(seconds)) : null;
}
