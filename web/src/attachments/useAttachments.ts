// The files that are to go along with a prompt: each is uploaded as soon as it is chosen, dropped or pasted.
import { type ClipboardEvent, type DragEvent, useCallback, useRef, useState } from "react";
import { asProblem } from "../api/problem";
import { uploadAttachment } from "../api/queries";
import type { Attachment } from "../api/types";

/** What the service takes. */
export const MAX_FILES = 20;
export const MAX_BYTES = 20 * 1024 * 1024;

export interface Chosen {
  readonly key: number;
  readonly name: string;
  readonly sizeBytes: number;
  /** Once it is uploaded. */
  readonly attachment?: Attachment;
  /** Why it cannot go along. */
  readonly problem?: string;
  /** Whether the task is to start from it: it is a patch. */
  readonly isStart?: boolean;
}

export interface Attachments {
  readonly chosen: readonly Chosen[];
  readonly add: (files: Iterable<File>) => void;
  readonly remove: (key: number) => void;
  readonly clear: () => void;
  /** Has the task start from this patch, or from none. */
  readonly startFrom: (key: number | undefined) => void;
  /** What a request takes: empty when there is nothing to take. */
  readonly fields: { attachments?: string[] };
  /** What the request of a new task takes beside that. */
  readonly startFields: { local_changes?: string };
  /** Why nothing can be sent yet; undefined when it can. */
  readonly unusable: string | undefined;
  /** For the form around it: files are dropped and pasted anywhere in it. */
  readonly handlers: {
    onPaste: (event: ClipboardEvent) => void;
    onDragOver: (event: DragEvent) => void;
    onDrop: (event: DragEvent) => void;
  };
}

export function useAttachments(): Attachments {
  const [chosen, setChosen] = useState<readonly Chosen[]>([]);
  const next = useRef(0);
  const add = useCallback((files: Iterable<File>) => {
    for (const file of files) {
      const key = next.current++;
      const problem = file.size > MAX_BYTES ? "It is larger than 20 MiB" : undefined;
      const entry = { key, name: file.name, sizeBytes: file.size, ...(problem && { problem }) };
      setChosen((before) => [...before, entry]);
      if (problem === undefined) {
        const settle = (part: Partial<Chosen>) =>
          setChosen((before) => before.map((each) => (each.key === key ? { ...each, ...part } : each)));
        uploadAttachment(file).then(
          (attachment) => settle({ attachment }),
          (thrown) => settle({ problem: asProblem(thrown).message }),
        );
      }
    }
  }, []);
  const ids = chosen.flatMap(({ attachment }) => (attachment === undefined ? [] : [attachment.id]));
  return {
    chosen,
    add,
    remove: (key) => setChosen((before) => before.filter((each) => each.key !== key)),
    clear: () => setChosen([]),
    startFrom: (key) =>
      setChosen((before) => before.map((each) => ({ ...each, isStart: each.key === key && !each.isStart }))),
    fields: ids.length === 0 ? {} : { attachments: ids },
    startFields: startFields(chosen),
    unusable: whyUnusable(chosen),
    handlers: {
      onPaste: (event) => take(event, event.clipboardData, add),
      onDragOver: (event) => {
        if (event.dataTransfer.types.includes("Files")) event.preventDefault();
      },
      onDrop: (event) => take(event, event.dataTransfer, add),
    },
  };
}

function take(event: ClipboardEvent | DragEvent, data: DataTransfer, add: (files: Iterable<File>) => void) {
  // Pasted text stays text.
  if (data.files.length === 0) return;
  event.preventDefault();
  add([...data.files]);
}

/** Whether a file is called as patches are. */
export function isPatch(name: string): boolean {
  return /\.(diff|patch)$/i.test(name);
}

/** What has a task start from a patch among these. */
export function startFields(chosen: readonly Chosen[]): { local_changes?: string } {
  const start = chosen.find(({ isStart }) => isStart)?.attachment;
  return start === undefined ? {} : { local_changes: start.id };
}

/** Why nothing can be sent as long as these are chosen; undefined when it can. */
export function whyUnusable(chosen: readonly Chosen[]): string | undefined {
  if (chosen.some(({ problem }) => problem !== undefined))
    return "Remove the file that cannot go along first";
  if (chosen.length > MAX_FILES) return `${MAX_FILES} files go along at most`;
  if (chosen.some(({ attachment }) => attachment === undefined)) return "Files are being uploaded";
  return undefined;
}
