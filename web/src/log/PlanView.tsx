// The agent's plan, as it stands.
import { Icon, type IconName } from "../parts/Icon";
import type { PlanStep } from "./events";

const LOOKS: Readonly<Record<PlanStep["status"], { icon: IconName; colour: string; word: string }>> = {
  pending: { icon: "clock", colour: "text-muted", word: "to do" },
  in_progress: { icon: "running", colour: "text-busy", word: "under way" },
  completed: { icon: "check", colour: "text-good", word: "done" },
};

export function PlanView({ plan }: { readonly plan: readonly PlanStep[] }) {
  const done = plan.filter((step) => step.status === "completed").length;
  return (
    <details open className="card mb-3 px-4 py-2.5 text-sm">
      <summary className="font-medium">
        Plan{" "}
        <span className="font-normal text-muted">
          {done} of {plan.length} done
        </span>
      </summary>
      <ol className="mt-2 space-y-1">
        {plan.map((step, index) => {
          const look = LOOKS[step.status];
          return (
            // biome-ignore lint/suspicious/noArrayIndexKey: a step's place is what names it.
            <li key={index} className="flex gap-2">
              <Icon name={look.icon} className={`mt-1 ${look.colour}`} />
              <span className={step.status === "completed" ? "text-muted" : ""}>
                <span className="sr-only">{look.word}: </span>
                {step.step}
              </span>
            </li>
          );
        })}
      </ol>
    </details>
  );
}
