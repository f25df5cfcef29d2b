// Models and efforts as they are chosen.
import type { Model } from "../api/types";

/** What is chosen; undefined is what the service takes by itself. */
export interface ModelChoice {
  readonly model: string | undefined;
  readonly effort: string | undefined;
  /** The agent that asks it. */
  readonly agent?: string | undefined;
}

export const NO_CHOICE: ModelChoice = { model: undefined, effort: undefined };

/** The model of this name, or the default one when there is none. */
export function modelOf(models: readonly Model[], name: string | undefined): Model | undefined {
  return models.find((model) => (name === undefined ? model.is_default : model.name === name));
}

/** The fields of a request that say what is chosen. */
export function fieldsOf({ model, effort, agent }: ModelChoice): {
  model?: string;
  effort?: string;
  agent?: string;
} {
  return {
    ...(model === undefined ? {} : { model }),
    ...(effort === undefined ? {} : { effort }),
    ...(agent === undefined ? {} : { agent }),
  };
}

/** What an attempt has cost, or nothing when no price is configured: `$0.0123`. */
export function costOf(usdMicros: number | undefined): string | undefined {
  if (usdMicros === undefined || usdMicros === 0) return undefined;
  return `$${(usdMicros / 1_000_000).toFixed(usdMicros < 1_000_000 ? 4 : 2)}`;
}
