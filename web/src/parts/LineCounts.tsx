// How many lines come and go.
interface Props {
  readonly additions: number;
  readonly deletions: number;
}

export function LineCounts({ additions, deletions }: Props) {
  return (
    <span className="inline-flex gap-1.5 font-mono text-xs whitespace-nowrap tabular-nums">
      <span className="text-good">
        <span className="sr-only">lines added: </span>+{additions.toLocaleString("en")}
      </span>
      <span className="text-bad">
        <span className="sr-only">lines removed: </span>−{deletions.toLocaleString("en")}
      </span>
    </span>
  );
}
