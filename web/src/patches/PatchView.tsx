// The changes of an attempt: the files, what one may do with the patch, and the diff of each file.
import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { patchPath, patchQuery } from "../api/queries";
import type { Patch } from "../api/types";
import { BUTTON } from "../parts/Button";
import { CopyButton } from "../parts/CopyButton";
import { Icon } from "../parts/Icon";
import { ProblemNotice } from "../parts/Notice";
import { Segmented } from "../parts/Segmented";
import { useMedia } from "../parts/useMedia";
import type { View } from "../tasks/view";
import { applyCommand } from "./command";
import { FileDiff, fileId } from "./FileDiff";
import { FileList } from "./FileList";
import { parsePatch } from "./parse";

/** Longer patches are downloaded, not shown. */
const SHOWN_BYTES = 5 * 1024 * 1024;
/** So many lines of diff are unfolded at once; the files after them start folded. */
const UNFOLDED_LINES = 3000;

interface Props {
  readonly attempt: string;
  readonly patch: Patch;
  readonly view: View;
  readonly onView: (view: View) => void;
}

export default function PatchView({ attempt, patch, view, onView }: Props) {
  const tooLong = patch.size_bytes > SHOWN_BYTES;
  const text = useQuery({ ...patchQuery(attempt), enabled: !tooLong });
  const wide = useMedia("(min-width: 48rem)");
  const layout = wide ? (view.layout ?? "unified") : "unified";
  return (
    <section aria-label="Changes" data-testid="changes">
      <div className="flex flex-wrap items-end gap-2">
        <Actions attempt={attempt} text={text.data} tooLong={tooLong} />
        {wide && !tooLong && (
          <div className="ml-auto">
            <Segmented
              legend="Layout"
              value={layout}
              onChange={(chosen) => onView({ layout: chosen })}
              options={[
                { value: "unified", label: "Unified" },
                { value: "split", label: "Side by side" },
              ]}
            />
          </div>
        )}
      </div>
      <FileList files={patch.files} />
      {tooLong && <TooLong bytes={patch.size_bytes} />}
      {text.error !== null && (
        <div className="mt-4">
          <ProblemNotice error={text.error} retry={() => void text.refetch()} />
        </div>
      )}
      {text.isLoading && <div role="status" aria-label="Loading the diff" className="skeleton mt-4 h-64" />}
      {text.data !== undefined && <Files text={text.data} split={layout === "split"} />}
    </section>
  );
}

function Files({ text, split }: { readonly text: string; readonly split: boolean }) {
  const files = useMemo(() => {
    let lines = 0;
    return parsePatch(text).map((file) => {
      lines += file.hunks.reduce((sum, hunk) => sum + hunk.lines.length, 0);
      return { file, unfolded: lines <= UNFOLDED_LINES };
    });
  }, [text]);
  return (
    <div className="mt-4 space-y-4">
      {files.map(({ file, unfolded }, index) => (
        <FileDiff
          key={fileId(file.path, index)}
          id={fileId(file.path, index)}
          file={file}
          split={split}
          unfolded={unfolded}
        />
      ))}
    </div>
  );
}

interface ActionsProps {
  readonly attempt: string;
  readonly text: string | undefined;
  readonly tooLong: boolean;
}

function Actions({ attempt, text, tooLong }: ActionsProps) {
  const unusable =
    text !== undefined
      ? undefined
      : tooLong
        ? "The patch is too long to copy; download it"
        : "The patch is on its way";
  const command = useMemo(() => (text === undefined ? "" : applyCommand(text)), [text]);
  return (
    <div className="flex flex-wrap gap-2">
      <CopyButton label="Copy patch" text={text ?? ""} unusable={unusable} />
      <CopyButton label="Copy git apply" text={command} unusable={unusable} />
      <a
        href={patchPath(attempt)}
        download={`carrel-${attempt.slice(0, 8)}.patch`}
        className={`${BUTTON} border-line bg-surface hover:border-strong-line`}
      >
        <Icon name="download" /> Download
      </a>
    </div>
  );
}

function TooLong({ bytes }: { readonly bytes: number }) {
  return (
    <p className="card mt-4 px-4 py-8 text-center text-muted">
      The patch has {(bytes / 1024 / 1024).toFixed(1)} MB: too long to show here. Download it to read it.
    </p>
  );
}
