// What a person is writing: the next turn, by hand below the thread or by one click on what an answer suggests, and what each
// attempt is about to be told. It is kept here so that nothing is lost when what it was typed into is shown no more.
import { createContext, type ReactNode, type SetStateAction, useContext, useMemo, useState } from "react";

type Messages = Readonly<Record<string, string>>;

interface Draft {
  readonly prompt: string;
  readonly setPrompt: (prompt: SetStateAction<string>) => void;
  readonly messages: Messages;
  readonly setMessages: (messages: SetStateAction<Messages>) => void;
}

const DraftContext = createContext<Draft>({
  prompt: "",
  setPrompt: () => {},
  messages: {},
  setMessages: () => {},
});

export function DraftProvider({ children }: { readonly children: ReactNode }) {
  const [prompt, setPrompt] = useState("");
  const [messages, setMessages] = useState<Messages>({});
  const draft = useMemo(() => ({ prompt, setPrompt, messages, setMessages }), [prompt, messages]);
  return <DraftContext value={draft}>{children}</DraftContext>;
}

export function useDraft(): Draft {
  return useContext(DraftContext);
}

/** What one attempt is about to be told, and how to change it. */
export function useMessage(attempt: string): [string, (change: (before: string) => string) => void] {
  const { messages, setMessages } = useDraft();
  const change = (next: (before: string) => string) =>
    setMessages((all) => ({ ...all, [attempt]: next(all[attempt] ?? "") }));
  return [messages[attempt] ?? "", change];
}
