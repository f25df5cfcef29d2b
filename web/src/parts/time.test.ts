import { expect, test } from "vitest";
import { ago, duration, elapsed } from "./time";

test("an_age_is_said_in_its_largest_unit", () => {
  const [minute, hour, day] = [60_000, 3_600_000, 86_400_000];
  expect([-5, 59_999, minute, hour - 1, hour, day - 1, 3 * day].map(ago)).toEqual([
    "now",
    "now",
    "1 min",
    "59 min",
    "1 h",
    "23 h",
    "3 d",
  ]);
});

test("a_duration_is_as_exact_as_it_is_short", () => {
  expect([-3, 41, 2310, 12_999, 187_000, 3_723_000].map(duration)).toEqual([
    "0 ms",
    "41 ms",
    "2.3 s",
    "12 s",
    "3:07",
    "1:02:03",
  ]);
});

test("what_goes_on_is_counted_in_whole_seconds", () => {
  expect([-800, 999, 9_500, 61_500].map(elapsed)).toEqual(["0 s", "0 s", "9 s", "1:01"]);
});
