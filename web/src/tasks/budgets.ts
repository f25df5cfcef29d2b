// Which budgets somebody should know about who is about to delegate something.
import type { Budget } from "../api/types";

/** Those that what this person asks for counts against, and that have something to say; the worst first. */
export function noticesFor(budgets: readonly Budget[], person: string): Budget[] {
  const counts = ({ id, owner }: Budget) => owner === "organization" || id === person;
  const told = budgets.filter((budget) => counts(budget) && budget.notice != null);
  return told.sort((one, other) => Number(other.level === "exhausted") - Number(one.level === "exhausted"));
}
