// One entry of a log.
import { lazy, memo, Suspense } from "react";
import { Icon } from "../parts/Icon";
import { LineCounts } from "../parts/LineCounts";
import { duration } from "../parts/time";
import { CommandView } from "./CommandView";
import type { Entry } from "./log";

const Prose = lazy(() => import("../answer/Prose"));

export const EntryView = memo(function EntryView({ entry }: { readonly entry: Entry }) {
  return (
    <div className="log-entry px-4 py-1.5 text-sm" data-entry={entry.is}>
      <Content entry={entry} />
    </div>
  );
});

function Content({ entry }: { readonly entry: Entry }) {
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
    case "reasoning":
      return (
        <p className="max-w-prose border-l-2 border-line pl-3 whitespace-pre-wrap text-muted">
          <span className="sr-only">Reasoning: </span>
          {entry.text.replace(/^\*\*(.+?)\*\*/, "$1")}
        </p>
      );
    case "note":
      return <Note entry={entry} />;
    case "patch":
      return <Files entry={entry} />;
  }
}

const TONES = {
  step: { icon: "check", colour: "text-muted" },
  warning: { icon: "warning", colour: "text-warn" },
  refused: { icon: "warning", colour: "text-warn" },
  failed: { icon: "warning", colour: "text-bad" },
} as const;

function Note({ entry }: { readonly entry: Extract<Entry, { is: "note" }> }) {
  const tone = TONES[entry.tone];
  return (
    <p className={`flex gap-2 ${tone.colour}`}>
      <Icon name={tone.icon} className="mt-1" />
      <span className="min-w-0 flex-1 whitespace-pre-wrap">{entry.text}</span>
      {entry.durationMs !== undefined && (
        <span className="text-xs whitespace-nowrap tabular-nums">{duration(entry.durationMs)}</span>
      )}
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
