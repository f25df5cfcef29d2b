// Buttons. One that cannot be used stays in the tab order and says why.
import { type ButtonHTMLAttributes, useId } from "react";
import { Icon, type IconName } from "./Icon";

interface Props extends Omit<ButtonHTMLAttributes<HTMLButtonElement>, "disabled"> {
  readonly look?: "primary" | "plain" | "danger";
  readonly icon?: IconName;
  /** Why it cannot be used now; undefined when it can. */
  readonly unusable?: string | undefined;
}

const LOOKS = {
  primary:
    "bg-accent text-on-accent border-transparent hover:bg-accent-hover font-medium aria-disabled:bg-accent-soft aria-disabled:text-muted",
  plain: "border-line bg-surface hover:border-strong-line aria-disabled:text-muted aria-disabled:bg-sunken",
  danger:
    "border-line bg-surface text-bad hover:border-bad aria-disabled:text-muted aria-disabled:border-line",
} as const;

export const BUTTON =
  "inline-flex min-h-9 items-center justify-center gap-1.5 rounded-lg border px-3 py-1 text-sm whitespace-nowrap transition-colors";

export function Button({ look = "plain", icon, unusable, onClick, children, type, ...rest }: Props) {
  const reason = useId();
  return (
    <>
      <button
        {...rest}
        type={type ?? "button"}
        className={`${BUTTON} ${LOOKS[look]} ${rest.className ?? ""}`}
        aria-disabled={unusable === undefined ? undefined : true}
        aria-describedby={unusable === undefined ? rest["aria-describedby"] : reason}
        title={unusable ?? rest.title}
        onClick={(event) => {
          if (unusable === undefined) onClick?.(event);
          else event.preventDefault();
        }}
      >
        {icon !== undefined && <Icon name={icon} />}
        {children}
      </button>
      {unusable !== undefined && (
        <span id={reason} className="sr-only">
          {unusable}
        </span>
      )}
    </>
  );
}
