// The files an attempt's agent attached, to save; pictures are shown. What is a picture, the service says by its content.
import { useQuery } from "@tanstack/react-query";
import { artifactPath, artifactsQuery } from "../api/queries";
import type { Artifact, Attempt } from "../api/types";
import { Icon } from "../parts/Icon";
import { ProblemNotice } from "../parts/Notice";
import { fileSize } from "../parts/size";

interface Props {
  readonly attempt: Attempt;
  /** How often the log says that a file was attached. */
  readonly attached: number;
}

export function ArtifactList({ attempt, attached }: Props) {
  const artifacts = useQuery({ ...artifactsQuery(attempt.id, attached), enabled: attached > 0 });
  if (attached === 0) return null;
  if (artifacts.error !== null && artifacts.data === undefined) {
    return <ProblemNotice error={artifacts.error} retry={() => void artifacts.refetch()} />;
  }
  return (
    <ul aria-label="Attached files" className="mt-3 flex flex-wrap gap-3">
      {artifacts.data?.items.map((artifact) => (
        <li key={artifact.name} className="min-w-0 max-w-60">
          <File attempt={attempt.id} artifact={artifact} />
        </li>
      ))}
    </ul>
  );
}

function File({ attempt, artifact }: { readonly attempt: string; readonly artifact: Artifact }) {
  const path = artifactPath(attempt, artifact.name);
  return (
    <a
      href={path}
      download={artifact.name}
      className="block rounded-lg border border-line p-2 text-xs hover:border-accent"
    >
      {artifact.media_type.startsWith("image/") && (
        <img
          src={path}
          alt={`Attached: ${artifact.name}`}
          loading="lazy"
          className="mb-2 max-h-40 w-full rounded object-contain"
        />
      )}
      <span className="flex items-center gap-2">
        <Icon name="download" className="text-accent" />
        <span className="min-w-0 truncate font-mono" title={artifact.name}>
          {artifact.name}
        </span>
        <span className="whitespace-nowrap text-muted">{fileSize(artifact.size_bytes)}</span>
      </span>
    </a>
  );
}
