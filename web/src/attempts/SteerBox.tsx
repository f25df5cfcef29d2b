// What a person says to an attempt while it works. The log shows it, and when the agent was told.
import { useMutation } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { asProblem } from "../api/problem";
import { sendMessage } from "../api/queries";
import type { Attempt } from "../api/types";
import { Button } from "../parts/Button";
import { PromptBox, SubmitHint } from "../parts/PromptBox";

export function SteerBox({ attempt }: { readonly attempt: Attempt }) {
  const [text, setText] = useState("");
  const send = useMutation({
    mutationFn: (said: string) => sendMessage(attempt.id, said),
    // What was typed stays until it is stored.
    onSuccess: () => setText(""),
  });
  const unusable = send.isPending
    ? "It is being sent"
    : text.trim() === ""
      ? "Write something first"
      : undefined;
  const submit = (event?: FormEvent) => {
    event?.preventDefault();
    if (unusable === undefined) send.mutate(text);
  };
  return (
    <form onSubmit={submit} aria-label={`Tell attempt ${attempt.number}`} className="card mt-3 space-y-2 p-3">
      <PromptBox
        label="Tell the agent"
        rows={1}
        value={text}
        onChange={setText}
        onSubmit={submit}
        placeholder="It hears it before its next step…"
        error={send.error === null ? undefined : asProblem(send.error).message}
      />
      <div className="flex items-center justify-end gap-3">
        <SubmitHint unusable={unusable} />
        <Button type="submit" unusable={unusable}>
          {send.isPending ? "Sending…" : "Tell it"}
        </Button>
      </div>
    </form>
  );
}
