// One attempt: where it stands, and its log, answer and changes as tabs.
import { Tabs } from "@base-ui/react/tabs";
import { Link } from "@tanstack/react-router";
import { lazy, type ReactNode, Suspense } from "react";
import type { Attempt, Task, Turn } from "../api/types";
import { LogView } from "../log/LogView";
import type { AttemptLog } from "../log/log";
import { Icon } from "../parts/Icon";
import { LineCounts } from "../parts/LineCounts";
import { PublicationList } from "../publications/PublicationList";
import { PushDialog } from "../publications/PushDialog";
import { hasEnded } from "../tasks/state";
import { shownTab, type Tab, type View } from "../tasks/view";
import { ArtifactList } from "./ArtifactList";
import { RetryButtons } from "./RetryButtons";
import { StateLine } from "./StateLine";
import { SteerBox } from "./SteerBox";
import { StopButton } from "./StopButton";

const Answer = lazy(() => import("../answer/Answer"));
const PatchView = lazy(() => import("../patches/PatchView"));

interface Props {
  readonly task: Task;
  readonly turn: Turn;
  readonly attempt: Attempt;
  readonly log: AttemptLog | undefined;
  readonly view: View;
  readonly onView: (view: View) => void;
}

export function AttemptView({ task, turn, attempt, log, view, onView }: Props) {
  const tab = shownTab(attempt, view.tab);
  const patch = attempt.result?.patch ?? undefined;
  return (
    <section
      aria-label={`Attempt ${attempt.number}`}
      data-attempt={attempt.number}
      tabIndex={-1}
      className="mt-4 outline-none"
    >
      <div className="flex min-h-9 flex-wrap items-center justify-between gap-x-4 gap-y-2">
        <StateLine attempt={attempt} worded={turn.attempts.length > 1} />
        <div data-actions className="flex gap-2">
          {!hasEnded(attempt.state) && <StopButton attempt={attempt} />}
          <RetryButtons task={task} turn={turn} attempt={attempt} />
          {patch !== undefined && <PushDialog task={task} attempt={attempt} />}
        </div>
      </div>
      {attempt.failure != null && <FailureNotice task={task} turn={turn} attempt={attempt} />}
      <PublicationList publications={attempt.publications} />
      <ArtifactList attempt={attempt} attached={log?.attached ?? 0} />
      <Tabs.Root value={tab} onValueChange={(value: Tab) => onView({ tab: value })} className="mt-3">
        <Tabs.List aria-label="What it did" className="relative z-10 flex gap-1 border-b border-line">
          <TabHead value="log">Log</TabHead>
          {attempt.result != null && <TabHead value="answer">Answer</TabHead>}
          {patch !== undefined && (
            <TabHead value="diff">
              Changes <LineCounts additions={patch.additions} deletions={patch.deletions} />
            </TabHead>
          )}
        </Tabs.List>
        <Tabs.Panel value={tab} tabIndex={-1} className="pt-4 outline-none">
          <Suspense fallback={<PanelSkeleton />}>
            {tab === "log" && <LogView attempt={attempt} log={log} />}
            {tab === "answer" && attempt.result != null && <Answer result={attempt.result} />}
            {tab === "diff" && patch !== undefined && (
              <PatchView attempt={attempt.id} patch={patch} view={view} onView={onView} />
            )}
          </Suspense>
        </Tabs.Panel>
      </Tabs.Root>
      <SteerBox attempt={attempt} />
    </section>
  );
}

function TabHead({ value, children }: { readonly value: Tab; readonly children: ReactNode }) {
  return (
    <Tabs.Tab
      value={value}
      className="-mb-px flex min-h-10 items-center gap-2 rounded-t-md border-b-2 border-transparent px-3 text-sm text-muted hover:text-ink focus-visible:-outline-offset-2 data-[active]:border-accent data-[active]:font-medium data-[active]:text-ink"
    >
      {children}
    </Tabs.Tab>
  );
}

function FailureNotice({ task, turn, attempt }: Pick<Props, "task" | "turn" | "attempt">) {
  const failure = attempt.failure;
  if (failure == null) return null;
  const again = {
    repository: task.repository.location,
    ...(task.branch == null ? {} : { branch: task.branch }),
    mode: turn.mode,
    prompt: turn.prompt,
  };
  return (
    <div
      role="alert"
      className="mt-3 flex gap-2 rounded-lg border border-bad/40 bg-bad-soft px-3 py-2.5 text-sm"
    >
      <Icon name="warning" className="mt-0.5 text-bad" />
      <div className="min-w-0">
        <p className="font-medium">
          {failure.stage == null ? "It failed" : `It failed while ${failure.stage.replaceAll("_", " ")}`}
        </p>
        <p className="mt-0.5 whitespace-pre-wrap first-letter:uppercase">{failure.reason}</p>
        <p className="mt-1">
          <Link to="/" search={again} className="text-accent underline">
            Delegate it again
          </Link>
          {failure.retryable && <span className="text-muted"> — trying again may help</span>}
        </p>
      </div>
    </div>
  );
}

function PanelSkeleton() {
  return (
    <div role="status" aria-label="Loading" className="space-y-2">
      <div className="skeleton h-4 w-3/4" />
      <div className="skeleton h-4 w-2/3" />
      <div className="skeleton h-32" />
    </div>
  );
}
