// A choice of a few, as a row of radio buttons: arrow keys come with them.
import { type ReactNode, useId } from "react";

interface Option<T> {
  readonly value: T;
  readonly label: ReactNode;
  /** What a screen reader says, when the label is not enough. */
  readonly spoken?: string;
}

interface Props<T extends string | number> {
  readonly legend: string;
  readonly options: readonly Option<T>[];
  readonly value: T;
  readonly onChange: (value: T) => void;
  readonly error?: string | undefined;
}

export function Segmented<T extends string | number>({ legend, options, value, onChange, error }: Props<T>) {
  const name = useId();
  return (
    <fieldset className="min-w-0" aria-describedby={error === undefined ? undefined : `${name}-error`}>
      <legend className="mb-1 text-xs font-medium text-muted">{legend}</legend>
      <div className="inline-flex rounded-lg border border-strong-line bg-paper p-0.5">
        {options.map((option) => (
          <label
            key={option.value}
            className="relative flex min-h-8 min-w-9 cursor-pointer items-center justify-center rounded-md px-2.5 text-sm text-muted transition-colors hover:text-ink has-checked:bg-accent has-checked:text-on-accent has-focus-visible:outline-2 has-focus-visible:outline-offset-2 has-focus-visible:outline-accent"
          >
            <input
              type="radio"
              name={name}
              className="absolute inset-0 cursor-pointer appearance-none opacity-0"
              checked={option.value === value}
              onChange={() => onChange(option.value)}
              aria-label={option.spoken}
            />
            <span className="flex items-center gap-1.5">{option.label}</span>
          </label>
        ))}
      </div>
      {error !== undefined && (
        <p id={`${name}-error`} className="mt-1 text-sm text-bad">
          {error}
        </p>
      )}
    </fieldset>
  );
}
