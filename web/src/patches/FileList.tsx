// The files of a patch, each a way to its diff.
import type { PatchFile } from "../api/types";
import { LineCounts } from "../parts/LineCounts";
import { Revealed } from "../parts/Revealed";
import { fileId } from "./FileDiff";

const SIGNS = { added: "A", modified: "M", deleted: "D", renamed: "R" } as const;

export function FileList({ files }: { readonly files: readonly PatchFile[] }) {
  const go = (path: string, index: number) => {
    const head = document.getElementById(fileId(path, index));
    head?.scrollIntoView({ block: "start" });
    head?.querySelector("button")?.focus({ preventScroll: true });
  };
  return (
    <details open={files.length <= 12} className="card mt-3 px-4 py-2.5 text-sm">
      <summary className="font-medium">
        {files.length === 1 ? "1 file" : `${files.length.toLocaleString("en")} files`}
      </summary>
      <ul className="mt-1.5 max-h-72 overflow-y-auto">
        {files.map((file, index) => (
          <li key={file.path}>
            <button
              type="button"
              onClick={() => go(file.path, index)}
              className="flex w-full items-baseline gap-2 rounded px-1 py-0.5 text-left font-mono text-xs hover:bg-accent-soft focus-visible:-outline-offset-2"
            >
              <span className="text-muted" title={file.kind}>
                {SIGNS[file.kind]}
                <span className="sr-only"> {file.kind}</span>
              </span>
              <span className="min-w-0 flex-1">
                {file.old_path != null && (
                  <span className="text-muted">
                    <Revealed text={file.old_path} /> →{" "}
                  </span>
                )}
                <Revealed text={file.path} />
              </span>
              {file.binary ? (
                <span className="text-muted">binary</span>
              ) : (
                <LineCounts additions={file.additions} deletions={file.deletions} />
              )}
            </button>
          </li>
        ))}
      </ul>
    </details>
  );
}
