// The next turn of a thread. It goes on from the files of the attempt that is chosen.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import { asProblem } from "../api/problem";
import { createTurn, taskQuery, tasksQuery } from "../api/queries";
import type { Attempt, CreateTurn, Mode, Task } from "../api/types";
import { AttachmentField } from "../attachments/AttachmentField";
import { useAttachments } from "../attachments/useAttachments";
import { Button } from "../parts/Button";
import { ProblemNotice } from "../parts/Notice";
import { PromptBox, SubmitHint } from "../parts/PromptBox";
import { AttemptsChoice, ModeChoice } from "./choices";
import { useDraft } from "./draft";
import { ModelField } from "./ModelField";
import { fieldsOf, NO_CHOICE } from "./models";
import { hasEnded } from "./state";
import { shownAttempt } from "./view";

const FIELDS = ["prompt", "mode", "attempts", "model", "effort", "agent", "attachments"];

export function FollowUp({ task }: { readonly task: Task }) {
  const { prompt, setPrompt } = useDraft();
  const [mode, setMode] = useState<Mode>(task.turns.at(-1)?.mode ?? "code");
  const [attempts, setAttempts] = useState(1);
  const [model, setModel] = useState(NO_CHOICE);
  const search = useSearch({ from: "/tasks/$id" });
  const from = goesOnFrom(task, search.attempt);
  const attachments = useAttachments();
  const ask = useFollowUp(task, () => {
    setPrompt("");
    attachments.clear();
  });
  const problem = ask.error === null ? undefined : asProblem(ask.error);
  const unusable = whyUnusable(task, prompt, ask.isPending) ?? attachments.unusable;
  const submit = (event?: FormEvent) => {
    event?.preventDefault();
    if (unusable !== undefined) return;
    const goesOn = from === undefined ? {} : { from_attempt_id: from.id };
    ask.mutate({ prompt, mode, attempts, ...fieldsOf(model), ...goesOn, ...attachments.fields });
  };
  return (
    <form
      onSubmit={submit}
      aria-label="Follow-up"
      className="card mt-10 space-y-3 p-4 shadow-card"
      {...attachments.handlers}
    >
      <PromptBox
        label="Follow up"
        rows={2}
        value={prompt}
        onChange={setPrompt}
        onSubmit={submit}
        placeholder="Ask about it, or say what to change next…"
        error={problem?.field("prompt")}
      />
      <AttachmentField attachments={attachments} error={problem?.field("attachments")} />
      <div className="flex flex-wrap items-end gap-x-5 gap-y-3">
        <ModeChoice value={mode} onChange={setMode} error={problem?.field("mode")} />
        <AttemptsChoice value={attempts} onChange={setAttempts} error={problem?.field("attempts")} />
        <ModelField
          value={model}
          onChange={setModel}
          unchosen="as before"
          before={task.turns.at(-1)?.attempts[0]?.model}
          errors={{
            model: problem?.field("model"),
            effort: problem?.field("effort"),
            agent: problem?.field("agent"),
          }}
        />
        <div className="ml-auto flex items-center gap-3">
          {from !== undefined && (task.turns.at(-1)?.attempts.length ?? 0) > 1 && (
            <span className="text-xs text-muted">goes on from attempt {from.number}</span>
          )}
          <SubmitHint unusable={unusable} />
          <Button look="primary" type="submit" unusable={unusable} className="min-w-24">
            {ask.isPending ? "Sending…" : "Send"}
          </Button>
        </div>
      </div>
      {problem !== undefined && !problem.isCoveredBy(FIELDS) && <ProblemNotice error={problem} />}
    </form>
  );
}

function useFollowUp(task: Task, onSent: () => void) {
  const queries = useQueryClient();
  const navigate = useNavigate({ from: "/tasks/$id" });
  return useMutation({
    mutationFn: (body: CreateTurn) => createTurn(task.id, body),
    onSuccess: (next) => {
      onSent();
      queries.setQueryData(taskQuery(task.id).queryKey, next);
      void queries.invalidateQueries({ queryKey: tasksQuery.queryKey, refetchType: "none" });
      void navigate({ search: {}, replace: true, resetScroll: false });
    },
  });
}

/** The attempt of the last turn with a result that is shown, if it has one; the service picks otherwise. */
function goesOnFrom(task: Task, chosen: string | undefined): Attempt | undefined {
  const turn = task.turns.findLast(({ attempts }) => attempts.some(({ state }) => state === "ready"));
  const attempt = turn === undefined ? undefined : shownAttempt(turn, chosen);
  return attempt?.state === "ready" ? attempt : undefined;
}

function whyUnusable(task: Task, prompt: string, pending: boolean): string | undefined {
  if (pending) return "It is being sent";
  const busy = task.turns.at(-1)?.attempts.some(({ state }) => !hasEnded(state)) ?? false;
  if (busy) return "The agent is still working: wait for it, stop it, or tell it above";
  return prompt.trim() === "" ? "Write something first" : undefined;
}
