// A task's log as the page shows it: events grouped by attempt into entries, a command and its output being one.
// Pure: `append` takes a log and a batch of events and gives the next log, sharing what did not change.
import { countsOf } from "../answer/checks";
import type { AttemptState, PatchFile } from "../api/types";
import { type Allowable, allowableIn } from "./allowable";
import type { Body, CommandEnd, LogEvent, PlanStep } from "./events";

/** How much of a command's output is kept in the page: its beginning and its end. */
export const HEAD_CHARS = 64 * 1024;
export const TAIL_CHARS = 192 * 1024;

/** What a command printed, with the middle left out when it is too long. */
export interface Output {
  readonly head: string;
  readonly tail: string;
  /** Characters left out between the two. */
  readonly omitted: number;
}

export interface CommandEntry {
  readonly is: "command";
  readonly seq: number;
  readonly at: number;
  readonly command: string;
  readonly directory: string;
  readonly output: Output;
  readonly end: CommandEnd | undefined;
  readonly durationMs: number | undefined;
  /** Bytes that the service did not keep. */
  readonly droppedBytes: number;
}

export type Entry =
  | CommandEntry
  | { readonly is: "message"; readonly seq: number; readonly at: number; readonly text: string }
  | {
      readonly is: "said";
      readonly seq: number;
      readonly at: number;
      readonly text: string;
      /** Whether the agent was told. */
      readonly heard: boolean;
    }
  | { readonly is: "reasoning"; readonly seq: number; readonly at: number; readonly text: string }
  | {
      readonly is: "note";
      readonly seq: number;
      readonly at: number;
      readonly tone: "step" | "warning" | "refused" | "failed";
      readonly text: string;
      readonly durationMs: number | undefined;
    }
  | {
      readonly is: "blocked";
      readonly seq: number;
      readonly at: number;
      readonly text: string;
      /** What a click would allow. */
      readonly allow: Allowable;
    }
  | {
      readonly is: "patch";
      readonly seq: number;
      readonly at: number;
      readonly files: readonly PatchFile[];
    }
  | {
      readonly is: "artifact";
      readonly seq: number;
      readonly at: number;
      readonly name: string;
      readonly sizeBytes: number;
      readonly description: string | undefined;
    };

export interface AttemptLog {
  readonly entries: readonly Entry[];
  /** The last plan the agent made. */
  readonly plan: readonly PlanStep[];
  /** The last state the log speaks of; undefined before the first. */
  readonly state: AttemptState | undefined;
  /** Where each command's entry is, by the command's id. */
  readonly commands: ReadonlyMap<string, number>;
  /** Where each message of a person is, by its id. */
  readonly said: ReadonlyMap<string, number>;
  /** What some entry offers to allow already: each host once in a phase, however often it was asked for. */
  readonly offered: ReadonlySet<string>;
  /** How often the agent attached a file: what is listed changes with it. */
  readonly attached: number;
  /** When the model is asked again, while that is what the attempt waits for. */
  readonly waitsUntil: number | undefined;
}

export interface Log {
  readonly lastSeq: number;
  readonly attempts: ReadonlyMap<string, AttemptLog>;
}

export const EMPTY_LOG: Log = { lastSeq: 0, attempts: new Map() };
export const EMPTY_ATTEMPT: AttemptLog = {
  entries: [],
  plan: [],
  state: undefined,
  commands: new Map(),
  said: new Map(),
  offered: new Set(),
  attached: 0,
  waitsUntil: undefined,
};

/** The log with a batch of events added; those it has already are passed over. */
export function append(log: Log, batch: readonly LogEvent[]): Log {
  const drafts = new Map<string, Draft>();
  let lastSeq = log.lastSeq;
  for (const event of batch) {
    if (event.seq <= lastSeq) continue;
    lastSeq = event.seq;
    if (event.attemptId === undefined || event.body === undefined) continue;
    let draft = drafts.get(event.attemptId);
    if (draft === undefined) {
      draft = draftOf(log.attempts.get(event.attemptId) ?? EMPTY_ATTEMPT);
      drafts.set(event.attemptId, draft);
    }
    add(draft, event, event.body);
  }
  if (lastSeq === log.lastSeq) return log;
  return { lastSeq, attempts: drafts.size > 0 ? new Map([...log.attempts, ...drafts]) : log.attempts };
}

/** An attempt's log while a batch goes into it. */
interface Draft {
  entries: Entry[];
  plan: readonly PlanStep[];
  state: AttemptState | undefined;
  commands: Map<string, number>;
  said: Map<string, number>;
  offered: Set<string>;
  attached: number;
  waitsUntil: number | undefined;
}

function draftOf(log: AttemptLog): Draft {
  return {
    ...log,
    entries: [...log.entries],
    commands: new Map(log.commands),
    said: new Map(log.said),
    offered: new Set(log.offered),
  };
}

function add(draft: Draft, { seq, at }: LogEvent, body: Body): void {
  const note = (tone: "step" | "warning" | "refused" | "failed", text: string, durationMs?: number) => {
    draft.entries.push({ is: "note", seq, at, tone, text, durationMs });
  };
  draft.waitsUntil = undefined;
  switch (body.type) {
    case "attempt.state":
      draft.state = body.state;
      if (body.state === "failed") note("failed", body.reason ?? "The attempt failed.");
      if (body.state === "cancelled") note("step", "Cancelled.");
      return;
    case "attempt.progress":
      note("step", body.message, body.durationMs);
      return;
    case "attempt.warning":
      note("warning", body.message);
      return;
    case "environment.resolved":
      note("step", resolved(body));
      return;
    case "snapshot.looked_up":
      note("step", body.reason);
      return;
    case "snapshot.kept":
      if (body.reason) note("warning", `Nothing of the prepared environment is kept: ${body.reason}`);
      return;
    case "network.decided":
      if (!offer(draft, seq, at, body)) note(body.allowed ? "step" : "refused", noted(body));
      return;
    case "sandbox.relaunched":
    case "limit.hit":
      note("warning", body.message);
      return;
    case "context.compacted": {
      const by = body.byModel ? "the model's" : "the record's";
      const tokens = `${body.beforeTokens} to ${body.afterTokens} tokens`;
      note("step", `The conversation became too long and goes on from ${by} summary (${tokens}).`);
      return;
    }
    case "model.retrying":
      draft.waitsUntil = at + body.waitMs;
      note("warning", waiting(body));
      return;
    case "citations.checked":
      checked(body, note);
      return;
    case "agent.message":
      draft.entries.push({ is: "message", seq, at, text: body.text });
      return;
    case "message.sent":
      draft.said.set(body.messageId, draft.entries.length);
      draft.entries.push({ is: "said", seq, at, text: body.text, heard: false });
      return;
    case "message.delivered": {
      const index = draft.said.get(body.messageId);
      const entry = index === undefined ? undefined : draft.entries[index];
      if (index !== undefined && entry?.is === "said") draft.entries[index] = { ...entry, heard: true };
      else note("step", "The agent was told what the attempt before was not.");
      return;
    }
    case "local_changes.applied": {
      const files = body.files === 1 ? "1 file" : `${body.files} files`;
      note("step", `Starts from local changes: ${files}, +${body.additions} −${body.deletions}`);
      return;
    }
    case "diff.provided":
      if (body.path !== undefined) note("step", `The diff of ${body.source} is at ${body.path}`);
      else
        note("warning", `The diff of ${body.source} could not be had: ${body.problem ?? "nobody said why"}`);
      return;
    case "attempt.retried":
      note(
        "step",
        body.resumes ? "Tried again, from the conversation and the files of before." : "Tried again.",
      );
      return;
    case "agent.reasoning":
      draft.entries.push({ is: "reasoning", seq, at, text: body.text });
      return;
    case "plan.updated":
      draft.plan = body.steps;
      return;
    case "patch.applied":
      draft.entries.push({ is: "patch", seq, at, files: body.files });
      return;
    case "patch.refused":
      note("refused", `A patch was refused: ${body.reason}`);
      return;
    case "tool.refused":
      note("refused", `The tool \`${body.tool}\` was refused: ${body.reason}`);
      return;
    case "image.viewed":
      note("step", `Looked at ${body.path} (${body.width} × ${body.height})`);
      return;
    case "artifact.attached": {
      const { name, sizeBytes, description } = body;
      draft.attached += 1;
      draft.entries.push({ is: "artifact", seq, at, name, sizeBytes, description });
      return;
    }
    case "turn.created":
    case "publication.state":
      return;
    default:
      addToCommand(draft, seq, at, body);
  }
}

function waiting(body: Extract<Body, { readonly type: "model.retrying" }>): string {
  const of = body.retries > 0 ? ` of ${body.retries}` : "";
  return `Waiting for the model: retry ${body.retry}${of} in ${Math.ceil(body.waitMs / 1000)} s (${body.reason})`;
}

/** Which citations of an answer hold: an answer that is repaired is checked again, and each time is told. */
function checked(
  body: Extract<Body, { readonly type: "citations.checked" }>,
  note: (tone: "step" | "warning", text: string) => void,
): void {
  const counts = countsOf({ ...body, failing: [...body.failing] });
  if (counts === undefined) return;
  const failing = body.failing.map(({ citation, reason }) => `\n${citation}: ${reason}`).join("");
  note(failing === "" ? "step" : "warning", counts + failing);
}

function resolved(body: Extract<Body, { readonly type: "environment.resolved" }>): string {
  const sources = body.sources.map(([setting, from]) => `${setting} from ${from}`).join(", ");
  const made = `Environment ${body.name}, version ${body.version}, image ${body.image}`;
  return sources === "" ? made : `${made} (${sources})`;
}

type Decided = Extract<Body, { readonly type: "network.decided" }>;

function decided(body: Decided): string {
  const what = [body.method, `${body.host}:${body.port}`].filter(Boolean).join(" ");
  const times = body.count > 1 ? ` (${body.count} times)` : "";
  return body.allowed
    ? `Network: ${what}${times} allowed by ${body.reason}`
    : `Network: ${what}${times} refused: ${body.reason}`;
}

/** A refusal that no click lifts, with the way out that the service names. */
function noted(body: Decided): string {
  return body.wayOut === undefined || allowableIn(body) !== undefined
    ? decided(body)
    : `${decided(body)}; to allow it: ${body.wayOut}`;
}

/** Makes an entry of a refusal that a click can lift, unless an earlier entry offers the same. */
function offer(draft: Draft, seq: number, at: number, body: Decided): boolean {
  const allow = allowableIn(body);
  if (allow === undefined) return false;
  const key = `${allow.phase} ${allow.host}`;
  if (draft.offered.has(key)) return false;
  draft.offered.add(key);
  draft.entries.push({ is: "blocked", seq, at, text: decided(body), allow });
  return true;
}

function addToCommand(
  draft: Draft,
  seq: number,
  at: number,
  body: Extract<Body, { readonly commandId: string }>,
): void {
  if (body.type === "command.started") {
    draft.commands.set(body.commandId, draft.entries.length);
    draft.entries.push({ ...UNKNOWN_COMMAND, seq, at, command: body.command, directory: body.directory });
    return;
  }
  let index = draft.commands.get(body.commandId);
  if (index === undefined) {
    // Its start is missing: what it printed is shown all the same.
    index = draft.entries.length;
    draft.commands.set(body.commandId, index);
    draft.entries.push({ ...UNKNOWN_COMMAND, seq, at });
  }
  const entry = draft.entries[index];
  if (entry?.is !== "command") return;
  if (body.type === "command.ended") {
    const { end, durationMs, droppedBytes } = body;
    draft.entries[index] = { ...entry, end, durationMs, droppedBytes };
    return;
  }
  const text = body.type === "command.input" ? `\x1b[2m› ${body.text.trimEnd()}\x1b[0m\n` : body.text;
  draft.entries[index] = { ...entry, output: extend(entry.output, text) };
}

const UNKNOWN_COMMAND: CommandEntry = {
  is: "command",
  seq: 0,
  at: 0,
  command: "",
  directory: "",
  output: { head: "", tail: "", omitted: 0 },
  end: undefined,
  durationMs: undefined,
  droppedBytes: 0,
};

/** Output with more text after it, its middle left out once it is longer than what is kept. */
export function extend(output: Output, text: string): Output {
  const room = output.omitted === 0 && output.tail === "" ? HEAD_CHARS - output.head.length : 0;
  const head = room > 0 ? output.head + text.slice(0, room) : output.head;
  const tail = output.tail + (room > 0 ? text.slice(room) : text);
  const excess = Math.max(0, tail.length - TAIL_CHARS);
  return { head, tail: tail.slice(excess), omitted: output.omitted + excess };
}
