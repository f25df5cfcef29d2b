// Everything delegated, newest first; it moves by itself.
import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useCallback, useEffect, useRef } from "react";
import { useStream } from "../api/live";
import { CHANGES_PATH, tasksQuery } from "../api/queries";
import type { TaskSummary } from "../api/types";
import { Age } from "../parts/Age";
import { Button } from "../parts/Button";
import { LineCounts } from "../parts/LineCounts";
import { Empty, ProblemNotice } from "../parts/Notice";
import { StateBadge } from "./state";

/** Changes come in bursts: the list is read again at most this often. */
const DEBOUNCE_MS = 250;

/** How often it is read again while something in it waits: that it waits for something else by now is no change of the task. */
const WAIT_MS = 15_000;

export function TaskList() {
  const tasks = useInfiniteQuery({
    ...tasksQuery,
    refetchInterval: ({ state }) =>
      state.data?.pages.some(({ items }) => items.some(waits)) === true && WAIT_MS,
  });
  const connection = useMovingList();
  const items = tasks.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <section aria-labelledby="tasks" className="mt-8">
      <div className="flex items-baseline gap-3">
        <h2 id="tasks" className="font-serif text-xl">
          Tasks
        </h2>
        <span role="status" className="text-xs text-muted">
          {connection.is === "waiting" ? "Reconnecting…" : ""}
        </span>
      </div>
      {tasks.isPending && <ListSkeleton />}
      {tasks.error !== null && (
        <div className="mt-3">
          <ProblemNotice error={tasks.error} retry={() => void tasks.refetch()} />
        </div>
      )}
      {tasks.data !== undefined && items.length === 0 && (
        <Empty icon="branch" title="Nothing has been delegated yet">
          Say above what is to be done and in which repository. The work happens in a sandbox of its own; your
          repository changes only when you push a result.
        </Empty>
      )}
      {items.length > 0 && (
        <ul className="card mt-3 divide-y divide-line overflow-hidden">
          {items.map((task) => (
            <TaskRow key={task.id} task={task} />
          ))}
        </ul>
      )}
      {tasks.hasNextPage && (
        <div className="mt-4 text-center">
          <Button
            onClick={() => void tasks.fetchNextPage()}
            unusable={tasks.isFetchingNextPage ? "Older tasks are on their way" : undefined}
          >
            {tasks.isFetchingNextPage ? "Loading…" : "Load older tasks"}
          </Button>
        </div>
      )}
    </section>
  );
}

function waits(task: TaskSummary): boolean {
  return task.waits_for != null;
}

function useMovingList() {
  const queries = useQueryClient();
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const url = useCallback(() => CHANGES_PATH, []);
  const refresh = useCallback(() => {
    timer.current ??= setTimeout(() => {
      timer.current = undefined;
      void queries.invalidateQueries({ queryKey: tasksQuery.queryKey });
    }, DEBOUNCE_MS);
  }, [queries]);
  const connection = useStream(true, url, refresh);
  // What happened while nobody listened is not sent again: read the list once the stream is there.
  useEffect(() => {
    if (connection.is === "live") refresh();
  }, [connection, refresh]);
  return connection;
}

function TaskRow({ task }: { readonly task: TaskSummary }) {
  return (
    <li className="relative hover:bg-sunken focus-within:bg-sunken">
      <div className="grid grid-cols-[1fr_auto] items-center gap-x-4 gap-y-0.5 px-4 py-2.5 sm:grid-cols-[7.5rem_1fr_auto]">
        <span className="order-3 sm:order-none">
          <StateBadge state={task.state} />
        </span>
        <div className="col-span-2 min-w-0 sm:col-span-1">
          <Link
            to="/tasks/$id"
            params={{ id: task.id }}
            className="line-clamp-2 font-medium after:absolute after:inset-0 focus-visible:after:outline-2 focus-visible:after:-outline-offset-2 focus-visible:after:outline-accent focus-visible:outline-none sm:line-clamp-1"
          >
            {task.title}
          </Link>
          <p className="truncate text-xs text-muted">
            {task.mode === "ask" ? "Ask" : "Code"} · {task.repository.name}
            {task.attempts > 1 && ` · ${task.attempts} attempts`}
            {task.waits_for != null && ` · ${task.waits_for}`}
          </p>
        </div>
        <div className="order-4 flex items-center justify-end gap-3 text-xs text-muted sm:order-none">
          {task.additions != null && task.deletions != null && (
            <LineCounts additions={task.additions} deletions={task.deletions} />
          )}
          <span className="min-w-10 text-right">
            <Age at={task.created_at} />
          </span>
        </div>
      </div>
    </li>
  );
}

function ListSkeleton() {
  return (
    <div role="status" aria-label="Loading tasks" className="card mt-3 divide-y divide-line">
      {[0, 1, 2].map((row) => (
        <div key={row} className="flex h-[3.75rem] items-center gap-4 px-4">
          <div className="skeleton h-4 w-20" />
          <div className="skeleton h-4 flex-1" />
          <div className="skeleton h-4 w-12" />
        </div>
      ))}
    </div>
  );
}
