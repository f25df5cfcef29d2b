import { expect, test } from "vitest";
import { fileSize } from "./size";

test("sizes_are_short", () => {
  const sizes = [0, 1, 999, 1000, 1550, 9_960, 999_400, 999_600, 10_485_760, 2e12];

  expect(sizes.map(fileSize)).toEqual([
    "0 bytes",
    "1 byte",
    "999 bytes",
    "1 kB",
    "1.6 kB",
    "10 kB",
    "999 kB",
    "1 MB",
    "10 MB",
    "2000 GB",
  ]);
});
