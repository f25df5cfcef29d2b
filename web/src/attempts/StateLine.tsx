// Where an attempt stands, for how long, and what it used.
import { Link } from "@tanstack/react-router";
import type { Attempt } from "../api/types";
import { duration, elapsed, useNow } from "../parts/time";
import { costOf } from "../tasks/models";
import { hasEnded, StateBadge } from "../tasks/state";

interface Props {
  readonly attempt: Attempt;
  /** Whether the state's word stands nearby already. */
  readonly worded: boolean;
}

export function StateLine({ attempt, worded }: Props) {
  const stopping = attempt.cancel_requested && !hasEnded(attempt.state);
  const tokens = attempt.usage.input_tokens + attempt.usage.output_tokens;
  const isEstimated = (attempt.usage.estimated_requests ?? 0) > 0;
  const cost = costOf(attempt.usage.cost_usd_micros);
  return (
    <p className="flex min-w-0 flex-wrap items-center gap-x-3 gap-y-0.5 text-xs text-muted">
      {stopping && <StateBadge state={attempt.state} word="Stopping…" />}
      {!stopping && !worded && <StateBadge state={attempt.state} />}
      <Elapsed attempt={attempt} />
      <span className="font-mono">
        {attempt.model}
        {attempt.effort != null && ` (${attempt.effort})`}
        {attempt.agent !== undefined && attempt.agent !== "carrel" && ` by ${attempt.agent}`}
      </span>
      {tokens > 0 && (
        <span className="tabular-nums">
          {isEstimated && "about "}
          {tokens.toLocaleString("en")} tokens{cost !== undefined && `, ${cost}`}
        </span>
      )}
      <Link
        to="/environments/$name"
        params={{ name: attempt.environment.name }}
        title={`image ${attempt.environment.image ?? "as the repository says"}`}
        className="rounded hover:text-accent hover:underline"
      >
        <span className="sr-only">Environment </span>
        {attempt.environment.name} v{attempt.environment.version}
      </Link>
    </p>
  );
}

function Elapsed({ attempt }: { readonly attempt: Attempt }) {
  const now = useNow(hasEnded(attempt.state) ? 3_600_000 : 1000);
  if (attempt.started_at == null) return null;
  const end = attempt.ended_at == null ? now : Date.parse(attempt.ended_at);
  // The clocks of the two machines may differ a little: `elapsed` and `duration` take that for nothing.
  const ms = end - Date.parse(attempt.started_at);
  return <span className="tabular-nums">{hasEnded(attempt.state) ? duration(ms) : elapsed(ms)}</span>;
}
