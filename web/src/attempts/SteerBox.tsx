// What a person says to an attempt while it works. The log shows it, and when the agent was told. What was not sent before the
// attempt hears nothing any more is not lost: the box stays as long as there is something in it.
import { useMutation } from "@tanstack/react-query";
import type { FormEvent } from "react";
import { asProblem } from "../api/problem";
import { sendMessage } from "../api/queries";
import type { Attempt } from "../api/types";
import { Button } from "../parts/Button";
import { PromptBox, SubmitHint } from "../parts/PromptBox";
import { useDraft, useMessage } from "../tasks/draft";
import { hears } from "../tasks/state";

export function SteerBox({ attempt }: { readonly attempt: Attempt }) {
  const [text, change] = useMessage(attempt.id);
  const { setPrompt } = useDraft();
  const send = useMutation({
    mutationFn: (said: string) => sendMessage(attempt.id, said),
    // What was typed stays until it is stored, and what was typed since stays anyway.
    onSuccess: (_, said) => change((now) => (now === said ? "" : now)),
  });
  const isHeard = hears(attempt.state) && !attempt.cancel_requested;
  if (!isHeard && text === "") return null;
  const unusable = whyUnusable(isHeard, text, send.isPending);
  const submit = (event?: FormEvent) => {
    event?.preventDefault();
    if (unusable === undefined) send.mutate(text);
  };
  const followUp = () => {
    setPrompt((before) => (before.trim() === "" ? text : `${before.trimEnd()}\n\n${text}`));
    change(() => "");
    document.querySelector<HTMLElement>('form[aria-label="Follow-up"] textarea')?.focus();
  };
  return (
    <form onSubmit={submit} aria-label={`Tell attempt ${attempt.number}`} className="card mt-3 space-y-2 p-3">
      <PromptBox
        label="Tell the agent"
        rows={1}
        value={text}
        onChange={(typed) => change(() => typed)}
        onSubmit={submit}
        enterSubmits
        placeholder="It hears it before its next step…"
        error={send.error === null ? undefined : asProblem(send.error).message}
      />
      <div className="flex flex-wrap items-center justify-end gap-x-3 gap-y-2">
        <SubmitHint unusable={unusable} keys="Enter; Shift + Enter for a new line" />
        {!isHeard && <Button onClick={followUp}>Use as follow-up</Button>}
        <Button type="submit" unusable={unusable}>
          {send.isPending ? "Sending…" : "Tell it"}
        </Button>
      </div>
    </form>
  );
}

function whyUnusable(isHeard: boolean, text: string, isPending: boolean): string | undefined {
  if (!isHeard) return "The agent hears nothing any more";
  if (isPending) return "It is being sent";
  return text.trim() === "" ? "Write something first" : undefined;
}
