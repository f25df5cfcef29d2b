// Makes an attempt again that ended without a result: anew, or from where it was.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { asProblem } from "../api/problem";
import { retryAttempt, taskQuery } from "../api/queries";
import type { Attempt, Task, Turn } from "../api/types";
import { Button } from "../parts/Button";
import { wasRetried } from "../tasks/view";

interface Props {
  readonly task: Task;
  readonly turn: Turn;
  readonly attempt: Attempt;
}

export function RetryButtons({ task, turn, attempt }: Props) {
  const queries = useQueryClient();
  const navigate = useNavigate({ from: "/tasks/$id" });
  const retry = useMutation({
    mutationFn: (resume: boolean) => retryAttempt(attempt.id, resume),
    onSuccess: async (next) => {
      await queries.invalidateQueries({ queryKey: taskQuery(task.id).queryKey });
      await navigate({ search: { attempt: next.id }, replace: true, resetScroll: false });
    },
  });
  const ended = attempt.state === "failed" || attempt.state === "cancelled";
  if (!ended || turn !== task.turns.at(-1) || wasRetried(turn, attempt)) return null;
  const unusable = retry.isPending ? "It is being tried again" : undefined;
  const began = attempt.usage.requests > 0;
  return (
    <span className="flex flex-wrap items-center gap-2">
      {retry.error !== null && (
        <span role="alert" className="text-sm text-bad">
          {asProblem(retry.error).message}
        </span>
      )}
      {began && (
        <Button onClick={() => retry.mutate(true)} unusable={unusable}>
          Resume
        </Button>
      )}
      <Button onClick={() => retry.mutate(false)} unusable={unusable}>
        Retry
      </Button>
    </span>
  );
}
