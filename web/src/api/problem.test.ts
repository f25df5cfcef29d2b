import { expect, test } from "vitest";
import { asProblem, Problem, problemFrom } from "./problem";

test("a_problem_document_becomes_words_and_fields", () => {
  const problem = problemFrom(422, {
    type: "urn:carrel:problem:invalid-request",
    title: "the request is not valid",
    status: 422,
    detail: "the prompt is empty",
    errors: [{ field: "prompt", message: "say what is to be done" }, { nonsense: true }],
  });

  expect(problem.message).toBe("the prompt is empty");
  expect(problem.field("prompt")).toBe("say what is to be done");
  expect(problem.field("branch")).toBeUndefined();
  expect(problem.isCoveredBy(["prompt"])).toBe(true);
  expect(problem.isCoveredBy(["branch"])).toBe(false);
});

test("a_body_that_is_no_problem_document_still_says_something", () => {
  for (const body of [null, "<html>", [], 3, { title: 7 }]) {
    expect(problemFrom(502, body).message).toBe("The service could not answer");
  }
  expect(problemFrom(401, undefined).signedOut).toBe(true);
});

test("only_what_may_pass_is_tried_again", () => {
  expect([0, 429, 500, 503].every((status) => new Problem(status, "", "").passing)).toBe(true);
  expect([400, 401, 404, 409, 422].some((status) => new Problem(status, "", "").passing)).toBe(false);
});

test("a_failed_fetch_means_that_nobody_answers", () => {
  expect(asProblem(new TypeError("Failed to fetch")).title).toBe("Carrel does not answer");
});
