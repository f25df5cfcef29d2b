// Where tasks, attempts and publications stand, as word, icon and colour together.
import type { AttemptState, Publication, Task, TaskState } from "../api/types";
import { Icon, type IconName } from "../parts/Icon";

interface Look {
  readonly word: string;
  readonly icon: IconName;
  readonly colour: string;
  readonly moves?: boolean;
}

type AnyState = TaskState | AttemptState | Publication["state"];

const LOOKS: Readonly<Record<AnyState, Look>> = {
  queued: { word: "Queued", icon: "clock", colour: "text-muted" },
  preparing: { word: "Preparing", icon: "running", colour: "text-busy", moves: true },
  setting_up: { word: "Setting up", icon: "running", colour: "text-busy", moves: true },
  running: { word: "Running", icon: "running", colour: "text-busy", moves: true },
  collecting: { word: "Collecting", icon: "running", colour: "text-busy", moves: true },
  ready: { word: "Ready", icon: "check", colour: "text-good" },
  failed: { word: "Failed", icon: "warning", colour: "text-bad" },
  cancelled: { word: "Cancelled", icon: "stop", colour: "text-muted" },
  requested: { word: "Requested", icon: "clock", colour: "text-busy", moves: true },
  committed: { word: "Committed", icon: "running", colour: "text-busy", moves: true },
  pushed: { word: "Pushed", icon: "check", colour: "text-good" },
};

/** The state's word, as everything shows it. */
export function wordOf(state: AnyState): string {
  return LOOKS[state].word;
}

/** Whether nothing more will happen to an attempt. */
export function hasEnded(state: AttemptState): boolean {
  return state === "ready" || state === "failed" || state === "cancelled";
}

/** Whether what is said to an attempt still reaches its agent. */
export function hears(state: AttemptState): boolean {
  return state === "queued" || state === "preparing" || state === "setting_up" || state === "running";
}

/** Whether something may still happen by itself. */
export function isUnsettled(task: Task): boolean {
  return task.turns.some((turn) =>
    turn.attempts.some(
      (attempt) =>
        !hasEnded(attempt.state) ||
        attempt.publications.some(({ state }) => state === "requested" || state === "committed"),
    ),
  );
}

export function StateBadge({ state, word }: { readonly state: AnyState; readonly word?: string }) {
  const look = LOOKS[state];
  return (
    <span
      className={`inline-flex items-center gap-1.5 text-sm font-medium whitespace-nowrap ${look.colour}`}
      data-state={state}
    >
      <Icon
        name={look.icon}
        className={look.moves === true ? "animate-spin [animation-duration:1.6s]" : ""}
      />
      {word ?? look.word}
    </span>
  );
}
