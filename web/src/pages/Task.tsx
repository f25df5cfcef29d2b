// One task: its head, its thread of turns as they happen, and the next turn.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { useCallback } from "react";
import { asProblem } from "../api/problem";
import { taskQuery, tasksQuery } from "../api/queries";
import type { Connection } from "../api/sse";
import type { Task } from "../api/types";
import { useLog } from "../log/useLog";
import { Age } from "../parts/Age";
import { Icon } from "../parts/Icon";
import { LineCounts } from "../parts/LineCounts";
import { ProblemNotice } from "../parts/Notice";
import { useTitle } from "../parts/title";
import { DraftProvider } from "../tasks/draft";
import { FollowUp } from "../tasks/FollowUp";
import { isUnsettled, StateBadge, wordOf } from "../tasks/state";
import { TurnView } from "../tasks/TurnView";
import { NotFound } from "./Lost";

/** How often a task that may wait is asked what for: it may begin to wait, or wait for something else, with no event of its own. */
const WAIT_MS = 5000;

export function TaskPage() {
  const { id } = useParams({ from: "/tasks/$id" });
  const task = useQuery({
    ...taskQuery(id),
    refetchInterval: ({ state }) => state.data !== undefined && isUnsettled(state.data) && WAIT_MS,
  });
  if (task.data !== undefined) {
    return (
      <DraftProvider key={id}>
        <Thread task={task.data} />
      </DraftProvider>
    );
  }
  if (task.error === null) return <TaskSkeleton />;
  const { status } = asProblem(task.error);
  if (status === 404 || status === 400 || status === 422) return <NotFound />;
  return <ProblemNotice error={task.error} retry={() => void task.refetch()} />;
}

function Thread({ task }: { readonly task: Task }) {
  useTitle(task.title);
  const queries = useQueryClient();
  const refresh = useCallback(() => {
    void queries.invalidateQueries({ queryKey: taskQuery(task.id).queryKey });
    void queries.invalidateQueries({ queryKey: tasksQuery.queryKey, refetchType: "none" });
  }, [queries, task.id]);
  const { log, connection } = useLog(task.id, refresh, task);
  const live = isUnsettled(task);
  return (
    <article aria-labelledby="task-title">
      <Head task={task} />
      <LiveStatus task={task} connection={live ? connection : { is: "live" }} />
      <ol className="mt-6 space-y-10">
        {task.turns.map((turn) => (
          <TurnView key={turn.id} task={task} turn={turn} log={log} last={turn === task.turns.at(-1)} />
        ))}
      </ol>
      <FollowUp task={task} />
    </article>
  );
}

function Head({ task }: { readonly task: Task }) {
  const base = task.turns[0]?.attempts.find((attempt) => attempt.base_commit != null)?.base_commit;
  return (
    <header>
      <p className="text-sm">
        <Link to="/" className="rounded text-muted hover:text-accent">
          ← Tasks
        </Link>
      </p>
      <div className="mt-2 flex flex-wrap items-start gap-x-4 gap-y-1.5">
        <h1 id="task-title" className="min-w-0 flex-1 basis-64 font-serif text-2xl leading-snug text-balance">
          {task.title}
        </h1>
        <span className="mt-1.5" data-testid="task-state">
          <StateBadge state={task.state} />
        </span>
      </div>
      <dl className="mt-2 flex flex-wrap gap-x-4 gap-y-1 text-sm text-muted">
        <div className="min-w-0">
          <dt className="sr-only">Repository</dt>
          <dd title={task.repository.location}>{task.repository.name}</dd>
        </div>
        {(task.branch != null || base != null) && (
          <div className="flex min-w-0 items-center gap-1.5">
            <dt>
              <Icon name="branch" />
              <span className="sr-only">Starts from</span>
            </dt>
            <dd className="font-mono text-xs">
              {task.branch ?? "default branch"}
              {base != null && <span title={base}> @ {base.slice(0, 10)}</span>}
            </dd>
          </div>
        )}
        {task.local_changes != null && (
          <div className="flex min-w-0 items-center gap-1.5">
            <dt className="sr-only">Local changes</dt>
            <dd>
              starts from local changes:{" "}
              {task.local_changes.files === 1 ? "1 file" : `${task.local_changes.files} files`},{" "}
              <LineCounts additions={task.local_changes.additions} deletions={task.local_changes.deletions} />
            </dd>
          </div>
        )}
        {task.waits_for != null && (
          <div className="min-w-0">
            <dt className="sr-only">Waits</dt>
            <dd>{task.waits_for}</dd>
          </div>
        )}
        <div>
          <dt className="sr-only">Asked for</dt>
          <dd>
            <Age at={task.created_at} />
          </dd>
        </div>
      </dl>
    </header>
  );
}

/** Says by ear where the last turn stands, and by eye when the connection is lost. */
function LiveStatus({ task, connection }: { readonly task: Task; readonly connection: Connection }) {
  const attempts = task.turns.at(-1)?.attempts ?? [];
  const said = attempts
    .map((attempt) => `${attempts.length > 1 ? `Attempt ${attempt.number}: ` : ""}${wordOf(attempt.state)}`)
    .join(". ");
  return (
    <>
      <p role="status" className="sr-only">
        {said}
      </p>
      {connection.is === "waiting" && (
        <p
          role="status"
          className="card fixed inset-x-3 bottom-3 z-20 mx-auto w-fit px-3 py-2 text-sm text-warn shadow-card"
        >
          The connection was lost; trying again. The work goes on meanwhile.
        </p>
      )}
      {connection.is === "refused" && (
        <div className="mt-3">
          <ProblemNotice error={connection.problem} />
        </div>
      )}
    </>
  );
}

function TaskSkeleton() {
  return (
    <div role="status" aria-label="Loading the task">
      <div className="skeleton mt-8 h-8 w-2/3" />
      <div className="skeleton mt-3 h-4 w-1/3" />
      <div className="skeleton mt-6 h-20" />
      <div className="skeleton mt-4 h-64" />
    </div>
  );
}
