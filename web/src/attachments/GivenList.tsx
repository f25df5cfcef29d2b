// What was given with a turn's prompt, to look at and to save.
import { attachmentPath } from "../api/queries";
import type { Attachment } from "../api/types";
import { Icon } from "../parts/Icon";
import { fileSize } from "../parts/size";

export function GivenList({ attachments }: { readonly attachments: readonly Attachment[] }) {
  if (attachments.length === 0) return null;
  return (
    <ul aria-label="Given files" className="mt-2 flex flex-wrap gap-2">
      {attachments.map((given) => (
        <li key={given.id} className="min-w-0 max-w-60">
          <a
            href={attachmentPath(given.id)}
            download={given.name}
            className="flex items-center gap-2 rounded-lg border border-line bg-surface px-2 py-1 text-xs hover:border-accent"
          >
            {given.media_type == null ? (
              <Icon name="file" className="text-accent" />
            ) : (
              <img
                src={attachmentPath(given.id)}
                alt=""
                loading="lazy"
                className="size-8 rounded object-cover"
              />
            )}
            <span className="min-w-0 truncate font-mono" title={given.name}>
              {given.name}
            </span>
            <span className="whitespace-nowrap text-muted">{fileSize(given.size_bytes)}</span>
          </a>
        </li>
      ))}
    </ul>
  );
}
