// Which repository: a path or an address, with those used before as suggestions.
import { Autocomplete } from "@base-ui/react/autocomplete";
import { useQuery } from "@tanstack/react-query";
import { useId } from "react";
import { repositoriesQuery } from "../api/queries";
import { FieldProblem } from "../parts/PromptBox";

interface Props {
  readonly value: string;
  readonly onChange: (value: string) => void;
  readonly error: string | undefined;
}

export function RepositoryField({ value, onChange, error }: Props) {
  const id = useId();
  const known = useQuery(repositoriesQuery);
  const locations = known.data?.items.map((repository) => repository.location) ?? [];
  return (
    <div className="min-w-0">
      <label htmlFor={id} className="mb-1 block text-xs font-medium text-muted">
        Repository
      </label>
      <Autocomplete.Root items={locations} value={value} onValueChange={onChange} openOnInputClick>
        <Autocomplete.Input
          id={id}
          name="repository"
          placeholder="/path/to/repository or https://…"
          autoComplete="off"
          autoCapitalize="off"
          spellCheck={false}
          aria-invalid={error === undefined ? undefined : true}
          aria-describedby={error === undefined ? undefined : `${id}-error`}
          className="field font-mono text-[0.8125rem]"
        />
        <Autocomplete.Portal>
          <Autocomplete.Positioner sideOffset={4} className="z-40 outline-none">
            <Autocomplete.Popup className="max-h-64 w-(--anchor-width) overflow-y-auto rounded-lg border border-line bg-surface p-1 shadow-card data-[empty]:hidden">
              <Autocomplete.List>
                {(location: string) => (
                  <Autocomplete.Item
                    key={location}
                    value={location}
                    className="cursor-pointer rounded-md px-2.5 py-1.5 font-mono text-[0.8125rem] data-[highlighted]:bg-accent-soft"
                  >
                    {location}
                  </Autocomplete.Item>
                )}
              </Autocomplete.List>
            </Autocomplete.Popup>
          </Autocomplete.Positioner>
        </Autocomplete.Portal>
      </Autocomplete.Root>
      <FieldProblem id={`${id}-error`} message={error} />
    </div>
  );
}
