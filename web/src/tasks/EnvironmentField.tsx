// Which environment: one of those there are. Until they are known, and when one was deleted, the chosen name stands alone.
import { useQuery } from "@tanstack/react-query";
import { useId } from "react";
import { environmentsQuery } from "../api/queries";
import { FieldProblem } from "../parts/PromptBox";

interface Props {
  readonly value: string;
  readonly onChange: (value: string) => void;
  readonly error: string | undefined;
}

export function EnvironmentField({ value, onChange, error }: Props) {
  const id = useId();
  const known = useQuery(environmentsQuery);
  const names = known.data?.items.map((environment) => environment.name) ?? [];
  return (
    <div className="min-w-0">
      <label htmlFor={id} className="mb-1 block text-xs font-medium text-muted">
        Environment
      </label>
      <select
        id={id}
        name="environment"
        value={value}
        onChange={(event) => onChange(event.target.value)}
        aria-invalid={error === undefined ? undefined : true}
        aria-describedby={error === undefined ? undefined : `${id}-error`}
        className="field text-[0.8125rem]"
      >
        {(names.includes(value) ? names : [value, ...names]).map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
      <FieldProblem id={`${id}-error`} message={error} />
    </div>
  );
}
