// How far a push has come: requested, committed, pushed; or the failure in its own words.
import type { Publication } from "../api/types";
import { Icon } from "../parts/Icon";

const STEPS = ["requested", "committed", "pushed"] as const;

export function Progress({ publication }: { readonly publication: Publication }) {
  if (publication.state === "failed") {
    return (
      <div
        role="alert"
        className="flex gap-2 rounded-lg border border-bad/40 bg-bad-soft px-3 py-2.5 text-sm"
      >
        <Icon name="warning" className="mt-0.5 text-bad" />
        <div className="min-w-0">
          <p className="font-medium">It could not be pushed</p>
          <p className="mt-0.5 font-mono text-xs whitespace-pre-wrap">{publication.failure?.reason}</p>
        </div>
      </div>
    );
  }
  const reached = STEPS.indexOf(publication.state);
  return (
    <div role="status" className="rounded-lg bg-sunken px-3 py-2.5 text-sm">
      <ol className="flex flex-wrap gap-x-5 gap-y-1">
        {STEPS.map((step, index) => (
          <li
            key={step}
            className={`flex items-center gap-1.5 ${index <= reached ? "text-good" : "text-muted"}`}
            aria-current={index === reached ? "step" : undefined}
          >
            <Icon name={index <= reached ? "check" : "clock"} />
            {step === "requested" ? "Requested" : step === "committed" ? "Committed" : "Pushed"}
          </li>
        ))}
      </ol>
      {publication.state === "pushed" && (
        <p className="mt-1.5">
          <span className="font-mono text-xs">{publication.branch}</span> is at{" "}
          <span className="font-mono text-xs" title={publication.commit ?? ""}>
            {publication.commit?.slice(0, 10)}
          </span>
        </p>
      )}
    </div>
  );
}
