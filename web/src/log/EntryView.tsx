// One entry of a log.
import { lazy, memo, Suspense } from "react";
import { AllowHost } from "../environments/AllowHost";
import { Icon } from "../parts/Icon";
import { LineCounts } from "../parts/LineCounts";
import { fileSize } from "../parts/size";
import { duration } from "../parts/time";
import { CommandView } from "./CommandView";
import type { Entry } from "./log";

const Prose = lazy(() => import("../answer/Prose"));

interface Props {
  readonly entry: Entry;
  /** The name of the attempt's environment. */
  readonly environment: string;
}

export const EntryView = memo(function EntryView({ entry, environment }: Props) {
  return (
    <div className="log-entry px-4 py-1.5 text-sm" data-entry={entry.is}>
      <Content entry={entry} environment={environment} />
    </div>
  );
});

function Content({ entry, environment }: Props) {
  switch (entry.is) {
    case "command":
      return <CommandView entry={entry} />;
    case "message":
      return (
        // The text itself stands in until its markdown can be shown.
        <Suspense fallback={<p className="max-w-prose whitespace-pre-wrap">{entry.text}</p>}>
          <Prose text={entry.text} />
        </Suspense>
      );
    case "said":
      return (
        <div className="max-w-prose rounded-lg bg-accent-soft px-3 py-2">
          <p className="text-xs text-muted">
            <span className="font-medium">You</span> ·{" "}
            {entry.heard ? "the agent was told" : "waits for the agent"}
          </p>
          <p className="mt-0.5 whitespace-pre-wrap">{entry.text}</p>
        </div>
      );
    case "reasoning":
      return (
        <p className="max-w-prose border-l-2 border-line pl-3 whitespace-pre-wrap text-muted">
          <span className="sr-only">Reasoning: </span>
          {entry.text.replace(/^\*\*(.+?)\*\*/, "$1")}
        </p>
      );
    case "note":
      return <Note tone={entry.tone} text={entry.text} durationMs={entry.durationMs} />;
    case "blocked":
      return (
        <>
          <Note tone="refused" text={entry.text} durationMs={undefined} />
          <AllowHost allow={entry.allow} environment={environment} />
        </>
      );
    case "patch":
      return <Files entry={entry} />;
    case "artifact":
      return <Attached entry={entry} />;
  }
}

const TONES = {
  step: { icon: "check", colour: "text-muted" },
  warning: { icon: "warning", colour: "text-warn" },
  refused: { icon: "warning", colour: "text-warn" },
  failed: { icon: "warning", colour: "text-bad" },
} as const;

function Note({
  tone,
  text,
  durationMs,
}: Pick<Extract<Entry, { is: "note" }>, "tone" | "text" | "durationMs">) {
  const { icon, colour } = TONES[tone];
  return (
    <p className={`flex gap-2 ${colour}`}>
      <Icon name={icon} className="mt-1" />
      <span className="min-w-0 flex-1 whitespace-pre-wrap">{text}</span>
      {durationMs !== undefined && (
        <span className="text-xs whitespace-nowrap tabular-nums">{duration(durationMs)}</span>
      )}
    </p>
  );
}

function Attached({ entry }: { readonly entry: Extract<Entry, { is: "artifact" }> }) {
  return (
    <p className="flex items-baseline gap-2">
      <Icon name="file" className="self-center text-accent" />
      <span className="min-w-0">
        Attached <span className="font-mono text-xs">{entry.name}</span>{" "}
        <span className="text-muted">
          ({fileSize(entry.sizeBytes)}){entry.description !== undefined && `: ${entry.description}`}
        </span>
      </span>
    </p>
  );
}

const SIGNS = { added: "A", modified: "M", deleted: "D", renamed: "R" } as const;

function Files({ entry }: { readonly entry: Extract<Entry, { is: "patch" }> }) {
  return (
    <ul aria-label="Changed files" className="space-y-0.5">
      {entry.files.map((file) => (
        <li key={file.path} className="flex items-baseline gap-2">
          <Icon name="file" className="self-center text-accent" />
          <span className="font-mono text-xs" title={file.kind}>
            <span className="text-muted">{SIGNS[file.kind]}</span> {file.path}
          </span>
          {!file.binary && <LineCounts additions={file.additions} deletions={file.deletions} />}
        </li>
      ))}
    </ul>
  );
}
