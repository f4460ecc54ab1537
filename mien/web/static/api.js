// The server: photos by POST, frames by WebSocket. Only this page's own origin is ever spoken to.
const KEY = "mien-token";

// Beside this script's own folder, so that the page also works under a prefix.
const address = (path) => new URL(`../${path}`, import.meta.url);

// The token comes behind the #, which browsers never send, and lives as long as the tab.
export function takeToken() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!found) return;
  sessionStorage.setItem(KEY, found);
  history.replaceState(null, "", location.pathname + location.search);
}

export const setToken = (token) => sessionStorage.setItem(KEY, token);
const token = () => sessionStorage.getItem(KEY);

export class Trouble extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

// The answer to a request; throws Trouble with the server's own sentence where there is none.
export async function ask(path, options = {}) {
  const headers = token() ? { authorization: `Bearer ${token()}`, ...options.headers } : options.headers;
  let response;
  try {
    response = await fetch(address(path), { ...options, headers });
  } catch {
    throw new Trouble("The server does not answer: is it still running?");
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new Trouble(answer.detail ?? `The server answered ${response.status}.`, response.status);
}

export async function predict(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new Trouble(`${file.name || "That"} cannot be read: it is a folder, or gone by now.`);
  }
  const body = new FormData();
  body.append("images", file, file.name || "pasted image");
  const answer = await (await ask("v1/predict", { method: "POST", body })).json().catch(() => ({}));
  return answer.results[0];
}

// Why the server refuses: what a WebSocket that is turned away cannot tell. Null if it does not.
export const refusal = () => ask("v1/models").then(() => null, (trouble) => trouble);

// Frames out, answers in. At most `ahead` frames are on the way: the server never has to drop any
// unless it is busy with others, and what is shown is never old.
export class Stream {
  constructor({ onOpen, onResult, onTrouble, onClose, ahead = 2 }) {
    this.ahead = ahead;
    this.sent = 0;
    this.open = false;
    this.waiting = new Map(); // frames without an answer, by number
    const url = address("v1/stream");
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const protocols = token() ? ["mien.v1", `token.${token()}`] : ["mien.v1"];
    this.socket = new WebSocket(url, protocols);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (message.type === "hello") {
        this.open = !this.closed;
        if (this.open) onOpen();
        return;
      }
      const sent = this.waiting.get(message.frame);
      // An answer to frame n also settles those before it: they were dropped.
      for (const number of this.waiting.keys()) if (number <= message.frame) this.waiting.delete(number);
      if (message.type === "result") onResult(message, performance.now() - sent.taken, sent.blob);
      else onTrouble(message.detail);
    };
    this.socket.onclose = (event) => {
      this.open = false;
      if (!this.closed) onClose(event.code, event.reason);
    };
  }

  get ready() {
    return this.open && this.waiting.size < this.ahead && this.socket.bufferedAmount === 0;
  }

  send(blob, taken) {
    // A closing socket tells by an event that may come only after this image was encoded.
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.waiting.set(this.sent, { blob, taken });
    this.sent += 1;
    this.socket.send(blob);
  }

  close() {
    this.closed = true;
    this.open = false; // at once: an image may be in the encoder still
    this.socket.close(1000);
  }
}
