// One turn of a thread: what was asked, and its attempts, as tabs when there are several.
import { Tabs } from "@base-ui/react/tabs";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import type { Task, Turn } from "../api/types";
import { GivenList } from "../attachments/GivenList";
import { AttemptView } from "../attempts/AttemptView";
import { Comparison } from "../attempts/Comparison";
import type { Log } from "../log/log";
import { Age } from "../parts/Age";
import { useKeptFocus } from "../parts/keptFocus";
import { StateBadge } from "./state";
import { goesOnFrom, shownAttempt, type View } from "./view";

interface Props {
  readonly task: Task;
  readonly turn: Turn;
  readonly log: Log;
  readonly last: boolean;
}

export function TurnView({ task, turn, log, last }: Props) {
  const [view, setView] = useTurnView(turn, last);
  const keptFocus = useKeptFocus<HTMLLIElement>();
  const attempt = shownAttempt(turn, view.attempt);
  if (attempt === undefined) return null;
  const shown = (
    <AttemptView
      key={attempt.id}
      task={task}
      turn={turn}
      attempt={attempt}
      log={log.attempts.get(attempt.id)}
      view={view}
      onView={(part) => setView({ ...view, attempt: attempt.id, ...part })}
    />
  );
  return (
    <li aria-label={`Turn ${turn.number}`} {...keptFocus}>
      <Prompt task={task} turn={turn} />
      {turn.attempts.length === 1 ? (
        shown
      ) : (
        <Tabs.Root
          value={attempt.id}
          onValueChange={(id: string) => setView({ ...view, attempt: id })}
          className="mt-4"
        >
          <Tabs.List aria-label="Attempts" className="flex flex-wrap gap-2">
            {turn.attempts.map((each) => (
              <Tabs.Tab
                key={each.id}
                value={each.id}
                className="flex min-h-9 items-center gap-2.5 rounded-lg border border-line bg-surface px-3 text-sm hover:border-strong-line data-[active]:border-accent data-[active]:bg-accent-soft"
              >
                Attempt {each.number} <StateBadge state={each.state} />
              </Tabs.Tab>
            ))}
          </Tabs.List>
          <Comparison turn={turn} onOpen={(id) => setView({ ...view, attempt: id })} />
          <Tabs.Panel value={attempt.id} tabIndex={-1} className="outline-none">
            {shown}
          </Tabs.Panel>
        </Tabs.Root>
      )}
    </li>
  );
}

/** What of this turn is shown. The address holds it for the turn that was touched last; the others keep theirs here. */
function useTurnView(turn: Turn, last: boolean): [View, (view: View) => void] {
  const search = useSearch({ from: "/tasks/$id" });
  const navigate = useNavigate({ from: "/tasks/$id" });
  const named = turn.attempts.some((attempt) => attempt.id === search.attempt);
  const mine = named || (last && search.attempt === undefined);
  const [kept, setKept] = useState<View>({});
  return [
    mine ? search : kept,
    (view) => {
      setKept(view);
      void navigate({ search: view, replace: true, resetScroll: false });
    },
  ];
}

/** Longer prompts are folded. */
const FOLD_CHARS = 1200;

function Prompt({ task, turn }: { readonly task: Task; readonly turn: Turn }) {
  const from = goesOnFrom(task, turn);
  const [open, setOpen] = useState(false);
  const long = turn.prompt.length > FOLD_CHARS;
  return (
    <section aria-label="Prompt" className="rounded-xl bg-accent-soft px-4 py-3">
      <p className="flex items-center gap-2 text-xs text-muted">
        <span className="font-medium">{turn.mode === "ask" ? "Ask" : "Code"}</span>
        <Age at={turn.created_at} />
        {from !== undefined && <span>goes on from attempt {from}</span>}
      </p>
      <p className="mt-1 whitespace-pre-wrap">
        {long && !open ? `${turn.prompt.slice(0, FOLD_CHARS)}…` : turn.prompt}
      </p>
      {long && (
        <button type="button" className="mt-1 text-sm text-accent underline" onClick={() => setOpen(!open)}>
          {open ? "Show less" : "Show the whole prompt"}
        </button>
      )}
      <GivenList attachments={turn.attachments ?? []} />
    </section>
  );
}
