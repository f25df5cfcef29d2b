// What an environment says, as lists of facts.
import { type ReactNode, useId } from "react";
import type { Environment } from "../api/types";
import { Revealed } from "../parts/Revealed";

interface FactsProps {
  readonly title: string;
  readonly children: ReactNode;
}

export function Facts({ title, children }: FactsProps) {
  const id = useId();
  return (
    <section aria-labelledby={id} className="card p-4">
      <h2 id={id} className="font-serif text-lg">
        {title}
      </h2>
      <dl className="mt-2 space-y-2 text-sm">{children}</dl>
    </section>
  );
}

interface FactProps {
  readonly term: string;
  readonly children: ReactNode;
}

export function Fact({ term, children }: FactProps) {
  return (
    <div className="grid gap-x-4 sm:grid-cols-[9rem_1fr]">
      <dt className="text-muted">{term}</dt>
      <dd className="min-w-0">{children}</dd>
    </div>
  );
}

export function SetupText({ setup }: { readonly setup: Environment["setup"] }) {
  if (setup == null) return "what the repository says, or else automatic";
  switch (setup.kind) {
    case "nothing":
      return "nothing";
    case "automatic":
      return "automatic: what the repository’s lock files call for";
    case "script":
      return <Script text={setup.script} none="" />;
  }
}

/** Longer scripts are folded. */
const FOLD_LINES = 12;

export function Script({ text, none }: { readonly text: string | null | undefined; readonly none: string }) {
  if (text == null) return none;
  const lines = text.trimEnd().split("\n").length;
  const whole = (
    <pre
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard.
      tabIndex={0}
      className="mt-1 max-h-96 overflow-auto rounded-lg bg-sunken px-3 py-2 font-mono text-xs whitespace-pre-wrap"
    >
      <Revealed text={text.trimEnd()} />
    </pre>
  );
  if (lines <= FOLD_LINES) return whole;
  return (
    <details>
      <summary className="text-accent">a script of {lines.toLocaleString("en")} lines</summary>
      {whole}
    </details>
  );
}

export function Variables({ variables }: { readonly variables: Environment["variables"] }) {
  const all = Object.entries(variables);
  if (all.length === 0) return "none";
  return (
    <ul className="space-y-1 font-mono text-xs leading-6">
      {all.map(([name, value]) => (
        <li key={name} className="max-h-48 overflow-y-auto whitespace-pre-wrap">
          <span className="text-muted">{name}=</span>
          <Revealed text={value} />
        </li>
      ))}
    </ul>
  );
}

export function Secrets({ secrets }: { readonly secrets: Environment["secrets"] }) {
  if (secrets.length === 0) return "none";
  return (
    <ul className="space-y-1">
      {secrets.map((secret) => (
        <li key={secret.name}>
          <span className="font-mono text-xs">{secret.name}</span>{" "}
          <span className="text-muted">
            {secret.kind === "setup" ? "for setup alone" : `sent to ${secret.hosts.join(", ")} alone`},{" "}
            {secret.updated_at == null ? (
              <span className="text-bad">its value is gone: give it again</span>
            ) : (
              <>
                given <time dateTime={secret.updated_at}>{secret.updated_at.slice(0, 10)}</time>
              </>
            )}
          </span>
        </li>
      ))}
    </ul>
  );
}
