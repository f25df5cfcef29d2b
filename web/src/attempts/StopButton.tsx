// Stops an attempt. What it did so far stays in its log.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { asProblem } from "../api/problem";
import { cancelAttempt } from "../api/queries";
import type { Attempt } from "../api/types";
import { Button } from "../parts/Button";

export function StopButton({ attempt }: { readonly attempt: Attempt }) {
  const queries = useQueryClient();
  const stop = useMutation({
    mutationFn: () => cancelAttempt(attempt.id),
    onSettled: () => queries.invalidateQueries({ queryKey: ["task"] }),
  });
  const stopping = attempt.cancel_requested || stop.isPending || stop.isSuccess;
  return (
    <span className="flex items-center gap-2">
      {stop.error !== null && (
        <span role="alert" className="text-sm text-bad">
          {asProblem(stop.error).message}
        </span>
      )}
      <Button
        look="danger"
        icon="stop"
        onClick={() => stop.mutate()}
        unusable={stopping ? "It is being stopped" : undefined}
      >
        {stopping ? "Stopping…" : "Stop"}
      </Button>
    </span>
  );
}
