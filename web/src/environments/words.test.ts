import { expect, test } from "vitest";
import type { NetworkPolicy } from "../api/types";
import { allows, limitRows, networkSummary, size, span } from "./words";

function policy(internet: NetworkPolicy["internet"], ...domains: string[]): NetworkPolicy {
  return { internet, domains, methods: "all" };
}

test("rules_match_whole_labels_as_the_service_matches_them", () => {
  const rules = ["example.com", "*.example.com", ".example.com"];

  const matched = (host: string) => rules.map((rule) => allows(policy("off", rule), host));

  expect(matched("example.com")).toEqual([true, false, true]);
  expect(matched("a.example.com")).toEqual([false, true, true]);
  expect(matched("a.b.example.com")).toEqual([false, true, true]);
  expect(matched("badexample.com")).toEqual([false, false, false]);
  expect(matched("example.com.evil.org")).toEqual([false, false, false]);
});

test("what_a_preset_allows_is_not_guessed_but_for_everything", () => {
  const presets = (["off", "packages", "common", "all"] as const).map((internet) =>
    allows(policy(internet), "pypi.org"),
  );

  expect(presets).toEqual([false, false, false, true]);
});

test("a_policy_is_said_in_a_few_words", () => {
  const said = [policy("off"), policy("off", "a.example"), policy("packages", "a.example", ".b.example")];

  expect(said.map(networkSummary)).toEqual([
    "no internet",
    "no internet but 1 host",
    "package managers and 2 hosts",
  ]);
});

test("sizes_and_spans_have_the_largest_unit_that_leaves_nothing_over", () => {
  expect([4 * 1024 ** 3, 1536 * 1024 ** 2, 1000, 0].map(size)).toEqual([
    "4 GiB",
    "1,536 MiB",
    "1,000 bytes",
    "0 bytes",
  ]);
  expect([43_200, 5400, 61, 0].map(span)).toEqual(["12 h", "90 min", "61 s", "0 s"]);
});

test("a_limit_of_zero_is_none", () => {
  const none = {
    cpu_millis: 0,
    memory_bytes: 0,
    processes: 1024,
    disk_bytes: 0,
    wall_clock_s: 0,
    setup_s: 1200,
    output_bytes: 1024 ** 3,
  };

  const rows = new Map(limitRows(none));

  expect(rows.get("Processors")).toBe("no limit, shared evenly");
  expect(rows.get("Memory")).toBe("no limit");
  expect(rows.get("Attempt")).toBe("as long as the installation allows");
  expect(new Map(limitRows({ ...none, cpu_millis: 1500 })).get("Processors")).toBe("1.5");
});
