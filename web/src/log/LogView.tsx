// An attempt's log as it grows. It follows the newest entry until one scrolls up, and again when one comes back down.
import { useCallback, useLayoutEffect, useRef, useState } from "react";
import type { Attempt } from "../api/types";
import { Button } from "../parts/Button";
import { useNow } from "../parts/time";
import { hasEnded } from "../tasks/state";
import { EntryView } from "./EntryView";
import { type AttemptLog, EMPTY_ATTEMPT } from "./log";
import { PlanView } from "./PlanView";

interface Props {
  readonly attempt: Attempt;
  readonly log: AttemptLog | undefined;
}

/** So many entries are on the page at first; earlier ones come when asked for. */
const SHOWN = 150;
/** Nearer to the end than this counts as at the end. */
const NEAR_PX = 48;

export function LogView({ attempt, log = EMPTY_ATTEMPT }: Props) {
  const live = !hasEnded(attempt.state);
  const [shown, setShown] = useState(SHOWN);
  const { box, following, onScroll, jump } = useTail(live, log);
  const hidden = Math.max(0, log.entries.length - shown);
  return (
    <div>
      {log.plan.length > 0 && <PlanView plan={log.plan} />}
      <div className="card relative overflow-hidden">
        <div
          ref={box}
          role="log"
          aria-live="off"
          aria-label={`Log of attempt ${attempt.number}`}
          // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard.
          tabIndex={0}
          onScroll={onScroll}
          className={`${live ? "max-h-[max(16rem,calc(100dvh-31rem))]" : "max-h-[70vh]"} min-h-24 overflow-y-auto overscroll-contain py-2 focus-visible:-outline-offset-2`}
        >
          {hidden > 0 && (
            <p className="px-4 pb-2 text-center">
              <Button onClick={() => setShown((count) => count + SHOWN)}>
                Show {Math.min(hidden, SHOWN)} of {hidden.toLocaleString("en")} earlier entries
              </Button>
            </p>
          )}
          {log.entries.slice(hidden).map((entry) => (
            <EntryView key={entry.seq} entry={entry} environment={attempt.environment.name} />
          ))}
          {live && <Waiting attempt={attempt} until={log.waitsUntil} />}
          {!live && log.entries.length === 0 && (
            <p className="px-4 py-3 text-sm text-muted">Nothing was logged.</p>
          )}
        </div>
        {live && !following && (
          <div className="absolute bottom-3 left-1/2 -translate-x-1/2">
            <Button icon="arrowDown" className="shadow-card" onClick={jump}>
              Jump to latest
            </Button>
          </div>
        )}
      </div>
    </div>
  );
}

function useTail(live: boolean, log: AttemptLog) {
  const box = useRef<HTMLDivElement>(null);
  const [following, setFollowing] = useState(live);
  const toEnd = useCallback(() => {
    if (box.current !== null) box.current.scrollTop = box.current.scrollHeight;
  }, []);
  // biome-ignore lint/correctness/useExhaustiveDependencies: every change of the log moves its end.
  useLayoutEffect(() => {
    if (live && following) toEnd();
  }, [live, following, log, toEnd]);
  const onScroll = () => {
    const at = box.current;
    if (at !== null) setFollowing(at.scrollHeight - at.scrollTop - at.clientHeight < NEAR_PX);
  };
  const jump = () => {
    setFollowing(true);
    toEnd();
  };
  return { box, following, onScroll, jump };
}

const WAITING: Readonly<Partial<Record<Attempt["state"], string>>> = {
  queued: "Waiting for a free worker…",
  preparing: "Preparing the sandbox…",
  setting_up: "Running the setup…",
  running: "The agent is working…",
  collecting: "Collecting the changes…",
};

interface WaitingProps {
  readonly attempt: Attempt;
  /** When the model is asked again, if that is waited for. */
  readonly until: number | undefined;
}

function Waiting({ attempt, until }: WaitingProps) {
  const now = useNow(until === undefined ? 3_600_000 : 1000);
  const words = until === undefined ? WAITING[attempt.state] : modelWait(until - now);
  return (
    <p className="breathe px-4 py-1.5 text-sm text-muted">{attempt.cancel_requested ? "Stopping…" : words}</p>
  );
}

function modelWait(leftMs: number): string {
  return leftMs > 0
    ? `Waiting for the model: it is asked again in ${Math.ceil(leftMs / 1000)} s…`
    : "Waiting for the model: it was asked again…";
}
