// Where an attempt's patch was pushed to, or is on its way to.
import type { Publication } from "../api/types";
import { StateBadge } from "../tasks/state";

export function PublicationList({ publications }: { readonly publications: readonly Publication[] }) {
  if (publications.length === 0) return null;
  return (
    <ul aria-label="Pushes" className="mt-3 space-y-1.5" data-testid="publications">
      {publications.map((publication) => (
        <li
          key={publication.id}
          className="card flex flex-wrap items-center gap-x-3 gap-y-0.5 px-3 py-2 text-sm"
        >
          <StateBadge state={publication.state} />
          <span className="font-mono text-xs">{publication.branch}</span>
          {publication.commit != null && (
            <span className="font-mono text-xs text-muted" title={publication.commit}>
              {publication.commit.slice(0, 10)}
            </span>
          )}
          {publication.failure != null && (
            <p className="w-full text-sm whitespace-pre-wrap text-bad">{publication.failure.reason}</p>
          )}
        </li>
      ))}
    </ul>
  );
}
