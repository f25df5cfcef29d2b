// Which model, how hard it is asked to think, and which agent asks it. Shown only where there is something to choose.
import { useQuery } from "@tanstack/react-query";
import { useId } from "react";
import { agentsQuery, modelsQuery } from "../api/queries";
import type { Model } from "../api/types";
import { FieldProblem } from "../parts/PromptBox";
import { type ModelChoice, modelOf } from "./models";

interface Props {
  readonly value: ModelChoice;
  readonly onChange: (value: ModelChoice) => void;
  /** What is taken when nothing is chosen, such as "as before". */
  readonly unchosen?: string;
  /** The model that is taken then, when it is not the service's default. */
  readonly before?: string | undefined;
  readonly errors: {
    readonly model: string | undefined;
    readonly effort: string | undefined;
    readonly agent: string | undefined;
  };
}

export function ModelField({ value, onChange, unchosen, before, errors }: Props) {
  const known = useQuery(modelsQuery);
  const models = known.data?.items ?? [];
  const agents = useQuery(agentsQuery).data?.items ?? [];
  const model = modelOf(models, value.model ?? before);
  const efforts = model?.efforts ?? [];
  return (
    <>
      {models.length > 1 && (
        <Choice
          label="Model"
          name="model"
          value={value.model}
          choices={models.map(({ name }) => name)}
          unchosen={unchosen ?? defaultModel(models)}
          // Another model has other efforts.
          onChange={(name) => onChange({ ...value, model: name, effort: undefined })}
          error={errors.model}
        />
      )}
      {efforts.length > 1 && (
        <Choice
          label="Effort"
          name="effort"
          value={value.effort}
          choices={efforts}
          unchosen={
            unchosen !== undefined && value.model === undefined
              ? unchosen
              : (model?.default_effort ?? "default")
          }
          onChange={(effort) => onChange({ ...value, effort })}
          error={errors.effort}
        />
      )}
      {agents.length > 1 && (
        <Choice
          label="Agent"
          name="agent"
          value={value.agent}
          choices={agents.map(({ name }) => name)}
          unchosen={unchosen ?? agents.find((agent) => agent.is_default)?.name ?? "default"}
          onChange={(agent) => onChange({ ...value, agent })}
          error={errors.agent}
        />
      )}
    </>
  );
}

function defaultModel(models: readonly Model[]): string {
  return models.find((model) => model.is_default)?.name ?? "default";
}

interface ChoiceProps {
  readonly label: string;
  readonly name: string;
  readonly value: string | undefined;
  readonly choices: readonly string[];
  readonly unchosen: string;
  readonly onChange: (value: string | undefined) => void;
  readonly error: string | undefined;
}

function Choice({ label, name, value, choices, unchosen, onChange, error }: ChoiceProps) {
  const id = useId();
  const others = choices.filter((choice) => choice !== unchosen);
  return (
    <div className="min-w-0">
      <label htmlFor={id} className="mb-1 block text-xs font-medium text-muted">
        {label}
      </label>
      <select
        id={id}
        name={name}
        value={value ?? ""}
        onChange={(event) => onChange(event.target.value === "" ? undefined : event.target.value)}
        aria-invalid={error === undefined ? undefined : true}
        aria-describedby={error === undefined ? undefined : `${id}-error`}
        className="field text-[0.8125rem]"
      >
        <option value="">{unchosen}</option>
        {others.map((choice) => (
          <option key={choice} value={choice}>
            {choice}
          </option>
        ))}
      </select>
      <FieldProblem id={`${id}-error`} message={error} />
    </div>
  );
}
