// The attempts of a turn side by side, once all have ended, and which of them to look at first.
import type { Attempt, Turn } from "../api/types";
import { duration } from "../parts/time";
import { wordOf } from "../tasks/state";

interface Props {
  readonly turn: Turn;
  readonly onOpen: (id: string) => void;
}

export function Comparison({ turn, onOpen }: Props) {
  const comparison = turn.comparison;
  if (comparison == null) return null;
  const suggested = turn.attempts.find((attempt) => attempt.id === comparison.suggested_attempt_id);
  return (
    <section aria-label="Comparison" className="mt-4 rounded-lg border border-line bg-surface p-3 text-sm">
      <p>
        {suggested === undefined ? (
          comparison.reason
        ) : (
          <>
            Look at{" "}
            <button type="button" className="text-accent underline" onClick={() => onOpen(suggested.id)}>
              attempt {suggested.number}
            </button>{" "}
            first: {comparison.reason}.
          </>
        )}
      </p>
      {/* A region that scrolls by itself can be reached by keyboard, and a phone need not show all columns at once. */}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls */}
      <section aria-label="Attempts compared" tabIndex={0} className="scroll-edges mt-2 overflow-x-auto">
        <table className="w-full text-left tabular-nums">
          <thead className="text-xs text-muted">
            <tr>
              {["Attempt", "State", "Changes", "Commands", "Tests", "Tokens", "Time"].map((name) => (
                <th key={name} scope="col" className="py-1 pr-4 font-medium whitespace-nowrap">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {turn.attempts.map((attempt) => (
              <Row key={attempt.id} attempt={attempt} />
            ))}
          </tbody>
        </table>
      </section>
    </section>
  );
}

function Row({ attempt }: { readonly attempt: Attempt }) {
  const result = attempt.result;
  const cells = [
    wordOf(attempt.state),
    result?.patch ? `+${result.patch.additions} −${result.patch.deletions}` : "–",
    result ? String(result.work?.commands ?? 0) : "–",
    testsOf(attempt),
    (attempt.usage.input_tokens + attempt.usage.output_tokens).toLocaleString("en"),
    timeOf(attempt),
  ];
  return (
    <tr className="border-t border-line">
      <th scope="row" className="py-1 pr-4 font-normal">
        {attempt.number}
      </th>
      {cells.map((cell, column) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: columns keep their places
        <td key={column} className="py-1 pr-4 whitespace-nowrap">
          {cell}
        </td>
      ))}
    </tr>
  );
}

/** How many of its test commands ended well the last time. */
function testsOf(attempt: Attempt): string {
  if (attempt.result == null) return "–";
  const tests = attempt.result.work?.tests ?? [];
  if (tests.length === 0) return "none";
  return `${tests.filter((test) => test.passed).length} of ${tests.length} passed`;
}

function timeOf(attempt: Attempt): string {
  if (attempt.started_at == null || attempt.ended_at == null) return "–";
  return duration(Date.parse(attempt.ended_at) - Date.parse(attempt.started_at));
}
