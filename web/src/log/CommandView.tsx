// A command of the agent: what ran and how it ended, the last lines of what it printed, and all of it when opened.
import { memo, useId, useMemo, useState } from "react";
import { Icon } from "../parts/Icon";
import { duration } from "../parts/time";
import { parseAnsi } from "./ansi";
import type { CommandEnd } from "./events";
import type { CommandEntry } from "./log";

/** Lines of output that show while the command is folded. */
const PREVIEW_LINES = 4;
/** Lines that show at first when it is open. */
const OPEN_LINES = 500;

export function CommandView({ entry }: { readonly entry: CommandEntry }) {
  const [open, setOpen] = useState(false);
  const output = useId();
  return (
    <div className="overflow-hidden rounded-lg border border-line bg-sunken">
      <button
        type="button"
        aria-expanded={open}
        aria-controls={output}
        onClick={() => setOpen(!open)}
        className="flex w-full items-start gap-2 px-2.5 py-1.5 text-left hover:bg-accent-soft focus-visible:-outline-offset-2"
      >
        <Icon
          name="chevron"
          className={`mt-0.5 text-muted transition-transform ${open ? "rotate-90" : ""}`}
        />
        <code
          className={`min-w-0 flex-1 font-mono text-[0.8125rem] ${open ? "whitespace-pre-wrap" : "truncate"}`}
        >
          {entry.command === "" ? "(command)" : entry.command}
        </code>
        <EndBadge end={entry.end} />
        {/* Of what was cut off with its sandbox nobody knows how long it took. */}
        {entry.durationMs !== undefined && !(entry.end?.how === "interrupted" && entry.durationMs === 0) && (
          <span className="mt-px hidden text-xs text-muted tabular-nums sm:inline">
            {duration(entry.durationMs)}
          </span>
        )}
      </button>
      <div id={output}>{open ? <WholeOutput entry={entry} /> : <Preview entry={entry} />}</div>
    </div>
  );
}

function EndBadge({ end }: { readonly end: CommandEnd | undefined }) {
  const base = "mt-px rounded px-1.5 text-xs font-medium whitespace-nowrap";
  if (end === undefined) return <span className={`${base} breathe text-busy`}>running</span>;
  if (end.how === "exited" && end.code === 0) return <span className={`${base} text-good`}>exit 0</span>;
  const word = {
    exited: () => `exit ${end.how === "exited" ? end.code : ""}`,
    signalled: () => `signal ${end.how === "signalled" ? end.signal : ""}`,
    timed_out: () => "timed out",
    interrupted: () => "interrupted",
  }[end.how]();
  return <span className={`${base} bg-bad-soft text-bad`}>{word}</span>;
}

const PRE = "overflow-x-auto px-3 pb-2 font-mono text-xs leading-relaxed whitespace-pre-wrap";

function Preview({ entry }: { readonly entry: CommandEntry }) {
  const { head, tail } = entry.output;
  const text = tail === "" ? head : tail;
  // A page of text at most is looked at: the output may be long, and this runs for each piece of it.
  const lines = text.slice(-4096).trimEnd().split("\n").slice(-PREVIEW_LINES);
  const preview = lines.join("\n");
  return preview === "" ? null : (
    <pre className={`${PRE} text-muted`}>
      <Ansi text={preview} />
    </pre>
  );
}

function WholeOutput({ entry }: { readonly entry: CommandEntry }) {
  const [all, setAll] = useState(false);
  const { head, tail, omitted } = entry.output;
  const gap = omitted > 0 ? `\n[… ${omitted.toLocaleString("en")} characters are not shown …]\n` : "";
  const lines = (head + gap + tail).trimEnd().split("\n");
  const hidden = all ? 0 : Math.max(0, lines.length - OPEN_LINES);
  return (
    <>
      <p className="px-3 pb-1 text-xs text-muted">
        in <span className="font-mono">{entry.directory}</span>
        {entry.droppedBytes > 0 && ` · ${entry.droppedBytes.toLocaleString("en")} bytes were not kept`}
      </p>
      {hidden > 0 && (
        <button
          type="button"
          className="mx-3 mb-1 text-xs text-accent underline"
          onClick={() => setAll(true)}
        >
          Show {hidden.toLocaleString("en")} earlier lines
        </button>
      )}
      <pre className={PRE}>
        {lines.length === 1 && lines[0] === "" ? (
          <span className="text-muted">
            {entry.end === undefined ? "Nothing yet." : "It printed nothing."}
          </span>
        ) : (
          <Ansi text={lines.slice(hidden).join("\n")} />
        )}
      </pre>
    </>
  );
}

const Ansi = memo(function Ansi({ text }: { readonly text: string }) {
  const spans = useMemo(() => parseAnsi(text), [text]);
  return spans.map((span, index) =>
    span.classes === "" ? (
      span.text
    ) : (
      // biome-ignore lint/suspicious/noArrayIndexKey: spans have no name but their place.
      <span key={index} className={span.classes}>
        {span.text}
      </span>
    ),
  );
});
