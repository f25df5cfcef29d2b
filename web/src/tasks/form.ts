// What is being composed, and which of the service's complaints belongs to which field.
import type { CreateTask, Mode } from "../api/types";
import { fieldsOf, type ModelChoice, NO_CHOICE } from "./models";

/** The environment that every organization has. */
export const DEFAULT_ENVIRONMENT = "default";

export interface Draft {
  readonly repository: string;
  readonly branch: string;
  readonly environment: string;
  readonly mode: Mode;
  readonly attempts: number;
  readonly model: ModelChoice;
  readonly prompt: string;
}

/** What a deep link may fill in: `/?environment=&repository=&branch=&mode=&prompt=`. */
export interface Prefill {
  readonly repository?: string;
  readonly branch?: string;
  readonly environment?: string;
  readonly mode?: Mode;
  readonly prompt?: string;
}

export function readPrefill(search: Record<string, unknown>): Prefill {
  const text = (name: string) => {
    const value = search[name];
    return typeof value === "string" ? value : undefined;
  };
  const fields = {
    repository: text("repository"),
    branch: text("branch"),
    environment: text("environment"),
    prompt: text("prompt"),
  };
  const mode = search.mode === "ask" || search.mode === "code" ? search.mode : undefined;
  return Object.fromEntries(
    Object.entries({ ...fields, mode }).filter(([, value]) => value !== undefined),
  ) as Prefill;
}

export function draftFrom(prefill: Prefill): Draft {
  return {
    repository: prefill.repository ?? "",
    branch: prefill.branch ?? "",
    environment: prefill.environment ?? DEFAULT_ENVIRONMENT,
    mode: prefill.mode ?? "code",
    attempts: 1,
    model: NO_CHOICE,
    prompt: prefill.prompt ?? "",
  };
}

export function requestOf(draft: Draft): CreateTask {
  const branch = draft.branch.trim();
  return {
    repository: draft.repository.trim(),
    ...(branch === "" ? {} : { branch }),
    environment: draft.environment,
    mode: draft.mode,
    attempts: draft.attempts,
    ...fieldsOf(draft.model),
    prompt: draft.prompt,
  };
}

/** Why the draft cannot be handed over yet; undefined when it can. */
export function missingIn(draft: Draft): string | undefined {
  if (draft.prompt.trim() === "") return "Say what is to be done first";
  if (draft.repository.trim() === "") return "Choose a repository first";
  return undefined;
}
