// What of a task is shown, as its address has it: `?attempt=<id>&tab=log|answer|diff&layout=unified|split`.
import type { Attempt, Task, Turn } from "../api/types";
import { hasEnded } from "./state";

export const TABS = ["log", "answer", "diff"] as const;
export type Tab = (typeof TABS)[number];

export interface View {
  readonly attempt?: string;
  readonly tab?: Tab;
  readonly layout?: "unified" | "split";
}

export function readView(search: Record<string, unknown>): View {
  const tab = TABS.find((name) => name === search.tab);
  return {
    ...(typeof search.attempt === "string" ? { attempt: search.attempt } : {}),
    ...(tab === undefined ? {} : { tab }),
    ...(search.layout === "split" || search.layout === "unified" ? { layout: search.layout } : {}),
  };
}

/** Whether an attempt was made again: another of its turn stands for it. */
export function wasRetried(turn: Turn, attempt: Attempt): boolean {
  return turn.attempts.some(({ retry_of }) => retry_of === attempt.id);
}

/**
 * The attempt of a turn that is shown when nobody chose: the one that comparing suggests, else the first ready one, else the
 * first that was not made again.
 */
export function shownAttempt(turn: Turn, chosen: string | undefined): Attempt | undefined {
  return (
    turn.attempts.find((attempt) => attempt.id === chosen) ??
    turn.attempts.find(
      ({ id, state }) => state === "ready" && id === turn.comparison?.suggested_attempt_id,
    ) ??
    turn.attempts.find((attempt) => attempt.state === "ready") ??
    turn.attempts.find((attempt) => !wasRetried(turn, attempt)) ??
    turn.attempts[0]
  );
}

/** The number of the attempt that a turn goes on from, where the turn before had several. */
export function goesOnFrom(task: Task, turn: Turn): number | undefined {
  const before = task.turns.find(({ attempts }) => attempts.some(({ id }) => id === turn.from_attempt_id));
  if (before === undefined || before.attempts.length < 2) return undefined;
  return before.attempts.find(({ id }) => id === turn.from_attempt_id)?.number;
}

/** The tab that is shown when nobody chose: the answer once there is one, the log until then. */
export function shownTab(attempt: Attempt, chosen: Tab | undefined): Tab {
  if (chosen === "answer" && attempt.result == null) return "log";
  if (chosen === "diff" && attempt.result?.patch == null) return attempt.result == null ? "log" : "answer";
  return chosen ?? (hasEnded(attempt.state) && attempt.result != null ? "answer" : "log");
}
