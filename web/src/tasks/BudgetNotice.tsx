// Says, where tasks are created, that a budget is nearly used up, or used up.
import { useQuery } from "@tanstack/react-query";
import { budgetsQuery } from "../api/queries";
import type { Me } from "../api/types";
import { Icon } from "../parts/Icon";
import { noticesFor } from "./budgets";

export function BudgetNotice({ me }: { readonly me: Me }) {
  // Without an answer nothing is said: the service refuses by itself what may not be.
  const budgets = useQuery(budgetsQuery).data?.items ?? [];
  return noticesFor(budgets, me.user.id).map((budget) => (
    <div
      key={budget.id}
      role="status"
      data-testid="budget"
      className={`flex gap-2 rounded-lg px-3 py-2.5 text-sm ${budget.level === "exhausted" ? "bg-bad-soft" : "bg-warn-soft"}`}
    >
      <Icon name="warning" className={`mt-0.5 ${budget.level === "exhausted" ? "text-bad" : "text-warn"}`} />
      <p className="min-w-0 break-words first-letter:uppercase">{budget.notice}</p>
    </div>
  ));
}
