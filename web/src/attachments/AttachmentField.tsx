// What goes along with a prompt, with previews; chosen here, or dropped and pasted anywhere in the form.
import { useId, useRef } from "react";
import { attachmentPath } from "../api/queries";
import { BUTTON } from "../parts/Button";
import { Icon } from "../parts/Icon";
import { FieldProblem } from "../parts/PromptBox";
import { fileSize } from "../parts/size";
import { type Attachments, type Chosen, isPatch } from "./useAttachments";

interface Props {
  readonly attachments: Attachments;
  readonly error: string | undefined;
  /** Whether a task can start from a patch among them. */
  readonly canStart?: boolean;
}

export function AttachmentField({ attachments, error, canStart = false }: Props) {
  const id = useId();
  const input = useRef<HTMLInputElement>(null);
  const remove = (key: number) => {
    attachments.remove(key);
    // The button that was pressed is gone: the next one to press is the one that adds.
    input.current?.focus();
  };
  return (
    <div className="flex flex-wrap items-center gap-2">
      <label
        htmlFor={id}
        className={`${BUTTON} relative cursor-pointer border-line bg-surface hover:border-strong-line has-focus-visible:outline-2 has-focus-visible:outline-accent`}
      >
        <Icon name="file" />
        Attach files
        <input
          ref={input}
          id={id}
          name="attachments"
          type="file"
          multiple
          className="sr-only"
          onChange={(event) => {
            attachments.add([...(event.target.files ?? [])]);
            // So that the same file can be chosen again.
            event.target.value = "";
          }}
        />
      </label>
      {attachments.chosen.length > 0 && (
        <ul aria-label="Files to go along" className="flex min-w-0 flex-wrap gap-2">
          {attachments.chosen.map((chosen) => (
            <Preview
              key={chosen.key}
              chosen={chosen}
              onRemove={() => remove(chosen.key)}
              onStart={canStart && isPatch(chosen.name) ? () => attachments.startFrom(chosen.key) : undefined}
            />
          ))}
        </ul>
      )}
      <FieldProblem id={`${id}-error`} message={error} />
    </div>
  );
}

interface PreviewProps {
  readonly chosen: Chosen;
  readonly onRemove: () => void;
  /** Has the task start from it, or no longer; undefined when it cannot. */
  readonly onStart: (() => void) | undefined;
}

function Preview({ chosen, onRemove, onStart }: PreviewProps) {
  const { attachment, problem } = chosen;
  const name = attachment?.name ?? chosen.name;
  return (
    <li className="flex max-w-72 items-center gap-2 rounded-lg border border-line py-1 pr-1 pl-2 text-xs">
      {attachment?.media_type != null && (
        <img src={attachmentPath(attachment.id)} alt="" className="size-8 rounded object-cover" />
      )}
      <span className="min-w-0">
        <span className="block truncate font-mono" title={name}>
          {name}
        </span>
        <span className={problem === undefined ? "text-muted" : "text-bad"} role={problem && "alert"}>
          {problem ?? (attachment === undefined ? "Uploading…" : fileSize(chosen.sizeBytes))}
        </span>
      </span>
      {onStart !== undefined && (
        <label
          className="flex min-h-8 cursor-pointer items-center gap-1.5 whitespace-nowrap"
          title="Put it onto the commit before the agent begins"
        >
          <input type="checkbox" checked={chosen.isStart ?? false} onChange={onStart} />
          Start from this
        </label>
      )}
      <button
        type="button"
        aria-label={`Remove ${name}`}
        onClick={onRemove}
        className="inline-flex size-8 items-center justify-center rounded text-muted hover:text-bad"
      >
        <Icon name="cross" />
      </button>
    </li>
  );
}
