// Delegating something new. Nothing typed is lost: the draft stays until the service has taken it.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { type FormEvent, useId, useRef, useState } from "react";
import { asProblem, type Problem } from "../api/problem";
import { budgetsQuery, createTask, repositoriesQuery, taskQuery, tasksQuery } from "../api/queries";
import type { Me } from "../api/types";
import { AttachmentField } from "../attachments/AttachmentField";
import { useAttachments } from "../attachments/useAttachments";
import { Button } from "../parts/Button";
import { Icon } from "../parts/Icon";
import { ProblemNotice } from "../parts/Notice";
import { FieldProblem, PromptBox, SubmitHint } from "../parts/PromptBox";
import { BudgetNotice } from "./BudgetNotice";
import { AttemptsChoice, ModeChoice } from "./choices";
import { EnvironmentField } from "./EnvironmentField";
import { type Draft, draftFrom, missingIn, type Prefill, requestOf } from "./form";
import { ModelField } from "./ModelField";
import { RepositoryField } from "./RepositoryField";

const FIELDS = [
  "repository",
  "branch",
  "environment",
  "mode",
  "attempts",
  "model",
  "effort",
  "agent",
  "prompt",
  "attachments",
  "local_changes",
] as const;

export function Composer({ me, prefill }: { readonly me: Me; readonly prefill: Prefill }) {
  const [draft, setDraft] = useState<Draft>(() => draftFrom(prefill));
  const form = useRef<HTMLFormElement>(null);
  const handOver = useHandOver((problem) => focusWrongField(form.current, problem));
  const attachments = useAttachments();
  const problem = handOver.error === null ? undefined : asProblem(handOver.error);
  const change = (part: Partial<Draft>) => setDraft((before) => ({ ...before, ...part }));
  const unusable = whyUnusable(me, draft, handOver.isPending) ?? attachments.unusable;
  const submit = (event?: FormEvent) => {
    event?.preventDefault();
    if (unusable === undefined)
      handOver.mutate({ ...requestOf(draft), ...attachments.fields, ...attachments.startFields });
  };

  return (
    <form
      ref={form}
      onSubmit={submit}
      aria-label="New task"
      {...attachments.handlers}
      className="card space-y-3 p-4 shadow-card sm:p-5"
    >
      {me.model == null && <ModelHint hint={me.model_hint ?? null} />}
      <BudgetNotice me={me} />
      <PromptBox
        label="What is to be done?"
        rows={3}
        value={draft.prompt}
        onChange={(prompt) => change({ prompt })}
        onSubmit={submit}
        placeholder="Fix the failing test, explain how a request flows, find the bug behind this stack trace…"
        error={problem?.field("prompt")}
      />
      <AttachmentField
        attachments={attachments}
        error={problem?.field("attachments") ?? problem?.field("local_changes")}
        canStart
      />
      <div className="grid gap-3 sm:grid-cols-[1fr_10rem_10rem]">
        <RepositoryField
          value={draft.repository}
          onChange={(repository) => change({ repository })}
          error={problem?.field("repository")}
        />
        <BranchField
          value={draft.branch}
          onChange={(branch) => change({ branch })}
          error={problem?.field("branch")}
        />
        <EnvironmentField
          value={draft.environment}
          onChange={(environment) => change({ environment })}
          error={problem?.field("environment")}
        />
      </div>
      <div className="flex flex-wrap items-end gap-x-5 gap-y-3">
        <ModeChoice value={draft.mode} onChange={(mode) => change({ mode })} error={problem?.field("mode")} />
        <AttemptsChoice
          value={draft.attempts}
          onChange={(attempts) => change({ attempts })}
          error={problem?.field("attempts")}
        />
        <ModelField
          value={draft.model}
          onChange={(model) => change({ model })}
          errors={{
            model: problem?.field("model"),
            effort: problem?.field("effort"),
            agent: problem?.field("agent"),
          }}
        />
        <div className="ml-auto flex items-center gap-3">
          <SubmitHint unusable={me.model == null ? undefined : unusable} />
          <Button look="primary" type="submit" unusable={unusable} className="min-w-28">
            {handOver.isPending ? "Handing over…" : draft.mode === "ask" ? "Ask" : "Delegate"}
          </Button>
        </div>
      </div>
      {problem !== undefined && !problem.isCoveredBy(FIELDS) && <ProblemNotice error={problem} />}
    </form>
  );
}

function useHandOver(onProblem: (problem: Problem) => void) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  return useMutation({
    mutationFn: createTask,
    onSuccess: async (task) => {
      queries.setQueryData(taskQuery(task.id).queryKey, task);
      void queries.invalidateQueries({ queryKey: tasksQuery.queryKey });
      void queries.invalidateQueries({ queryKey: repositoriesQuery.queryKey });
      void queries.invalidateQueries({ queryKey: budgetsQuery.queryKey });
      await navigate({ to: "/tasks/$id", params: { id: task.id } });
    },
    onError: (thrown) => onProblem(asProblem(thrown)),
  });
}

function whyUnusable(me: Me, draft: Draft, pending: boolean): string | undefined {
  if (me.model == null) return me.model_hint ?? "No model is configured";
  return pending ? "It is being handed over" : missingIn(draft);
}

function focusWrongField(form: HTMLFormElement | null, problem: Problem): void {
  const wrong = FIELDS.find((field) => problem.field(field) !== undefined);
  const element = wrong === undefined ? null : (form?.elements.namedItem(wrong) ?? null);
  if (element instanceof HTMLElement) element.focus();
}

function ModelHint({ hint }: { readonly hint: string | null }) {
  return (
    <div className="flex gap-2 rounded-lg bg-warn-soft px-3 py-2.5 text-sm">
      <Icon name="warning" className="mt-0.5 text-warn" />
      <div>
        <p className="font-medium">No model is configured, so nothing can be delegated yet.</p>
        {hint !== null && <p className="mt-0.5 whitespace-pre-wrap">{hint}</p>}
      </div>
    </div>
  );
}

interface BranchProps {
  readonly value: string;
  readonly onChange: (value: string) => void;
  readonly error: string | undefined;
}

function BranchField({ value, onChange, error }: BranchProps) {
  const id = useId();
  return (
    <div className="min-w-0">
      <label htmlFor={id} className="mb-1 block text-xs font-medium text-muted">
        Branch <span className="font-normal">(optional)</span>
      </label>
      <input
        id={id}
        name="branch"
        value={value}
        onChange={(event) => onChange(event.target.value)}
        placeholder="default branch"
        autoComplete="off"
        autoCapitalize="off"
        spellCheck={false}
        aria-invalid={error === undefined ? undefined : true}
        aria-describedby={error === undefined ? undefined : `${id}-error`}
        className="field font-mono text-[0.8125rem]"
      />
      <FieldProblem id={`${id}-error`} message={error} />
    </div>
  );
}
