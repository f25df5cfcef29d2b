import { expect, test } from "vitest";
import type { Budget } from "../api/types";
import { noticesFor } from "./budgets";

function budget(id: string, part: Partial<Budget>): Budget {
  return {
    id,
    owner: "person",
    name: "Ada",
    month: "2026-11",
    resets_at: "2026-12-01T00:00:00Z",
    tokens: 100,
    tokens_used: 80,
    cost_usd_micros: null,
    cost_usd_micros_used: 0,
    level: "near",
    notice: "nearly used up",
    ...part,
  };
}

test("the_budgets_of_others_and_those_with_enough_left_are_not_spoken_of", () => {
  const all = [
    budget("o", { owner: "organization", level: "fine", notice: null }),
    budget("ada", {}),
    budget("bob", {}),
  ];

  expect(noticesFor(all, "ada").map(({ id }) => id)).toEqual(["ada"]);
});

test("what_is_used_up_is_said_first", () => {
  const all = [budget("o", { owner: "organization" }), budget("ada", { level: "exhausted" })];

  expect(noticesFor(all, "ada").map(({ id }) => id)).toEqual(["ada", "o"]);
});
