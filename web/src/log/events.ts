// The events of a task's log as the app knows them: read from untyped JSON, unknown kinds and broken ones passed over.
import type { AttemptState, FailingCitation, PatchFile } from "../api/types";

export type CommandEnd =
  | { readonly how: "exited"; readonly code: number }
  | { readonly how: "signalled"; readonly signal: number }
  | { readonly how: "timed_out" }
  | { readonly how: "interrupted" };

export interface PlanStep {
  readonly step: string;
  readonly status: "pending" | "in_progress" | "completed";
}

/** What happened: the kinds that are shown. */
export type Body =
  | { readonly type: "attempt.state"; readonly state: AttemptState; readonly reason: string | undefined }
  | { readonly type: "attempt.progress"; readonly message: string; readonly durationMs: number | undefined }
  | { readonly type: "attempt.warning"; readonly message: string }
  | {
      readonly type: "environment.resolved";
      readonly name: string;
      readonly version: number;
      readonly image: string;
      readonly sources: readonly (readonly [string, string])[];
    }
  | { readonly type: "snapshot.looked_up"; readonly reason: string }
  | { readonly type: "snapshot.kept"; readonly reason: string | undefined }
  | {
      readonly type: "network.decided";
      readonly host: string;
      readonly port: number;
      readonly method: string | undefined;
      readonly allowed: boolean;
      readonly reason: string;
      /** The command that allows it, where there is one. */
      readonly wayOut: string | undefined;
      readonly count: number;
    }
  | { readonly type: "limit.hit"; readonly limit: string; readonly message: string }
  | { readonly type: "sandbox.relaunched"; readonly message: string }
  | {
      readonly type: "context.compacted";
      readonly beforeTokens: number;
      readonly afterTokens: number;
      readonly byModel: boolean;
    }
  | {
      readonly type: "model.retrying";
      readonly reason: string;
      readonly waitMs: number;
      readonly retry: number;
      /** How often it is tried again at most; 0 when that was not said. */
      readonly retries: number;
    }
  | {
      readonly type: "citations.checked";
      readonly holding: number;
      readonly unchecked: number;
      readonly failing: readonly FailingCitation[];
    }
  | { readonly type: "agent.message"; readonly text: string }
  | { readonly type: "agent.reasoning"; readonly text: string }
  | {
      readonly type: "plan.updated";
      readonly explanation: string | undefined;
      readonly steps: readonly PlanStep[];
    }
  | {
      readonly type: "command.started";
      readonly commandId: string;
      readonly command: string;
      readonly directory: string;
    }
  | { readonly type: "command.output"; readonly commandId: string; readonly text: string }
  | { readonly type: "command.input"; readonly commandId: string; readonly text: string }
  | {
      readonly type: "command.ended";
      readonly commandId: string;
      readonly end: CommandEnd;
      readonly durationMs: number;
      readonly droppedBytes: number;
    }
  | { readonly type: "patch.applied"; readonly files: readonly PatchFile[] }
  | { readonly type: "patch.refused"; readonly reason: string }
  | { readonly type: "tool.refused"; readonly tool: string; readonly reason: string }
  | { readonly type: "image.viewed"; readonly path: string; readonly width: number; readonly height: number }
  | {
      readonly type: "artifact.attached";
      readonly name: string;
      readonly sizeBytes: number;
      readonly description: string | undefined;
    }
  | {
      readonly type: "local_changes.applied";
      readonly files: number;
      readonly additions: number;
      readonly deletions: number;
    }
  | {
      readonly type: "diff.provided";
      readonly source: string;
      /** Where it lies in the sandbox, if it could be had. */
      readonly path: string | undefined;
      readonly problem: string | undefined;
    }
  | { readonly type: "message.sent"; readonly messageId: string; readonly text: string }
  | { readonly type: "message.delivered"; readonly messageId: string }
  | { readonly type: "attempt.retried"; readonly resumes: boolean }
  | { readonly type: "publication.state" }
  | { readonly type: "turn.created" };

/** One entry of a task's log. `body` is undefined when this app does not know its kind. */
export interface LogEvent {
  readonly seq: number;
  readonly at: number;
  readonly attemptId: string | undefined;
  readonly body: Body | undefined;
}

/** Reads one event from its JSON text; undefined when it is not one. */
export function readEvent(text: string): LogEvent | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const event = fieldsOf(value);
  const seq = event.seq;
  if (typeof seq !== "number" || !Number.isSafeInteger(seq) || typeof event.type !== "string") {
    return undefined;
  }
  const at = typeof event.at === "string" ? Date.parse(event.at) : Number.NaN;
  return {
    seq,
    at: Number.isNaN(at) ? 0 : at,
    attemptId: typeof event.attempt_id === "string" ? event.attempt_id : undefined,
    body: readBody(event.type, fieldsOf(event.data)),
  };
}

const STATES: readonly string[] = [
  "queued",
  "preparing",
  "setting_up",
  "running",
  "collecting",
  "ready",
  "failed",
  "cancelled",
] satisfies AttemptState[];

type Fields = Record<string, unknown>;

function readBody(type: string, data: Fields): Body | undefined {
  switch (type) {
    case "turn.created":
    case "publication.state":
      return { type };
    case "attempt.state":
      return typeof data.state === "string" && STATES.includes(data.state)
        ? { type, state: data.state as AttemptState, reason: maybeText(data.reason) }
        : undefined;
    case "attempt.progress":
      return { type, message: text(data.message), durationMs: maybeNumber(data.duration_ms) };
    case "attempt.warning":
      return { type, message: text(data.message) };
    case "model.retrying":
      return {
        type,
        reason: text(data.reason),
        waitMs: number(data.wait_ms),
        retry: number(data.retry),
        retries: number(data.retries),
      };
    case "agent.message":
    case "agent.reasoning":
      return { type, text: text(data.text) };
    case "plan.updated":
      return { type, explanation: maybeText(data.explanation), steps: list(data.steps).map(readStep) };
    case "patch.applied":
      return { type, files: list(data.files).map(readFile) };
    case "patch.refused":
      return { type, reason: text(data.reason) };
    case "tool.refused":
      return { type, tool: text(data.tool), reason: text(data.reason) };
    default:
      return (
        readPlace(type, data) ?? readFileUse(type, data) ?? readWords(type, data) ?? readCommand(type, data)
      );
  }
}

/** Events about what people say to an attempt, and about making it again. */
function readWords(type: string, data: Fields): Body | undefined {
  switch (type) {
    case "message.sent":
      return { type, messageId: text(data.message_id), text: text(data.text) };
    case "message.delivered":
      return { type, messageId: text(data.message_id) };
    case "attempt.retried":
      return { type, resumes: data.resumes === true };
    default:
      return undefined;
  }
}

/** Events about single files of the sandbox, and about places in them. */
function readFileUse(type: string, data: Fields): Body | undefined {
  switch (type) {
    case "image.viewed":
      return { type, path: text(data.path), width: number(data.width), height: number(data.height) };
    case "citations.checked":
      return {
        type,
        holding: number(data.holding),
        unchecked: number(data.unchecked),
        failing: list(data.failing).map(readFailing),
      };
    case "local_changes.applied": {
      const patch = fieldsOf(data.patch);
      const count = (value: unknown) => (typeof value === "number" ? value : 0);
      const files = Array.isArray(patch.files) ? patch.files.length : 0;
      return { type, files, additions: count(patch.additions), deletions: count(patch.deletions) };
    }
    case "diff.provided":
      return typeof data.source === "string"
        ? { type, source: data.source, path: maybeText(data.path), problem: maybeText(data.problem) }
        : undefined;
    case "artifact.attached":
      return {
        type,
        name: text(data.name),
        sizeBytes: number(data.size_bytes),
        description: maybeText(data.description),
      };
    default:
      return undefined;
  }
}

/** Events about the place an attempt works in. */
function readPlace(type: string, data: Fields): Body | undefined {
  switch (type) {
    case "environment.resolved":
      return {
        type,
        name: text(data.name),
        version: number(data.version),
        image: text(data.image),
        sources: list(data.sources).map((source) => {
          const [setting, from] = list(source);
          return [text(setting), text(from)] as const;
        }),
      };
    case "snapshot.looked_up":
      return { type, reason: text(data.reason) };
    case "snapshot.kept":
      return { type, reason: maybeText(data.reason) };
    case "network.decided":
      return {
        type,
        host: text(data.host),
        port: number(data.port),
        method: maybeText(data.method),
        allowed: data.allowed === true,
        reason: text(data.reason),
        wayOut: maybeText(data.way_out),
        count: number(data.count),
      };
    case "sandbox.relaunched":
      return { type, message: text(data.message) };
    case "limit.hit":
      return { type, limit: text(data.limit), message: text(data.message) };
    case "context.compacted":
      return {
        type,
        beforeTokens: number(data.before_tokens),
        afterTokens: number(data.after_tokens),
        byModel: data.by_model === true,
      };
    default:
      return undefined;
  }
}

function readCommand(type: string, data: Fields): Body | undefined {
  const commandId = text(data.command_id);
  switch (type) {
    case "command.started":
      return { type, commandId, command: text(data.command), directory: text(data.directory) };
    case "command.output":
    case "command.input":
      return { type, commandId, text: text(data.text) };
    case "command.ended":
      return {
        type,
        commandId,
        end: readEnd(fieldsOf(data.end)),
        durationMs: number(data.duration_ms),
        droppedBytes: number(data.dropped_bytes),
      };
    default:
      return undefined;
  }
}

function readEnd(end: Fields): CommandEnd {
  switch (end.how) {
    case "exited":
      return { how: "exited", code: number(end.code) };
    case "signalled":
      return { how: "signalled", signal: number(end.signal) };
    case "timed_out":
      return { how: "timed_out" };
    default:
      return { how: "interrupted" };
  }
}

function readStep(value: unknown): PlanStep {
  const step = fieldsOf(value);
  const status = step.status === "completed" || step.status === "in_progress" ? step.status : "pending";
  return { step: text(step.step), status };
}

function readFile(value: unknown): PatchFile {
  const file = fieldsOf(value);
  const kind =
    file.kind === "added" || file.kind === "deleted" || file.kind === "renamed" ? file.kind : "modified";
  return {
    path: text(file.path),
    old_path: maybeText(file.old_path) ?? null,
    kind,
    additions: number(file.additions),
    deletions: number(file.deletions),
    binary: file.binary === true,
  };
}

function readFailing(value: unknown): FailingCitation {
  const failing = fieldsOf(value);
  return { citation: text(failing.citation), reason: text(failing.reason) };
}

function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function maybeText(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function number(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

function maybeNumber(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}
