// The diff of one file, as a table: one column under the other, or side by side.
//
// Ours, because the two ready-made viewers (@pierre/diffs 1.6.4 and @git-diff-view/react 0.1.7) put style attributes
// into HTML strings, which the service's CSP blocks: tried in Chromium, a one-line diff made 28 and 35 reports.
import { memo, useMemo, useState } from "react";
import { Button } from "../parts/Button";
import { Icon } from "../parts/Icon";
import { LineCounts } from "../parts/LineCounts";
import { Revealed } from "../parts/Revealed";
import { type Colours, coloursOf } from "./colour";
import type { FilePatch, Hunk, Line } from "./parse";
import { Runs } from "./Runs";
import { splitRows } from "./rows";

/** Where a file's diff is on the page. */
export function fileId(_path: string, index: number): string {
  return `file-${index}`;
}

interface Props {
  readonly id: string;
  readonly file: FilePatch;
  readonly split: boolean;
  readonly unfolded: boolean;
}

export const FileDiff = memo(function FileDiff({ id, file, split, unfolded }: Props) {
  const [open, setOpen] = useState(unfolded);
  return (
    <section id={id} aria-label={file.path} className="card scroll-mt-3 overflow-clip">
      <h3 className="sticky top-0 z-10 border-b border-line bg-surface">
        <button
          type="button"
          aria-expanded={open}
          onClick={() => setOpen(!open)}
          className="flex w-full items-center gap-2 px-3 py-2 text-left hover:bg-sunken focus-visible:-outline-offset-2"
        >
          <Icon name="chevron" className={`text-muted transition-transform ${open ? "rotate-90" : ""}`} />
          <span className="min-w-0 flex-1 font-mono text-[0.8125rem]">
            {file.oldPath !== undefined && (
              <span className="text-muted">
                <Revealed text={file.oldPath} /> →{" "}
              </span>
            )}
            <Revealed text={file.path} />
          </span>
          <span className="text-xs text-muted">{file.kind === "modified" ? "" : file.kind}</span>
          {!file.binary && <LineCounts additions={file.additions} deletions={file.deletions} />}
        </button>
      </h3>
      {open ? <Body file={file} split={split} /> : <Folded onOpen={() => setOpen(true)} file={file} />}
    </section>
  );
});

function Folded({ file, onOpen }: { readonly file: FilePatch; readonly onOpen: () => void }) {
  const lines = file.hunks.reduce((sum, hunk) => sum + hunk.lines.length, 0);
  return (
    <p className="px-4 py-3 text-sm text-muted">
      <Button onClick={onOpen}>Show {lines.toLocaleString("en")} lines</Button>
    </p>
  );
}

function Body({ file, split }: { readonly file: FilePatch; readonly split: boolean }) {
  const colours = useMemo(() => coloursOf(file), [file]);
  if (file.hunks.length === 0) {
    return (
      <p className="px-4 py-3 text-sm text-muted">
        {file.binary ? "A binary file: there is nothing to show." : "Its content did not change."}
        {file.modeChange !== undefined && ` Its mode changed: ${file.modeChange}.`}
      </p>
    );
  }
  return (
    <>
      {file.modeChange !== undefined && (
        <p className="px-4 py-1.5 text-xs text-muted">Its mode changed: {file.modeChange}.</p>
      )}
      <table className={split ? "diff diff-split" : "diff"}>
        <caption className="sr-only">Changes of {file.path}</caption>
        {split && (
          <colgroup>
            <col className="number" />
            <col />
            <col className="number" />
            <col />
          </colgroup>
        )}
        {file.hunks.map((hunk) => (
          <tbody key={`${hunk.oldStart},${hunk.newStart}`}>
            <tr>
              <th scope="rowgroup" colSpan={4} className="hunk">
                <span className="sr-only">Around line </span>@@ {hunk.newStart}{" "}
                <Revealed text={hunk.heading} />
              </th>
            </tr>
            {split ? (
              <SplitRows hunk={hunk} colours={colours} />
            ) : (
              <UnifiedRows hunk={hunk} colours={colours} />
            )}
          </tbody>
        ))}
      </table>
    </>
  );
}

interface RowsProps {
  readonly hunk: Hunk;
  readonly colours: Colours;
}

const SIGNS = { context: "", added: "+", removed: "−" } as const;
const SPOKEN = { context: "", added: "added: ", removed: "removed: " } as const;

function UnifiedRows({ hunk, colours }: RowsProps) {
  return hunk.lines.map((line) => (
    <tr key={`${line.oldNumber},${line.newNumber}`} className={line.kind}>
      <td className="number hidden sm:table-cell">{line.oldNumber}</td>
      <td className="number">{line.newNumber ?? <span className="sm:hidden">{line.oldNumber}</span>}</td>
      <td className="sign" aria-hidden="true">
        {SIGNS[line.kind]}
      </td>
      <td className="code">
        <Text line={line} colours={colours} />
      </td>
    </tr>
  ));
}

function SplitRows({ hunk, colours }: RowsProps) {
  return splitRows(hunk).map(({ left, right }) => (
    <tr key={`${left?.oldNumber},${right?.newNumber}`}>
      <td className={`number ${left?.kind ?? "absent"}`}>{left?.oldNumber}</td>
      <td className={`code ${left?.kind ?? "absent"}`}>
        {left !== undefined && <Text line={left} colours={colours} />}
      </td>
      <td className={`number ${right?.kind ?? "absent"}`}>{right?.newNumber}</td>
      <td className={`code ${right?.kind ?? "absent"}`}>
        {right !== undefined && <Text line={right} colours={colours} />}
      </td>
    </tr>
  ));
}

function Text({ line, colours }: { readonly line: Line; readonly colours: Colours }) {
  return (
    <>
      {line.kind !== "context" && <span className="sr-only">{SPOKEN[line.kind]}</span>}
      <Runs runs={colours.get(line) ?? [{ text: line.text, classes: "" }]} />
      {line.unterminated && (
        <span className="text-muted select-none" title="There is no newline at the end of the file">
          {" "}
          ⌁
        </span>
      )}
    </>
  );
}
