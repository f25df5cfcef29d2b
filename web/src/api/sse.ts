// Server-sent events over `fetch`: unlike `EventSource` it sees the status of a refusal, and where it left off is ours
// to say. `lines` takes the wire apart; `follow` keeps a stream open across losses.
import { asProblem, type Problem, problemFrom } from "./problem";

/** One event of a stream, as the wire had it. */
export interface Message {
  readonly event: string;
  readonly id: string | undefined;
  readonly data: string;
}

/** Takes text as it arrives, in any pieces, and gives back the events that are whole. */
export function parser(): (text: string) => Message[] {
  let rest = "";
  let event = "";
  let id: string | undefined;
  let data: string[] = [];

  const take = (line: string): Message | undefined => {
    if (line === "") {
      const message =
        data.length > 0 ? { event: event === "" ? "message" : event, id, data: data.join("\n") } : undefined;
      event = "";
      data = [];
      return message;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") event = value;
    else if (field === "data") data.push(value);
    else if (field === "id" && !value.includes("\0")) id = value;
    return undefined;
  };

  return (text) => {
    rest += text;
    // A carriage return at the very end may be half of a line's end: it waits for what follows.
    const held = rest.endsWith("\r") ? "\r" : "";
    const lines = rest.slice(0, rest.length - held.length).split(/\r\n|\r|\n/);
    rest = (lines.pop() ?? "") + held;
    return lines.map(take).filter((message) => message !== undefined);
  };
}

/** How a followed stream is doing. */
export type Connection =
  | { readonly is: "connecting" }
  | { readonly is: "live" }
  | { readonly is: "waiting"; readonly problem: Problem; readonly waitMs: number }
  | { readonly is: "refused"; readonly problem: Problem };

/** What following a stream needs to know, and whom it tells. */
export interface Following {
  /** The stream's address; asked before each connection, so that it can name the place to go on from. */
  readonly url: () => string;
  readonly onMessages: (messages: readonly Message[]) => void;
  readonly onConnection: (connection: Connection) => void;
  readonly fetch?: typeof fetch;
  /** Waits; a test hands in one that does not. */
  readonly wait?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** The service sends a heartbeat well within this time; after it the connection counts as lost. */
const SILENCE_MS = 60_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;

/** How long to wait before connecting again after so many losses in a row. */
export function backoffMs(losses: number): number {
  return Math.min(FIRST_WAIT_MS * 2 ** Math.max(0, losses - 1), LONGEST_WAIT_MS);
}

/** Follows a stream until the signal ends it or the service refuses it for good. */
export async function follow(following: Following, signal: AbortSignal): Promise<void> {
  const wait = following.wait ?? pause;
  let losses = 0;
  while (!signal.aborted) {
    following.onConnection({ is: "connecting" });
    const problem = await readOnce(following, signal, () => {
      losses = 0;
    });
    if (signal.aborted) return;
    if (!problem.passing) {
      following.onConnection({ is: "refused", problem });
      return;
    }
    losses += 1;
    const waitMs = backoffMs(losses);
    following.onConnection({ is: "waiting", problem, waitMs });
    await wait(waitMs, signal);
  }
}

/** Reads one connection to its end, and says what ended it. */
async function readOnce(following: Following, signal: AbortSignal, onData: () => void): Promise<Problem> {
  const quiet = new AbortController();
  let timer = setTimeout(() => quiet.abort(), SILENCE_MS);
  try {
    const response = await (following.fetch ?? fetch)(following.url(), {
      headers: { accept: "text/event-stream" },
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.any([signal, quiet.signal]),
    });
    if (!response.ok || response.body === null) {
      return problemFrom(response.status, await response.json().catch(() => null));
    }
    following.onConnection({ is: "live" });
    const parse = parser();
    const decoder = new TextDecoder();
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return asProblem(new TypeError("the stream ended"));
      clearTimeout(timer);
      timer = setTimeout(() => quiet.abort(), SILENCE_MS);
      onData();
      const messages = parse(decoder.decode(value, { stream: true }));
      if (messages.length > 0) following.onMessages(messages);
    }
  } catch (thrown) {
    return quiet.signal.aborted ? asProblem(new TypeError("the stream fell silent")) : asProblem(thrown);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits; ends early when the signal says so or the network comes back. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      globalThis.removeEventListener?.("online", end);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    globalThis.addEventListener?.("online", end);
    signal.addEventListener("abort", end);
  });
}
