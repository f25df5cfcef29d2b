// The one client of the service's API: typed by its OpenAPI document, refusals thrown as `Problem`.
import createClient from "openapi-fetch";
import { asProblem, problemFrom } from "./problem";
import type { paths } from "./schema";

/** Where the API begins. */
export const API = "/api/v1";

export const client = createClient<paths>({ baseUrl: API, credentials: "same-origin" });

interface Answer<T> {
  readonly data?: T;
  readonly error?: unknown;
  readonly response: Response;
}

/** The body of an answer; throws a `Problem` when there is none to be had. */
export async function bodyOf<T>(request: Promise<Answer<T>>): Promise<T> {
  const answer = await request.catch((thrown: unknown) => {
    throw asProblem(thrown);
  });
  if (!answer.response.ok) {
    throw problemFrom(answer.response.status, answer.error);
  }
  return answer.data as T;
}

/** The text behind a path of the API, such as a patch. */
export async function textOf(path: string, signal: AbortSignal): Promise<string> {
  const response = await fetch(path, { credentials: "same-origin", signal }).catch((thrown: unknown) => {
    throw signal.aborted ? thrown : asProblem(thrown);
  });
  if (!response.ok) {
    throw problemFrom(response.status, await response.json().catch(() => null));
  }
  return response.text();
}
