// The agent's answer, as a page of its own beside the log: with its citations marked, and what to ask next.
import type { AttemptResult, Citations } from "../api/types";
import { Button } from "../parts/Button";
import { CopyButton } from "../parts/CopyButton";
import { Icon } from "../parts/Icon";
import { useDraft } from "../tasks/draft";
import { countsOf } from "./checks";
import Prose from "./Prose";

export default function Answer({ result }: { readonly result: AttemptResult }) {
  const { answer, citations, faults = [], suggestions = [] } = result;
  if (answer.trim() === "") {
    return <p className="text-muted">The agent said nothing.</p>;
  }
  return (
    <section aria-label="Answer" className="card p-4 sm:p-5" data-testid="answer">
      <Prose text={answer} failing={citations?.failing} />
      {citations !== undefined && <Checked citations={citations} />}
      {faults.length > 0 && <Faults faults={faults} />}
      {suggestions.length > 0 && <Suggestions suggestions={suggestions} />}
      <div className="mt-4 flex items-center gap-2">
        <CopyButton label="Copy answer" text={answer} />
      </div>
    </section>
  );
}

/** Which of the citations hold; those that do not, each with its reason. */
function Checked({ citations }: { readonly citations: Citations }) {
  const counts = countsOf(citations);
  if (counts === undefined) return null;
  return (
    <div className="mt-4 text-sm text-muted" data-testid="citations">
      <p>{counts}</p>
      {citations.failing.length > 0 && (
        <ul className="mt-1 space-y-0.5 text-warn">
          {citations.failing.map(({ citation, reason }) => (
            <li key={citation} className="flex min-w-0 items-baseline gap-1.5">
              <Icon name="warning" className="shrink-0 self-center" />
              <span className="min-w-0 break-words">
                <code>{citation}</code>: {reason}
              </span>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

/** What the answer claims and the record does not bear out. */
function Faults({ faults }: { readonly faults: readonly string[] }) {
  return (
    <div className="mt-4 text-sm" data-testid="faults">
      <p className="text-muted">Not borne out by the record</p>
      <ul className="mt-1 space-y-0.5 text-warn">
        {faults.map((fault) => (
          <li key={fault} className="flex min-w-0 items-baseline gap-1.5">
            <Icon name="warning" className="shrink-0 self-center" />
            <span className="min-w-0 break-words">{fault}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}

/** Prompts that could come next. A click puts one below the thread, to be changed and sent. */
function Suggestions({ suggestions }: { readonly suggestions: readonly string[] }) {
  const { setPrompt } = useDraft();
  const choose = (suggestion: string) => {
    setPrompt(suggestion);
    document.querySelector<HTMLElement>('form[aria-label="Follow-up"] textarea')?.focus();
  };
  return (
    <fieldset className="mt-4 flex flex-wrap gap-2" data-testid="suggestions">
      <legend className="mb-1.5 text-sm text-muted">Ask next</legend>
      {suggestions.map((suggestion) => (
        <Button key={suggestion} type="button" onClick={() => choose(suggestion)} className="text-left">
          {suggestion}
        </Button>
      ))}
    </fieldset>
  );
}
