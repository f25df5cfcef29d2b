// Puts a patch on a branch, and follows it until the remote has it or says why not.
import { Dialog } from "@base-ui/react/dialog";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useId, useState } from "react";
import { asProblem } from "../api/problem";
import { createPublication, taskQuery } from "../api/queries";
import type { Attempt, Publication, Task } from "../api/types";
import { BUTTON, Button } from "../parts/Button";
import { Icon } from "../parts/Icon";
import { ProblemNotice } from "../parts/Notice";
import { FieldProblem } from "../parts/PromptBox";
import { branchFor } from "./branch";
import { Progress } from "./Progress";

interface Props {
  readonly task: Task;
  readonly attempt: Attempt;
}

export function PushDialog({ task, attempt }: Props) {
  return (
    <Dialog.Root>
      <Dialog.Trigger
        className={`${BUTTON} border-transparent bg-accent font-medium text-on-accent hover:bg-accent-hover`}
      >
        <Icon name="push" /> Push…
      </Dialog.Trigger>
      <Dialog.Portal>
        <Dialog.Backdrop className="fixed inset-0 z-30 bg-black/40" />
        <Dialog.Popup className="card fixed top-1/2 left-1/2 z-40 max-h-[90dvh] w-[min(30rem,calc(100vw-1.5rem))] -translate-1/2 overflow-y-auto p-5 shadow-card">
          <Dialog.Title className="font-serif text-xl">Push to a branch</Dialog.Title>
          <Dialog.Description className="mt-1 text-sm text-muted">
            One commit with these changes goes to {task.repository.name}.
          </Dialog.Description>
          <PushForm task={task} attempt={attempt} />
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  );
}

function PushForm({ task, attempt }: Props) {
  const [branch, setBranch] = useState(() => attempt.publications.at(-1)?.branch ?? branchFor(task.title));
  const [message, setMessage] = useState(() => attempt.publications.at(-1)?.message ?? task.title);
  const push = usePush(task, attempt);
  const followed = attempt.publications.find((each) => each.id === push.data?.id) ?? push.data;
  const problem = push.error === null ? undefined : asProblem(push.error);
  const unusable = whyUnusable(branch, message, push.isPending, followed);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (unusable === undefined) push.mutate({ branch: branch.trim(), message });
  };
  return (
    <form onSubmit={submit} className="mt-4 space-y-3" aria-label="Push">
      <Field label="Branch" value={branch} onChange={setBranch} error={problem?.field("branch")} mono />
      <Field label="Commit message" value={message} onChange={setMessage} error={problem?.field("message")} />
      {problem !== undefined && !problem.isCoveredBy(["branch", "message"]) && (
        <ProblemNotice error={problem} />
      )}
      {followed !== undefined && <Progress publication={followed} />}
      <div className="flex justify-end gap-2 pt-1">
        <Dialog.Close className={`${BUTTON} border-line bg-surface hover:border-strong-line`}>
          {followed?.state === "pushed" ? "Done" : "Close"}
        </Dialog.Close>
        <Button look="primary" type="submit" unusable={unusable}>
          {followed?.state === "failed" ? "Try again" : "Push"}
        </Button>
      </div>
    </form>
  );
}

function usePush(task: Task, attempt: Attempt) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (body: { branch: string; message: string }) => createPublication(attempt.id, body),
    onSuccess: () => queries.invalidateQueries({ queryKey: taskQuery(task.id).queryKey }),
  });
}

function whyUnusable(
  branch: string,
  message: string,
  pending: boolean,
  followed: Publication | undefined,
): string | undefined {
  if (branch.trim() === "") return "Name a branch first";
  if (message.trim() === "") return "Write a commit message first";
  if (pending || followed?.state === "requested" || followed?.state === "committed")
    return "It is being pushed";
  return followed?.state === "pushed" && followed.branch === branch.trim() ? "It is pushed" : undefined;
}

interface FieldProps {
  readonly label: string;
  readonly value: string;
  readonly onChange: (value: string) => void;
  readonly error: string | undefined;
  readonly mono?: boolean;
}

function Field({ label, value, onChange, error, mono = false }: FieldProps) {
  const id = useId();
  const shared = {
    id,
    value,
    "aria-invalid": error === undefined ? undefined : true,
    "aria-describedby": error === undefined ? undefined : `${id}-error`,
  };
  return (
    <div>
      <label htmlFor={id} className="mb-1 block text-xs font-medium text-muted">
        {label}
      </label>
      {mono ? (
        <input
          {...shared}
          onChange={(event) => onChange(event.target.value)}
          autoComplete="off"
          spellCheck={false}
          className="field font-mono text-[0.8125rem]"
        />
      ) : (
        <textarea
          {...shared}
          rows={3}
          onChange={(event) => onChange(event.target.value)}
          className="field block max-h-60 resize-y [field-sizing:content]"
        />
      )}
      <FieldProblem id={`${id}-error`} message={error} />
    </div>
  );
}
