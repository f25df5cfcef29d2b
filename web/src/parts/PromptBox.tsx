// The text area of a prompt: grows with its text, hands over by Ctrl or Cmd and Enter. What is said in passing goes by Enter alone.
import { type CSSProperties, type KeyboardEvent, type Ref, useId } from "react";

interface Props {
  readonly label: string;
  readonly value: string;
  readonly onChange: (value: string) => void;
  readonly onSubmit: () => void;
  readonly placeholder: string;
  readonly error: string | undefined;
  readonly rows: number;
  /** Whether Enter alone hands over, and Shift and Enter make a new line. */
  readonly enterSubmits?: boolean;
  readonly ref?: Ref<HTMLTextAreaElement>;
}

export function PromptBox({
  label,
  value,
  onChange,
  onSubmit,
  placeholder,
  error,
  rows,
  enterSubmits,
  ref,
}: Props) {
  const id = useId();
  const submit = (event: KeyboardEvent) => {
    if (submits(event.nativeEvent, enterSubmits === true)) {
      event.preventDefault();
      onSubmit();
    }
  };
  return (
    <div>
      <label htmlFor={id} className="mb-1 block text-xs font-medium text-muted">
        {label}
      </label>
      <textarea
        id={id}
        ref={ref}
        name="prompt"
        rows={rows}
        style={{ "--box": `${rows * 1.5 + 0.9}em` } as CSSProperties}
        value={value}
        placeholder={placeholder}
        onChange={(event) => onChange(event.target.value)}
        onKeyDown={submit}
        aria-invalid={error === undefined ? undefined : true}
        aria-describedby={error === undefined ? undefined : `${id}-error`}
        className="field block max-h-[50vh] min-h-(--box) resize-y [field-sizing:content]"
      />
      <FieldProblem id={`${id}-error`} message={error} />
    </div>
  );
}

type Stroke = Pick<
  KeyboardEvent["nativeEvent"],
  "key" | "ctrlKey" | "metaKey" | "shiftKey" | "altKey" | "isComposing"
>;

/** Whether a key hands the text over. Enter that ends the composing of a character never does. */
export function submits(stroke: Stroke, byEnter: boolean): boolean {
  if (stroke.key !== "Enter" || stroke.isComposing) return false;
  return stroke.ctrlKey || stroke.metaKey || (byEnter && !stroke.shiftKey && !stroke.altKey);
}

/** What the service says is wrong with a field, right below it. */
export function FieldProblem({ id, message }: { readonly id: string; readonly message: string | undefined }) {
  if (message === undefined) return null;
  return (
    <p id={id} className="mt-1 text-sm text-bad first-letter:uppercase">
      {message}
    </p>
  );
}

interface HintProps {
  readonly unusable: string | undefined;
  readonly keys?: string;
}

/** Beside the button: why it cannot be used, or the way past it. The button itself says it to a screen reader. */
export function SubmitHint({ unusable, keys = "Ctrl + Enter" }: HintProps) {
  return (
    <span
      aria-hidden="true"
      className={`text-xs text-muted ${unusable === undefined ? "hidden md:inline" : ""}`}
    >
      {unusable ?? keys}
    </span>
  );
}
