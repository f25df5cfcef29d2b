import { expect, test } from "vitest";
import type { Model } from "../api/types";
import { costOf, fieldsOf, modelOf, NO_CHOICE } from "./models";

function model(name: string, isDefault: boolean): Model {
  return {
    name,
    provider: "p",
    is_default: isDefault,
    context_window: null,
    max_output_tokens: null,
    efforts: [],
    default_effort: null,
    abilities: { images: false, parallel_calls: true, freeform_patch: false, reasoning: false },
    price: null,
  };
}

test("the default model is the one when none is named", () => {
  const models = [model("a", false), model("b", true)];

  expect(modelOf(models, undefined)?.name).toBe("b");
  expect(modelOf(models, "a")?.name).toBe("a");
  expect(modelOf(models, "gone")).toBeUndefined();
});

test("what is not chosen is not sent", () => {
  expect(fieldsOf(NO_CHOICE)).toEqual({});
  expect(fieldsOf({ model: "a", effort: "high" })).toEqual({ model: "a", effort: "high" });
});

test("a cost is shown once there is one", () => {
  expect(costOf(0)).toBeUndefined();
  expect(costOf(undefined)).toBeUndefined();
  expect(costOf(12_345)).toBe("$0.0123");
  expect(costOf(2_500_000)).toBe("$2.50");
});
