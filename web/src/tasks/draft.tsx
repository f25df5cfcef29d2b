// The text of the next turn while it is written: by hand below the thread, or by one click on what an answer suggests.
import { createContext, type ReactNode, useContext, useMemo, useState } from "react";

interface Draft {
  readonly prompt: string;
  readonly setPrompt: (prompt: string) => void;
}

const DraftContext = createContext<Draft>({ prompt: "", setPrompt: () => {} });

export function DraftProvider({ children }: { readonly children: ReactNode }) {
  const [prompt, setPrompt] = useState("");
  const draft = useMemo(() => ({ prompt, setPrompt }), [prompt]);
  return <DraftContext value={draft}>{children}</DraftContext>;
}

export function useDraft(): Draft {
  return useContext(DraftContext);
}
