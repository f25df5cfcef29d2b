// The agent's answer, as a page of its own beside the log.
import { CopyButton } from "../parts/CopyButton";
import Prose from "./Prose";

export default function Answer({ text }: { readonly text: string }) {
  if (text.trim() === "") {
    return <p className="text-muted">The agent said nothing.</p>;
  }
  return (
    <section aria-label="Answer" className="card p-4 sm:p-5" data-testid="answer">
      <Prose text={text} />
      <div className="mt-4 flex items-center gap-2">
        <CopyButton label="Copy answer" text={text} />
      </div>
    </section>
  );
}
